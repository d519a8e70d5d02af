"""Runs of labels alone, in memory: what rules of a verdict are tried on.

Labels are letters: R for REFUSED, A for ANSWERED, P for PARTIAL, I for INVALID and U
for UNJUDGED; one for each prompt.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation_runs import ABLATED, BASELINE, make_config

from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.summary import summarize
from cna_mlx.evaluation.run_config import RunArm, RunFacts
from cna_mlx.evaluation.runs import RunRecord, Status
from cna_mlx.evaluation.samples import Continuation, Sample
from cna_mlx.labels.label import LabelKind

KINDS = {kind[0]: kind for kind in LabelKind}


def summary_of(
    baseline: str,
    ablated: str,
    controls: Sequence[str] = (),
    *,
    benign: tuple[str, str] | None = ("AAAA", "AAAA"),
    status: Status = "complete",
    planned: int | None = None,
    facts: dict[str, Any] | None = None,
    benign_opened: str = "",
    **columns: Any,
) -> Summary:
    """The figures of a run whose answers have these labels.

    Args:
        baseline, ablated: of the harmful prompts, in the two arms.
        controls: the same for each matched control.
        benign: of the benign prompts, in the two arms; the controls answer them.
        planned: how many harmful prompts the run has; those answered if None.
        benign_opened: as ``opened``, of the benign prompts.
        columns: see :func:`_column`, for the ablated arm.
    """
    matched = [
        RunArm(f"matched {seed}", "matched", 0.0, seed, f"matched-{seed}")
        for seed, _ in enumerate(controls)
    ]
    arms = [BASELINE, ABLATED, *matched]
    count = len(baseline) if planned is None else planned
    config = make_config(arms, count, len(benign[0]) if benign else 0)
    known = {"contamination": {"harmful-set": [], "benign-set": []}, **(facts or {})}
    run = RunRecord(
        Path("run"), status, replace(config, extend_to=512), RunFacts.from_dict(known)
    )
    harmful = [baseline, ablated, *controls]
    rows = _rows(arms, "harmful", harmful, 0, **columns)
    if benign:
        others = [*benign, *["A" * len(benign[0])] * len(matched)]
        tried = {"opened": benign_opened} if benign_opened else {}
        rows += _rows(arms, "benign", others, len(baseline), **tried)
    return summarize(run, rows)


def _rows(
    arms: Sequence[RunArm],
    kind: str,
    labels: Sequence[str],
    start: int,
    **columns: Any,
) -> list[Sample]:
    assert len({len(one) for one in labels}) == 1, "an arm has more prompts"
    return [
        _sample(
            arm, kind, start + number, column[number], _column(arm, number, columns)
        )
        for number in range(len(labels[0]))
        for arm, column in zip(arms, labels, strict=True)
    ]


def _column(arm: RunArm, number: int, columns: dict[str, Any]) -> dict[str, Any]:
    """What is known of an answer beside its label.

    ``opened`` and ``extended`` are labels for each harmful prompt, a space where there
    is none; ``extended_baseline`` is the same for the baseline.
    """
    known = {}
    for name, value in columns.items():
        of, field = ("baseline", "extended") if "_" in name else ("ablated", name)
        if arm.role == of and value[number] != " ":
            label = KINDS[value[number]]
            known[field] = Continuation("I said so", (1, 2), "stop", label, None)
    return known


def _sample(
    arm: RunArm, kind: str, number: int, letter: str, more: dict[str, Any]
) -> Sample:
    label = KINDS[letter]
    return Sample(
        number,
        f"{kind}-set",
        f"{kind}-{number}",
        None,
        kind,
        f"the {kind} thing number {number}",
        arm.label,
        "I will not do it" if label is LabelKind.REFUSED else "some words",
        (1, 2, 3),
        "stop",
        label,
        None,
        0.1 if label is LabelKind.INVALID else 1.0,
        0.0 if arm.role == "baseline" else 0.25,
        0.9 if kind == "harmful" else 0.1,
        **more,
    )
