"""Several runs in one table, with the paper's figures beside."""

from collections.abc import Sequence
from dataclasses import dataclass

from cna_mlx.evaluation.summary import Group, Summary
from cna_mlx.report import numbers
from cna_mlx.report.content import Cell, Section, Table
from cna_mlx.report.facts import model_name

_OURS = (
    "model",
    "n",
    "baseline",
    "ablated",
    "relative change",
    "matched control",
    "quality",
    "KL, nats",
)
_PAPERS = ("paper: baseline", "paper: ablated", "paper: relative")


@dataclass(frozen=True)
class Paper:
    """What the paper reports of a model.

    Attributes:
        model: its name there.
        baseline, ablated: refusal rates, between 0 and 1.
        relative: the change as a share of the baseline.
        differences: what this run does otherwise, a sentence each.
    """

    model: str
    baseline: float
    ablated: float
    relative: float
    differences: tuple[str, ...] = ()


def across_table(runs: Sequence[tuple[Summary, Paper | None]]) -> Table:
    """A row for each run and set of prompts that are not benign."""
    has_paper = any(paper for _, paper in runs)
    rows = []
    for summary, paper in runs:
        for group in targets(summary):
            row = _row(summary, group)
            rows.append((*row, *_paper_cells(paper)) if has_paper else row)
    note = (
        "The paper's columns are its own figures with its own labels: to compare with, "
        "not to be matched."
        if has_paper
        else ""
    )
    columns = (*_OURS, *_PAPERS) if has_paper else _OURS
    return Table("All runs", columns, tuple(rows), note)


def paper_section(summary: Summary, paper: Paper) -> Section:
    """One run beside the paper's row, and what differs in the protocol."""
    rows: list[tuple[Cell, ...]] = [
        (
            Cell("this run", group.set),
            numbers.rate(group.baseline.refused),
            numbers.rate(group.main.refused),
            numbers.relative(group.main.change),
        )
        for group in targets(summary)
        if group.main is not None
    ]
    rows.append((Cell("the paper", paper.model), *_paper_cells(paper)))
    columns = ("", "baseline", "ablated", "relative change")
    table = Table(
        f"{paper.model} in the paper (arXiv 2605.12290)",
        columns,
        tuple(rows),
        "The paper's figures are its own, with its own labels.",
    )
    texts = (
        ("A comparison, not a replication. What differs:",) if paper.differences else ()
    )
    return Section(
        "paper", "Beside the paper", (*texts, *paper.differences), tables=(table,)
    )


def targets(summary: Summary) -> tuple[Group, ...]:
    """The groups that a run is about: those that are not benign, or else all."""
    return (
        tuple(one for one in summary.groups if one.kind != "benign") or summary.groups
    )


def _row(summary: Summary, group: Group) -> tuple[Cell, ...]:
    main, matched = group.main, group.control("matched")
    return (
        Cell(model_name(summary.run), group.set),
        Cell(str(group.n)),
        numbers.rate(group.baseline.refused),
        numbers.rate(main.refused) if main else numbers.NONE,
        numbers.relative(main.change) if main else numbers.NONE,
        Cell(numbers.percent(matched.refused)) if matched else numbers.NONE,
        numbers.mean(main.quality.value) if main else numbers.NONE,
        numbers.mean(main.kl.value) if main and main.kl else numbers.NONE,
    )


def _paper_cells(paper: Paper | None) -> tuple[Cell, ...]:
    if paper is None:
        return (numbers.NONE,) * len(_PAPERS)
    return (
        Cell(numbers.percent(paper.baseline)),
        Cell(numbers.percent(paper.ablated)),
        Cell(f"{100 * paper.relative:+.1f}%"),
    )
