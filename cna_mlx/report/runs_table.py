"""Several runs in one table, with the paper's figures beside."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.report import numbers
from cna_mlx.report.content import Cell, Table
from cna_mlx.report.facts import is_whole, model_name
from cna_mlx.report.paper_section import Paper, paper_cells, targets

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


def across_table(runs: Sequence[tuple[Summary, Paper | None]]) -> Table:
    """A row for each run and set of prompts that are not benign."""
    has_paper = any(paper for _, paper in runs)
    rows = []
    for summary, paper in runs:
        for group in targets(summary):
            row = _row(summary, group)
            rows.append((*row, *paper_cells(paper)) if has_paper else row)
    columns = (*_OURS, *_PAPERS) if has_paper else _OURS
    notes = [
        "Quality and KL are of the ablated arm.",
        "The paper's columns are its own figures with its own labels, to compare with; "
        "each run's section says what differs.",
    ]
    return Table("All runs", columns, tuple(rows), " ".join(notes[: 1 + has_paper]))


def _row(summary: Summary, group: Group) -> tuple[Cell, ...]:
    main, matched = group.main, group.control("matched")
    label = "" if main is None or main.arm.role == "ablated" else main.arm.label
    rate = numbers.rate(main.refused) if main else numbers.NONE
    said = (group.set, label, "" if is_whole(summary) else "INCOMPLETE")
    return (
        Cell(model_name(summary.run), ", ".join(filter(None, said))),
        Cell(str(group.n)),
        numbers.rate(group.baseline.refused),
        rate,
        numbers.relative(main.change) if main else numbers.NONE,
        Cell(numbers.percent(matched.refused)) if matched else numbers.NONE,
        numbers.mean(main.quality.value) if main else numbers.NONE,
        numbers.mean(main.kl.value) if main and main.kl else numbers.NONE,
    )
