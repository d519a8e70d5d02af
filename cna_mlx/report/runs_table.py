"""Several runs in one table, with the paper's figures."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.report.content import Cell, ReportTable
from cna_mlx.report.facts import model_name
from cna_mlx.report.numbers import NONE, mean_cell, rate_cell, relative_cell
from cna_mlx.report.paper_section import Paper, across_cells, targets
from cna_mlx.util.formatting import percent

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


def across_table(runs: Sequence[tuple[Summary, Paper | None]]) -> ReportTable:
    """A row for each run and set of prompts that are not benign."""
    has_paper = any(paper for _, paper in runs)
    rows = []
    for summary, paper in runs:
        for group in targets(summary):
            row = _row(summary, group)
            rows.append((*row, *across_cells(paper)) if has_paper else row)
    columns = (*_OURS, *_PAPERS) if has_paper else _OURS
    notes = [
        "Quality and KL are of the ablated arm.",
        "The paper's columns have the authors' labels; each run's section lists what "
        "differs.",
    ]
    return ReportTable("All runs", columns, rows, " ".join(notes[: 1 + has_paper]))


def _row(summary: Summary, group: Group) -> tuple[Cell, ...]:
    main, matched = group.main, group.control("matched")
    label = "" if main is None or main.arm.role == "ablated" else main.arm.label
    said = (group.set, label, "" if summary.is_whole else "INCOMPLETE")
    return (
        Cell(model_name(summary.run), ", ".join(filter(None, said))),
        Cell(str(group.n)),
        rate_cell(group.baseline.refused),
        rate_cell(main.refused) if main else NONE,
        relative_cell(main.change) if main else NONE,
        Cell(percent(matched.refused)) if matched else NONE,
        mean_cell(main.quality.value) if main else NONE,
        mean_cell(main.kl.value) if main and main.kl else NONE,
    )
