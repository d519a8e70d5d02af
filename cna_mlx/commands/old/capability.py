"""`capability`: benchmarks of lm-evaluation-harness, the baseline beside each arm."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.shared import Session, check_circuit_files, circuit_entry
from cna_mlx.evaluation.capability import (
    ArmScores,
    Protocol,
    Score,
    Tasks,
    change,
    evaluate_tasks,
    load_tasks,
)
from cna_mlx.evaluation.lm_eval_adapter import require_harness
from cna_mlx.prompts.chat_template import uses_template
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.ui.capability import Setting, capability_view
from cna_mlx.ui.console import screen
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import progress_bar
from cna_mlx.util.environment import versions
from cna_mlx.util.files import typed_path


def run_capability(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    *,
    circuits: Sequence[str],
    multipliers: Sequence[float],
    allow_transfer: bool,
    tasks: Sequence[str],
    include_path: str | None,
    num_shots: int | None,
    limit: int | None,
    batch_size: int,
    seed: int,
    fewshot_as_multiturn: bool,
    as_json: bool,
) -> bool:
    """Run benchmarks on every arm and show what changes.

    Returns:
        Whether every arm was done: Ctrl-C ends early and keeps what is there.
    """
    require_harness()
    multipliers = [check_multiplier(value) for value in multipliers]
    rendering.rendering()
    check_circuit_files(circuits)
    names = [name.strip() for text in tasks for name in text.split(",")]
    protocol = Protocol(limit, batch_size, seed, fewshot_as_multiturn)
    with _remarks():
        found = _load(
            [name for name in names if name], include_path, num_shots, source.offline
        )
        session = Session.open(model, rendering, allow_transfer, source)
        arms = [BASELINE, *session.steered_arms(options, circuits, multipliers)]
        results: list[ArmScores] = []
        is_whole = False
        try:
            _evaluate(session, arms, found, protocol, results)
            is_whole = True
        except KeyboardInterrupt:
            if not results:
                raise
        finally:  # what was finished is told also where the rest failed
            if results:
                _tell(session, arms, results, found, protocol, as_json)
    return is_whole


def _load(
    names: Sequence[str],
    include_path: str | None,
    num_shots: int | None,
    offline: bool,
) -> Tasks:
    screen().note(f"reading the tasks and their data: {', '.join(names)}")
    where = typed_path(include_path, "--include-path") if include_path else None
    return load_tasks(names, where, num_shots=num_shots, offline=offline)


def _evaluate(
    session: Session,
    arms: Sequence[Arm],
    tasks: Tasks,
    protocol: Protocol,
    results: list[ArmScores],
) -> None:
    # the bar is drawn at once: lm-eval is hushed within it, and not it within that
    with progress_bar("requests") as progress:
        for scores in evaluate_tasks(
            session.model,
            session.tokenizer,
            arms,
            tasks,
            protocol,
            session.rendering,
            progress,
        ):
            results.append(scores)
            screen().note(f"{scores.arm.title}: done in {scores.seconds:.0f} s")


def _tell(
    session: Session,
    arms: Sequence[Arm],
    results: Sequence[ArmScores],
    tasks: Tasks,
    protocol: Protocol,
    as_json: bool,
) -> None:
    has_template = uses_template(session.tokenizer, session.rendering)
    setting = Setting(
        versions("lm-eval", "mlx-lm"),
        protocol.limit,
        has_template,
        tuple(arm.title for arm in arms[len(results) :]),
    )
    if not as_json:
        show(capability_view(screen(), results, setting))
        return
    emit_json(
        {
            "model": session.name,
            "rendering": session.rendering.to_json(),
            "chat_template": has_template,
            "limit": protocol.limit,
            "seed": protocol.seed,
            "fewshot_as_multiturn": protocol.fewshot_as_multiturn,
            "batch_size": protocol.batch_size,
            "requested": list(tasks.names),
            "tasks": task_entries(results[0]),
            "circuits": {
                arm.label: circuit_entry(circuit, session.files.get(id(circuit)))
                for arm in arms
                for circuit, _ in arm.steering
                if isinstance(circuit, Circuit)
            },
            "arms": [arm_entry(one, results[0]) for one in results],
            "missing": list(setting.missing),
            "versions": versions("cna-mlx", "mlx", "mlx-lm", "lm-eval"),
        }
    )


def task_entries(scores: ArmScores) -> list[dict[str, Any]]:
    """The tasks of a result, with their size and their metrics."""
    entries: dict[str, dict[str, Any]] = {}
    for one in scores.scores:
        entry = entries.setdefault(
            one.task,
            {
                "task": one.task,
                "depth": one.depth,
                "n": one.n,
                "num_shots": one.shots,
                "metrics": {},
            },
        )
        entry["metrics"][one.metric] = {"higher_is_better": one.higher_is_better}
    return list(entries.values())


def arm_entry(scores: ArmScores, baseline: ArmScores) -> dict[str, Any]:
    """One arm's scores as the JSON has them, with their distance to the baseline's."""
    results: dict[str, dict[str, Any]] = {}
    for one, other in zip(scores.scores, baseline.scores, strict=True):
        results.setdefault(one.task, {})[one.metric] = {
            "value": one.value,
            "stderr": one.stderr,
            **({} if scores is baseline else _change_entry(other, one)),
        }
    strengths = [strength for _, strength in scores.arm.steering]
    return {
        "arm": scores.arm.label,
        "multiplier": strengths[0] if strengths else 1.0,
        "seconds": scores.seconds,
        "results": results,
    }


def _change_entry(baseline: Score, arm: Score) -> dict[str, Any]:
    found = change(baseline, arm)
    return {
        "difference": found.difference,
        "difference_stderr": found.stderr,
        "gained": found.gained,
        "lost": found.lost,
    }


class _Notes(logging.Handler):
    """What lm-eval warns of, once each, on stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless it was said."""
        message = " ".join(record.getMessage().split())
        if message not in self._said:
            self._said.add(message)
            screen().note(f"lm-eval: {message}", style="yellow")


@contextmanager
def _remarks() -> Iterator[None]:
    logger, handler = logging.getLogger("lm_eval"), _Notes()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
