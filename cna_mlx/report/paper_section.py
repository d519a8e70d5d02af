"""A run beside the paper's row for its model, with what differs in the protocol."""

from dataclasses import dataclass

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.paper import ARXIV, PaperRow, paper_row
from cna_mlx.analysis.protocol import Protocol, protocol_differences
from cna_mlx.evaluation.run_config import CircuitEntry
from cna_mlx.report import numbers
from cna_mlx.report.content import Cell, Section, Table


@dataclass(frozen=True)
class Paper:
    """What the paper reports of a run's model.

    Attributes:
        row: its figures.
        how: why this row.
        differences: what this run does otherwise, a sentence each.
    """

    row: PaperRow
    how: str
    differences: tuple[str, ...]

    @classmethod
    def of(cls, summary: Summary) -> "Paper | None":
        """The paper's row for a run; None if its model is none of the paper's."""
        model = summary.run.config.model
        # a directory has no revision, and its name proves nothing
        is_local = not model.revision
        match = paper_row(str(model.id), summary.run.facts.shape, is_local=is_local)
        groups = targets(summary)
        if match is None or not groups:
            return None
        said = protocol_differences(_protocol(summary, groups[0]))
        return cls(match.row, match.how, tuple(said))


def targets(summary: Summary) -> tuple[Group, ...]:
    """The groups that a run is about: those that are not benign, or else all."""
    found = tuple(one for one in summary.groups if one.kind != "benign")
    return found or summary.groups


def paper_section(summary: Summary, paper: Paper) -> Section:
    """The run and the paper's row in one table, and what differs."""
    rows: list[tuple[Cell, ...]] = [
        (
            Cell("this run", group.set),
            numbers.rate(group.baseline.refused),
            numbers.rate(group.main.refused),
            numbers.relative(group.main.change),
            numbers.mean(group.main.quality.value),
        )
        for group in targets(summary)
        if group.main is not None
    ]
    quality = numbers.mean(paper.row.methods.cna_quality)
    rows.append((Cell("the paper", paper.row.source), *paper_cells(paper), quality))
    columns = ("", "baseline", "ablated", "relative change", "quality, ablated")
    table = Table(
        f"{paper.row.model} in the paper (arXiv {ARXIV})",
        columns,
        tuple(rows),
        "The paper's figures are its own, with its own labels; its quality is of "
        "another experiment (table 1 or 2).",
    )
    return Section(
        "paper",
        "Beside the paper",
        (f"{paper.how}. This is a comparison, not a replication.",),
        tables=(table,),
        items=paper.differences,
        items_title="What differs",
    )


def paper_cells(paper: Paper | None) -> tuple[Cell, ...]:
    """The paper's baseline, ablated rate and relative change."""
    if paper is None:
        return (numbers.NONE,) * 3
    relative = paper.row.relative
    return (
        Cell(_exactly(paper.row.baseline)),
        Cell(_exactly(paper.row.ablated)),
        Cell(f"{100 * relative:+.1f}%") if relative is not None else numbers.NONE,
    )


def _exactly(share: float) -> str:
    """A percentage as printed: the paper gives those of base models with a decimal."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def _protocol(summary: Summary, group: Group) -> Protocol:
    config = summary.run.config
    model, circuit = config.model, config.main_circuit or CircuitEntry()
    neurons, contrast = circuit.neurons or 0, circuit.contrast
    published = [one.name for one in config.sets if one.is_published]
    main = group.main.arm if group.main else None
    is_scaled = main is not None and main.role in ("ablated", "scaled", "other")
    return Protocol(
        neurons,
        model.total or 1,
        group.set,
        group.n,
        group.set == "jbb" and group.set in published,
        config.max_tokens or 0,
        str(model.quantization),
        str(model.architecture),
        contrast if contrast and contrast.name else None,
        group.seen,
        main.strength if main is not None and is_scaled else 0.0,
        config.sampling == "greedy",
        circuit.rank or "delta",
        circuit.layers,
        max(0, (circuit.k or neurons) - neurons),
    )
