"""Circuits, discoveries and replies of the chat as tables and bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.provenance import ContrastEntry
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import plain_table
from cna_mlx.util.formatting import auc, decimal, percent

if TYPE_CHECKING:  # a circuit file is shown without what these bring along
    from cna_mlx.chat.reply import Grid
    from cna_mlx.discovery.discover import Discovery

_BAR = 40


def discovery_view(
    screen: Screen, discovery: "Discovery", path: str | None
) -> RenderableType:
    """What a discovery did, and how far its result can be trusted."""
    circuit, sizes = discovery.circuit, discovery.sizes
    quarter = -(-len(sizes) // 4)
    last_three = discovery.share_of_last_layers(3)
    last_quarter = discovery.share_of_last_layers(quarter)
    expected = expectation_lines(circuit)
    rows = [
        ("neurons", f"{len(circuit.neurons)} of {sum(sizes):,}"),
        ("where", f"{percent(last_three)} in the last 3 layers"),
        (
            "",
            f"{percent(last_quarter)} in the last quarter ({quarter} of {len(sizes)})",
        ),
        ("universal", _dropped(circuit)),
        ("prompts", _prompts(discovery)),
        ("split half", _split_half(discovery)),
        ("gauge", _gauge(discovery)),
        *(("expect", line) for line in expected[:1]),
        ("took", f"{discovery.seconds:.1f} s, {gigabytes(discovery.peak_memory)} peak"),
    ]
    if path is not None:
        rows.append(("written to", path))
    parts: list[RenderableType] = [_pairs(screen, rows)]
    if discovery.warning:
        parts.append(Text(discovery.warning, style="yellow"))
    parts += [Text(line, style="yellow") for line in expected[1:]]
    return Group(*parts)


def circuit_view(screen: Screen, circuit: Circuit, top: int = 10) -> RenderableType:
    """A circuit: its layers as a bar chart, its first neurons, where it came from."""
    return Group(
        _pairs(screen, _origin(circuit)),
        Text(),
        Text("neurons by layer", style="bold"),
        *_bars(screen, circuit),
        Text(),
        Text(f"the first {min(top, len(circuit.neurons))} neurons", style="bold"),
        _neurons(screen, circuit, top),
    )


def grid_view(screen: Screen, grid: "Grid") -> RenderableType:
    """A reply's rows: a table for people, aligned lines for a pipe."""
    if screen.out.is_terminal:
        return _grid_table(screen, grid)
    rows = [grid.titles, *grid.rows] if grid.titles else list(grid.rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            f"{cell:>{width}}" if number < grid.numbers else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(screen.safe("  ".join(cells).rstrip()))
    return Group(*lines)


def _grid_table(screen: Screen, grid: "Grid") -> Table:
    if not grid.titles:
        return _pairs(screen, [(name, value) for name, value in grid.rows])
    table = plain_table(screen, *grid.titles)
    for column in table.columns[: grid.numbers]:
        column.justify = "right"
    for column in table.columns[:-1]:  # the last one gives way where it is narrow
        column.no_wrap = True
    for row in grid.rows:
        table.add_row(*(screen.safe(cell) for cell in row))
    return table


def _dropped(circuit: Circuit) -> str:
    if not circuit.provenance.universal:
        return "not filtered"
    return f"{len(circuit.universal_dropped)} dropped (they answer to any contrast)"


def _prompts(discovery: "Discovery") -> str:
    contrast = discovery.circuit.provenance.contrast or ContrastEntry()
    sides = (
        f"{contrast.positive} {contrast.positive_label} / "
        f"{contrast.negative} {contrast.negative_label}"
    )
    bank = discovery.prompts - (contrast.positive or 0) - (contrast.negative or 0)
    return f"{sides} ({contrast.name})" + (f", bank {bank}" if bank else "")


def _split_half(discovery: "Discovery") -> str:
    half = discovery.split_half
    if half is None:
        return "not known"
    chance = decimal(half.chance, 4)
    return f"overlap {decimal(half.jaccard)} ({chance} expected by chance)"


def _gauge(discovery: "Discovery") -> str:
    if discovery.held_out is None:
        return "not known"
    return f"held-out AUC {auc(discovery.held_out.auc)}"


def _origin(circuit: Circuit) -> list[tuple[str, str]]:
    model, origin = circuit.model, circuit.provenance
    rows = [("neurons", str(len(circuit.neurons)))]
    if model.to_json():
        kind = f"{model.architecture}, {model.quantization}"
        rows.append(("model", f"{model.id or 'unnamed'} ({kind})"))
        rows.append(("revision", model.revision or "a local directory"))
        rows.append(("fingerprint", str(model.fingerprint)[:16]))
    if contrast := origin.contrast:
        sizes = f"{contrast.positive}/{contrast.negative}"
        rows.append(("contrast", f"{contrast.name} ({sizes})"))
    if origin.fraction is not None:
        band = origin.layers
        where = f"layers {'-'.join(map(str, band))}" if band else "all layers"
        rows.append(("selection", f"{origin.fraction} by {origin.rank}, {where}"))
        rows.append(("universal", _dropped(circuit)))
    if origin.split_half is not None:
        rows.append(("split half", decimal(origin.split_half)))
    for number, line in enumerate(expectation_lines(circuit)):
        rows.append(("" if number else "expect", line))
    if origin.created:
        rows.append(("created", origin.created))
    return rows


def _bars(screen: Screen, circuit: Circuit) -> list[Text]:
    by_layer = circuit.by_layer()
    if not by_layer:
        return [Text("  none", style="dim")]
    n_layers = len(circuit.model.d_ff or ()) or max(by_layer) + 1
    most = max(len(members) for members in by_layer.values())
    width = min(_BAR, max(10, screen.out.width - 16))
    lines = []
    for layer in range(n_layers):
        count = len(by_layer.get(layer, ()))
        length = -(-count * width // most)
        bar = screen.glyph("█", "#") * length
        lines.append(
            Text(f"{layer:>5}  ").append(bar, style="cyan").append(f" {count}")
        )
    return lines


def _neurons(screen: Screen, circuit: Circuit, top: int) -> Table:
    table = plain_table(screen, "layer", "neuron", "delta", *_moment_titles(circuit))
    for column in table.columns:
        column.justify = "right"
    for number, neuron in enumerate(circuit.neurons[:top]):
        moments = circuit.moments[number] if circuit.moments else ()
        table.add_row(
            str(neuron.layer),
            str(neuron.index),
            f"{neuron.delta:+.4f}",
            *(f"{value:.4f}" for value in moments[::2]),
        )
    return table


def _moment_titles(circuit: Circuit) -> list[str]:
    if not circuit.moments:
        return []
    contrast = circuit.provenance.contrast or ContrastEntry()
    positive = contrast.positive_label or "positive"
    return [f"mean, {positive}", f"mean, {contrast.negative_label or 'negative'}"]


def _pairs(screen: Screen, rows: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, screen.safe(value))
    return grid
