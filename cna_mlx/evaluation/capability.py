"""Run benchmarks of lm-evaluation-harness on every arm, and compare the scores."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from cna_mlx.evaluation.lm_eval_adapter import Tasks, adapter, run_tasks
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.interventions import Edits
from cna_mlx.util.progress import Progress, silent

# Parts of a sample that its task has too.
_OF_THE_TASK = ("doc", "arguments")


@dataclass(frozen=True)
class Protocol:
    """How a benchmark is run; names and defaults are mlx-lm's.

    ``limit`` is the first items of each task; ``seed`` draws the few-shot examples.
    """

    limit: int | None = None
    batch_size: int = 8
    seed: int = 123
    fewshot_as_multiturn: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one task, or of a group of tasks.

    Attributes:
        metric: lm-eval's name, with a filter after a comma if it has one.
        value, stderr: as lm-eval computes them.
        n: items.
        shots: few-shot examples; None for a group whose tasks differ.
        depth: 0 for a requested task, 1 for a member of a requested group, ...
        higher_is_better: None if lm-eval does not say.
        outcomes: the metric of each item; None if there is no metric per item.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int
    shots: int | None
    depth: int = 0
    higher_is_better: bool | None = None
    outcomes: tuple[float, ...] | None = None

    @property
    def is_share(self) -> bool:
        """Whether the value is a mean of items between 0 and 1, as accuracy is."""
        if not self.outcomes or not all(0 <= one <= 1 for one in self.outcomes):
            return False
        return math.isclose(self.value, float(np.mean(self.outcomes)), abs_tol=1e-9)


@dataclass(frozen=True)
class ArmScores:
    """One arm's scores, in the order of the tasks, groups before their members.

    ``samples`` is lm-eval's record of each task's items: the log-likelihoods or answers
    (``resps``), hashes, metrics.
    """

    arm: Arm
    scores: tuple[Score, ...]
    seconds: float
    samples: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """An arm's score compared with the baseline's, on the same items.

    Attributes:
        difference: the arm's value less the baseline's.
        stderr: of the mean of the items' differences; None if the value is not the
            mean of its items, or there is a single item.
        gained, lost: items whose metric rose and fell; None if items have none.
    """

    difference: float
    stderr: float | None
    gained: int | None
    lost: int | None


def evaluate_tasks(
    model: Any,
    tokenizer: Any,
    arms: Sequence[Arm],
    tasks: Tasks,
    protocol: Protocol | None = None,
    rendering: Rendering | None = None,
    progress: Progress = silent,
) -> Iterator[ArmScores]:
    """Run benchmarks on every arm, one arm after the other; the baseline is the first.

    Without scaling, the results equal those of ``mlx_lm.evaluate`` exactly.

    Yields:
        Each arm's scores as soon as it is done.

    Raises:
        CircuitError: an arm does not fit the model.
        CnaError: lm-eval failed.
    """
    protocol, rendering = protocol or Protocol(), rendering or Rendering()
    edits = [Edits(model, arm.steering) for arm in arms]
    for arm, edit in zip(arms, edits, strict=True):
        listen = _about(arm, progress)
        lm = adapter(model, tokenizer, rendering, protocol.batch_size, listen)
        listen("building prompts", 0, 1)
        start = time.perf_counter()
        # the adapter makes new caches for every call: none outlives the steering
        with edit.installed(), wired():
            results = run_tasks(
                lm,
                tasks,
                limit=protocol.limit,
                seed=protocol.seed,
                system=rendering.system,
                multiturn=protocol.fewshot_as_multiturn,
            )
        yield ArmScores(
            arm, scores_of(results), time.perf_counter() - start, _samples(results)
        )


def score_change(baseline: Score, arm: Score) -> Change:
    """Compare an arm's score with the baseline's, of one task and metric."""
    difference = arm.value - baseline.value
    if not (baseline.outcomes and arm.outcomes):
        return Change(difference, None, None, None)
    steps = np.subtract(arm.outcomes, baseline.outcomes)
    is_mean = math.isclose(difference, float(steps.mean()), abs_tol=1e-9)
    stderr = None
    if is_mean and len(steps) > 1:
        stderr = float(steps.std(ddof=1) / math.sqrt(len(steps)))
    gained, lost = int((steps > 0).sum()), int((steps < 0).sum())
    return Change(difference, stderr, gained, lost)


def scores_of(results: Mapping[str, Any]) -> tuple[Score, ...]:
    """Read the scores from what ``lm_eval.evaluate`` returns, samples included."""
    scores = []
    for task, depth in _ordered(results):
        entry = results["results"].get(task, {})
        for key, value in entry.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, Real):
                continue
            stderr = entry.get(f"{metric}_stderr,{kind}")
            scores.append(
                Score(
                    task,
                    metric if kind == "none" else key,
                    float(value),
                    float(stderr) if isinstance(stderr, Real) else None,
                    int(entry["sample_len"]),
                    results["n-shot"].get(task),
                    depth,
                    results["higher_is_better"].get(task, {}).get(metric),
                    _outcomes(results, task, metric, kind),
                )
            )
    return tuple(scores)


def _ordered(results: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Tasks and groups, each group before its members, with their depth."""
    members: Mapping[str, Sequence[str]] = results["group_subtasks"]
    inner = {name for names in members.values() for name in names}
    ordered: list[tuple[str, int]] = []

    def visit(name: str, depth: int) -> None:
        ordered.append((name, depth))
        for member in members.get(name, ()):
            visit(member, depth + 1)

    for name in [*members, *results["results"]]:
        if name not in inner and (name, 0) not in ordered:
            visit(name, 0)
    return ordered


def _outcomes(
    results: Mapping[str, Any], task: str, metric: str, kind: str
) -> tuple[float, ...] | None:
    members = results["group_subtasks"].get(task)
    if members:
        parts = [_outcomes(results, name, metric, kind) for name in members]
        whole = [part for part in parts if part is not None]
        return tuple(x for part in whole for x in part) if whole == parts else None
    samples = [one for one in results["samples"][task] if one["filter"] == kind]
    values = [one.get(metric) for one in samples]
    if not values or not all(isinstance(value, Real) for value in values):
        return None
    return tuple(float(value) for value in values if value is not None)


def _samples(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        task: [
            {key: value for key, value in one.items() if key not in _OF_THE_TASK}
            for one in samples
        ]
        for task, samples in results["samples"].items()
    }


def _about(arm: Arm, progress: Progress) -> Progress:
    return lambda task, done, total: progress(f"{arm.title}: {task}", done, total)
