"""Two models or runs on the screen: what can be said, then the figures."""

from collections.abc import Sequence

from rich import box
from rich.console import Group as Parts
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.analysis.compare import KINDS, Comparison, Figures
from cna_mlx.analysis.compared_model import ComparedModel
from cna_mlx.analysis.metrics import ArmFigures, ControlFigures
from cna_mlx.analysis.statistics import Proportion
from cna_mlx.discovery.auc import Auc
from cna_mlx.ui.console import Screen
from cna_mlx.ui.evaluation import bullets, mean, percent, rate
from cna_mlx.ui.lists import frame
from cna_mlx.util.formatting import counted

_BAR = 20
_CONTROLS = ("matched", "uniform")
_TITLES = {"target": "to be declined", "benign": "benign"}

Rows = list[Sequence[str]]


def comparison_view(
    screen: Screen, found: Comparison, said: Sequence[str]
) -> RenderableType:
    """What can be said of the two, their circuits, and their rates side by side."""
    a, b = (figures.side.name for figures in found.sides)
    parts: list[RenderableType] = [_bold(screen, f"{a} against {b}"), Text()]
    parts += [*bullets(screen, said), Text()]
    parts += [_bold(screen, "circuits"), _circuits(screen, found), Text()]
    parts += _layers(screen, found)
    for kind in KINDS:
        parts += _rates(screen, found, kind)
    return Parts(*parts[:-1])


def _circuits(screen: Screen, found: Comparison) -> RenderableType:
    sides = [figures.side for figures in found.sides]
    rows: Rows = [
        ["weights", *(str(one.model.quantization or "-") for one in sides)],
        ["neurons", *map(_neurons, sides)],
        ["split half", *(_split_half(one) for one in sides)],
        ["held-out AUC", *(_auc(one.own) for one in sides)],
        ["  rendered alike", *(_auc(one.same) for one in sides)],
    ]
    for kind in KINDS:
        groups = [one.group(kind) for one in found.sides]
        values = [_number(group.gauge if group else None) for group in groups]
        rows.append([f"gauge, {_TITLES[kind]}", *values])
    summaries = [one.summary for one in found.sides]
    told = [_auc(one.separation if one else None) for one in summaries]
    rows.append(["  AUC of these", *told])
    return table_or_lines(screen, ("", *(one.name for one in sides)), rows)


def _neurons(side: ComparedModel) -> str:
    count = len(side.circuit.neurons) if side.circuit else 0
    return f"{count} of {side.model.total or 0:,}"


def _split_half(side: ComparedModel) -> str:
    return _number(side.circuit.provenance.split_half if side.circuit else None)


def _layers(screen: Screen, found: Comparison) -> list[RenderableType]:
    """Where each circuit lies, layer by layer, as far as there is anything."""
    overlap = found.overlap
    if overlap is None or overlap.by_depth:
        return []
    names = [figures.side.name for figures in found.sides]
    parts: list[RenderableType] = [
        _bold(screen, f"neurons by layer: {' and '.join(names)}")
    ]
    counts = [
        [round(share * size) for share in profile]
        for profile, size in zip(overlap.profiles, overlap.sizes, strict=True)
    ]
    most = max(map(max, counts))
    width = len(str(most))
    for layer, pair in enumerate(zip(*counts, strict=True)):
        if not any(pair):
            continue
        cells = [_bar(screen, count, most, width) for count in pair]
        line = f"  {layer:>3}  {cells[0]}  {cells[1]}"
        parts.append(screen.safe(line.rstrip()))
    return [*parts, Text()]


def _bar(screen: Screen, count: int, most: int, width: int) -> str:
    length = -(-_BAR * count // most) if most else 0
    bar = screen.glyph("\u2588", "#") * length
    return f"{count:>{width}} {bar:<{_BAR}}"


def _rates(screen: Screen, found: Comparison, kind: str) -> list[RenderableType]:
    """The arms of both on the prompts of one kind."""
    groups = [group for one in found.sides if (group := one.group(kind))]
    if not groups:
        return []
    sets = dict.fromkeys(
        one.set
        for figures in found.sides
        for one in (figures.summary.groups if figures.summary else ())
        if (one.kind == "benign") == (kind == "benign")
    )
    head = f"{_TITLES[kind]} ({', '.join(sets)}): {counted(groups[0].n, 'prompt')}"
    rows: Rows = []
    for figures in found.sides:
        rows += _arms(figures, kind)
    names = ("refused", "change", "invalid", "quality", "KL", "differ")
    return [
        _bold(screen, head),
        table_or_lines(screen, ("", *names), rows),
        Text(),
    ]


def _arms(figures: Figures, kind: str) -> Rows:
    group = figures.group(kind)
    if group is None:
        return []
    shares = figures.differing[kind]
    rows: Rows = [[figures.side.name]]
    for one in group.arms:
        if one.arm.role not in _CONTROLS:
            rows.append(_arm(one, shares[one.arm.label]))
    for control in group.controls:
        values = [shares[label].value for label in control.labels]
        rows.append(_control(control, sum(values) / len(values)))
    return rows


def _arm(one: ArmFigures, differing: Proportion) -> list[str]:
    own = "own circuit" if one.arm.role == "ablated" else one.arm.label
    is_baseline = one.arm.role == "baseline"
    return [
        f"  {own}",
        rate(one.refused),
        f"{one.change.points.value:+.0f} pp" if one.change else "",
        percent(one.invalid.value),
        mean(one.quality),
        mean(one.kl),
        "" if is_baseline else percent(differing.value),
    ]


def _control(one: ControlFigures, differing: float) -> list[str]:
    count = len(one.labels)
    spread = f" ({100 * one.least:.0f} to {100 * one.most:.0f})" if count > 1 else ""
    return [
        f"  {one.role}{f' x {count}' if count > 1 else ''}",
        f"{percent(one.refused)}{spread}",
        "",
        percent(one.invalid),
        f"{one.quality:.2f}",
        _number(one.kl),
        percent(differing),
    ]


def table_or_lines(
    screen: Screen, names: Sequence[str], rows: Sequence[Sequence[str]]
) -> RenderableType:
    """Rows as a table, or as a line each where a table would not fit.

    Args:
        names: of the columns, the first is that of the row's name.
        rows: cells; a row of a single one is a heading.
    """
    table = Table(box=frame(screen, box.SIMPLE), pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        justify = "right" if number else "left"
        table.add_column(screen.safe(name), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(screen.safe, row))
    if screen.fits(table):
        return table
    # a table that is squeezed loses its numbers first
    return Parts(*(_line(screen, names, row) for row in rows))


def _line(screen: Screen, names: Sequence[str], row: Sequence[str]) -> Text:
    if len(row) == 1:
        return screen.safe(row[0])
    pairs = [f"{name} {cell}" for name, cell in zip(names, row, strict=True) if cell]
    return screen.safe(f"{row[0]}: {', '.join(pairs[1:])}")


def _bold(screen: Screen, text: str) -> Text:
    line = screen.safe(text)
    line.stylize("bold")
    return line


def _auc(value: Auc | None) -> str:
    if value is None:
        return "-"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
