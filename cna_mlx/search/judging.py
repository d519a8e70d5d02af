"""Judge a chosen circuit on prompts that did not choose it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.session import Session
from cna_mlx.evaluation.options import EvalOptions
from cna_mlx.evaluation.plan import EvaluationPlan, plan_evaluation
from cna_mlx.evaluation.runner import run_evaluation
from cna_mlx.evaluation.runs import RUN, default_directory, has_run
from cna_mlx.evaluation.subject import Subject
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.search.trial import TOKENS
from cna_mlx.util.files import File

# Matched controls, new tokens of an answer, and prompts of each side.
_CONTROLS, _TOKENS, _PROMPTS = 5, 64, (12, 50)
# Beyond the answers: the KL, and first words that are tried again.
_FURTHER = 2.0


def judge(
    session: Session,
    command: str,
    chosen: ChosenCircuit,
    rivals: Sequence[ChosenCircuit],
    halves: tuple[PromptSet, PromptSet],
    *,
    seconds: float,
    pace: float,
    out: File | None = None,
) -> Run | None:
    """Answer the second half in all arms, beside matched controls of the chosen one.

    None if Ctrl-C ended it before the first answer.

    Args:
        halves: of a contrast: where circuits were chosen, and the other one.
        seconds: how long it may take; at least twelve prompts of each side are asked.
        pace: seconds that a prompt of the choice took for each arm.
    """
    arms = 2 + len(rivals) + _CONTROLS
    each = _FURTHER * pace * arms * _TOKENS / TOKENS
    few, many = _PROMPTS
    limit = int(min(max(seconds / max(1e-9, 2 * each), few), many))
    half, other = halves
    harmful = Benchmark.from_prompts(other.positive, "harmful", "unused harmful")
    benign = Benchmark.from_prompts(other.negative, "benign", "unused benign")
    try:
        plan = plan_evaluation(
            session,
            Subject(chosen, half),
            [one.limited(limit) for one in (harmful, benign)],
            EvalOptions(seeds=_CONTROLS, max_tokens=_TOKENS, extend_to=0),
            command,
            others=rivals,
            controls=("matched",),
            out=out,
        )
        return Run.of(run_evaluation(_placed(plan)))
    except KeyboardInterrupt:
        return None


def _placed(plan: EvaluationPlan) -> EvaluationPlan:
    """The plan, in the default directory if its own has another run.

    An error would cost all that was chosen before.
    """
    place = plan.directory
    if not (place / RUN).exists() or has_run(place, plan.config):
        return plan
    other = default_directory(plan.config)
    plan.reporter.warn(f"{place} has another run; this one is written to {other}")
    return replace(plan, directory=other)


def judged(run: Run | None) -> dict[str, Any] | None:
    """What the unused prompts showed, for the circuit's file."""
    if run is None:
        return None
    groups = {one.kind: one for one in run.summary().groups}
    group, benign = groups.get("harmful"), groups.get("benign")
    if group is None or group.main is None:
        return None
    kl = benign and benign.main and benign.main.kl
    return {
        "prompts": group.main.refused.n,
        "refused_before": group.baseline.refused.successes,
        "refused_after": group.main.refused.successes,
        "quality": group.main.quality.value,
        "kl": kl.value if kl else None,
        "outcome": str(run.verdict().outcome),
    }
