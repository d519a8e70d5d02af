"""Benchmarks with and without a circuit: load, run arm after arm, keep the results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.discovery.chosen import check_arms, circuit_entries
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.evaluation.capability import (
    ArmScores,
    Protocol,
    Score,
    evaluate_tasks,
    score_change,
)
from cna_mlx.evaluation.lm_eval_adapter import (
    Tasks,
    load_tasks,
    require_harness,
    warnings_of_lm_eval,
)
from cna_mlx.prompts.chat_template import uses_template
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.strength import Strength
from cna_mlx.util.environment import versions
from cna_mlx.util.files import File, typed_path


@dataclass(frozen=True)
class CapabilityRun:
    """Benchmarks of lm-evaluation-harness on every arm; the first is the baseline.

    :meth:`run` adds to ``results``.
    """

    session: Session
    arms: tuple[Arm, ...]
    protocol: Protocol
    tasks: Tasks
    results: list[ArmScores] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        session: Session,
        tasks: Sequence[str],
        options: DiscoveryOptions,
        *,
        circuits: Sequence[str] = (),
        multipliers: Sequence[Strength] = (),
        include_path: File | None = None,
        num_shots: int | None = None,
        protocol: Protocol | None = None,
    ) -> "CapabilityRun":
        """Load the tasks with their data, then the model and its circuits.

        The arguments are those of :func:`load_tasks` and :meth:`Session.steered_arms`.
        """
        require_harness()
        check_arms(circuits, multipliers)
        where = typed_path(include_path, "--include-path") if include_path else None
        report, offline = session.reporter, session.source.offline
        with warnings_of_lm_eval(report.warn):
            report.note(f"reading the tasks and their data: {', '.join(tasks)}")
            loaded = load_tasks(tasks, where, num_shots=num_shots, offline=offline)
        arms = session.steered_arms(options, circuits, multipliers)
        return cls(session, (BASELINE, *arms), protocol or Protocol(), loaded)

    def run(self) -> bool:
        """Run the remaining arms; return whether all are done.

        Ctrl-C keeps the finished arms.
        """
        session = self.session
        report = session.reporter
        # draw the bar before lm-eval is hushed, which would hide it
        with warnings_of_lm_eval(report.warn), report.progress("requests") as progress:
            try:
                for scores in evaluate_tasks(
                    *session.load(),
                    self.arms[len(self.results) :],
                    self.tasks,
                    self.protocol,
                    session.rendering,
                    progress,
                ):
                    self.results.append(scores)
                    report.note(f"{scores.arm.title}: done in {scores.seconds:.0f} s")
            except KeyboardInterrupt:
                if not self.results:
                    raise
        return not self.missing

    @property
    def has_template(self) -> bool:
        """Whether the prompts went through a chat template."""
        return uses_template(self.session.tokenizer, self.session.rendering)

    @property
    def missing(self) -> tuple[str, ...]:
        """The arms that are not done."""
        return tuple(arm.title for arm in self.arms[len(self.results) :])

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        protocol, session = self.protocol, self.session
        return {
            "model": session.name,
            "rendering": session.rendering.to_dict(),
            "chat_template": self.has_template,
            "limit": protocol.limit,
            "seed": protocol.seed,
            "fewshot_as_multiturn": protocol.fewshot_as_multiturn,
            "batch_size": protocol.batch_size,
            "requested": list(self.tasks.names),
            "tasks": task_entries(self.results[0]),
            "circuits": circuit_entries(self.arms),
            "arms": [arm_entry(one, self.results[0]) for one in self.results],
            "missing": list(self.missing),
            "versions": versions("cna-mlx", "mlx", "mlx-lm", "lm-eval"),
        }


def task_entries(scores: ArmScores) -> list[dict[str, Any]]:
    """The tasks of a result for JSON, with their size and their metrics."""
    entries: dict[str, dict[str, Any]] = {}
    for one in scores.scores:
        new = {"task": one.task, "depth": one.depth, "n": one.n, "num_shots": one.shots}
        entry = entries.setdefault(one.task, {**new, "metrics": {}})
        entry["metrics"][one.metric] = {"higher_is_better": one.higher_is_better}
    return list(entries.values())


def arm_entry(scores: ArmScores, baseline: ArmScores) -> dict[str, Any]:
    """One arm's scores for JSON, with their distance to the baseline's."""
    results: dict[str, dict[str, Any]] = {}
    for one, other in zip(scores.scores, baseline.scores, strict=True):
        results.setdefault(one.task, {})[one.metric] = {
            "value": one.value,
            "stderr": one.stderr,
            **({} if scores is baseline else _change_entry(other, one)),
        }
    return {
        "arm": scores.arm.label,
        "multiplier": scores.arm.multiplier,
        "intervention": scores.arm.intervention,
        "seconds": scores.seconds,
        "results": results,
    }


def _change_entry(baseline: Score, arm: Score) -> dict[str, Any]:
    found = score_change(baseline, arm)
    return {
        "difference": found.difference,
        "difference_stderr": found.stderr,
        "gained": found.gained,
        "lost": found.lost,
    }
