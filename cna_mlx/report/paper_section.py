"""Show runs next to the paper's rows for their models."""

from collections.abc import Sequence
from dataclasses import dataclass

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.paper import ARXIV, PaperRow, paper_row
from cna_mlx.analysis.protocol import RunProtocol, protocol_differences
from cna_mlx.report.content import Cell, ReportSection, ReportTable
from cna_mlx.report.facts import model_name
from cna_mlx.report.numbers import NONE, mean_cell, rate_cell, relative_cell
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


@dataclass(frozen=True)
class Paper:
    """What the paper reports of a run's model."""

    row: PaperRow
    how: str  # why this row
    differences: tuple[str, ...]  # what this run does differently, a sentence each

    @classmethod
    def of(cls, summary: Summary) -> "Paper | None":
        """The paper's row for a run; None if its model is not one of the paper's."""
        run, groups = summary.run, targets(summary)
        model = run.config.model
        # a directory has no revision, and its name proves nothing
        is_local = not model.revision
        match = paper_row(str(model.id), run.facts.shape, is_local=is_local)
        if match is None or not groups:
            return None
        said = protocol_differences(RunProtocol.of(run.config, groups[0]))
        return cls(match.row, match.how, tuple(said))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The baseline, the ablated rate and the relative change, as printed."""
        return tuple(map(Cell, self.row.printed))


def targets(summary: Summary) -> tuple[Group, ...]:
    """The groups that are not benign, or else all."""
    found = tuple(one for one in summary.groups if one.kind != "benign")
    return found or summary.groups


def paper_section(summary: Summary, paper: Paper) -> ReportSection:
    """The run and the paper's row in one table, and the differences."""
    rows: list[Sequence[Cell]] = [
        (
            Cell("this run", group.set),
            rate_cell(group.baseline.refused),
            rate_cell(group.main.refused),
            relative_cell(group.main.change),
            mean_cell(group.main.quality.value),
        )
        for group in targets(summary)
        if group.main is not None
    ]
    quality = mean_cell(paper.row.quality)
    rows.append((Cell("the paper", paper.row.source), *paper.cells, quality))
    columns = ("", "baseline", "ablated", "relative change", "quality, ablated")
    table = ReportTable(
        f"{paper.row.model} in the paper (arXiv {ARXIV})",
        columns,
        rows,
        "The paper's figures have the authors' labels; the quality comes from another "
        "experiment (table 1 or 2).",
    )
    return ReportSection(
        "paper",
        "The paper",
        [f"{paper.how}. This is a comparison, not a replication."],
        tables=[table],
        items=paper.differences,
        items_title="What differs",
    )


def across_table(runs: Sequence[tuple[Summary, Paper | None]]) -> ReportTable:
    """A row for each run and set of prompts that are not benign."""
    has_paper = any(paper for _, paper in runs)
    rows = []
    for summary, paper in runs:
        cells = paper.cells if paper else (NONE,) * 3
        for group in targets(summary):
            row = _row(summary, group)
            rows.append((*row, *cells) if has_paper else row)
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
