"""Circuits, discoveries and replies of the chat as tables and bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.circuit import Circuit
from cna_mlx.circuit_profile import mass_by_layer, routing, routing_texts, scores
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.provenance import ContrastEntry
from cna_mlx.strength import effect_text
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import one_table_or_two, plain_table, table_or_lines
from cna_mlx.util.formatting import NO_VALUE, auc_text, decimal, percent

if TYPE_CHECKING:  # showing a circuit file must not import these
    from cna_mlx.chat.reply import Grid
    from cna_mlx.discovery.discover import Discovery

_BAR = 40
# Of deeper models only the layers with neurons are listed.
_MOST_LAYERS = 200


def discovery_view(
    screen: Screen, discovery: "Discovery", path: str | None
) -> RenderableType:
    """What a discovery found, and how reliable the result is."""
    circuit, sizes = discovery.circuit, discovery.sizes
    quarter = -(-len(sizes) // 4)
    last_three = discovery.share_of_last_layers(3)
    last_quarter = discovery.share_of_last_layers(quarter)
    expected = expectation_lines(circuit)
    last = f"last quarter ({quarter} of {len(sizes)})"
    rows = [
        ("neurons", _counts(circuit, sum(sizes))),
        *_selection(circuit),
        ("where", f"{percent(last_three)} in the last 3 layers"),
        ("", f"{percent(last_quarter)} in the {last}"),
        ("universal", _dropped(circuit)),
        ("prompts", _prompts(discovery)),
        ("split half", _split_half(discovery)),
        ("gauge", _gauge(discovery)),
        *_ranked(discovery.circuit),
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


def _counts(circuit: Circuit, total: int) -> str:
    active = circuit.model.active
    of_token = f", {active:,} of them active per token" if active else ""
    return f"{len(circuit.neurons)} of {total:,}{of_token}"


def circuit_view(screen: Screen, circuit: Circuit, top: int = 10) -> RenderableType:
    """A circuit: its origin, its layers as a bar chart, its first neurons."""
    return Group(
        _pairs(screen, _origin(circuit)),
        Text(),
        Text(_bars_title(circuit), style="bold"),
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
    for column in table.columns[:-1]:  # the last one gives way on a narrow screen
        column.no_wrap = True
    for row in grid.rows:
        table.add_row(*(screen.safe(cell) for cell in row))
    return table


def _dropped(circuit: Circuit) -> str:
    if not circuit.provenance.universal:
        return "not filtered"
    return f"{len(circuit.universal_dropped)} removed (they respond to every contrast)"


def _prompts(discovery: "Discovery") -> str:
    one = discovery.circuit.provenance.contrast or ContrastEntry()
    positive = f"{one.positive} {one.positive_label}"
    said = f"{positive} / {one.negative} {one.negative_label} ({one.name})"
    bank = discovery.prompts - (one.positive or 0) - (one.negative or 0)
    return f"{said}, bank {bank}" if bank else said


def _split_half(discovery: "Discovery") -> str:
    half = discovery.split_half
    if half is None:
        return "unknown"
    return _halves(half.jaccard, half.chance)


def _halves(overlap: float, chance: float | None) -> str:
    """The overlap of the circuits of the odd and the even prompts."""
    expected = "" if chance is None else f" ({decimal(chance, 4)} expected by chance)"
    return f"overlap {decimal(overlap)}{expected}"


def _gauge(discovery: "Discovery") -> str:
    if discovery.held_out is None:
        return "unknown"
    return f"held-out AUC {auc_text(discovery.held_out.auc)}"


def _origin(circuit: Circuit) -> list[tuple[str, str]]:
    model, origin = circuit.model, circuit.provenance
    rows = [("neurons", str(len(circuit.neurons)))]
    if circuit.intervention is not None:
        rows.append(("steering", effect_text(circuit.intervention)))
    if model.to_dict():
        kind = f"{model.architecture}, {model.quantization}"
        rows.append(("model", f"{model.id or 'unnamed'} ({kind})"))
        rows.append(("revision", model.revision or "a local directory"))
        rows.append(("fingerprint", str(model.fingerprint)[:16]))
    if contrast := origin.contrast:
        sizes = f"{contrast.positive}/{contrast.negative}"
        rows.append(("contrast", f"{contrast.name} ({sizes})"))
    if origin.fraction is not None:
        rows += _selection(circuit)
        rows += _ranked(circuit)
        rows.append(("universal", _dropped(circuit)))
    if origin.split_half is not None:
        halves = _halves(origin.split_half, origin.split_half_chance)
        rows.append(("split half", halves))
    rows += _made_from(circuit)
    for number, line in enumerate(expectation_lines(circuit)):
        rows.append(("" if number else "expect", line))
    if origin.created:
        rows.append(("created", origin.created))
    return rows


def _selection(circuit: Circuit) -> list[tuple[str, str]]:
    origin = circuit.provenance
    where = f"layers {'-'.join(map(str, origin.layers))}" if origin.layers else ""
    text = f"{origin.fraction} by {origin.rank}, {where or 'all layers'}"
    return [("selection", text)]


def _ranked(circuit: Circuit) -> list[tuple[str, str]]:
    """What a circuit's file says of its scores beyond their name."""
    origin, rows = circuit.provenance, []
    if origin.positions:
        rows.append(("positions", f"the last {origin.positions} tokens of the prompt"))
    if (agreement := origin.causal_correlation) is not None:
        text = f"rank correlation {decimal(agreement)} with influence"
        rows.append(("effects", f"{text} (1: gradients rank as ablation does)"))
    return rows


def _made_from(circuit: Circuit) -> list[tuple[str, str]]:
    """What a combined circuit was made of, as far as its file says."""
    made = circuit.provenance.made_from or {}
    parts = made.get("circuits")
    if not isinstance(parts, list):
        return []
    names = [str(one.get("file")) for one in parts if isinstance(one, dict)]
    return [("made from", f"{made.get('operation')} of {', '.join(names)}")]


def _bars_title(circuit: Circuit) -> str:
    if not mass_by_layer(circuit):
        return "neurons by layer"
    scored = any(one is not None for one in scores(circuit))
    what = "positive scores" if scored else "|delta|"
    return f"neurons by layer, and their share of the {what}"


def _bars(screen: Screen, circuit: Circuit) -> list[Text]:
    by_layer, masses = circuit.by_layer(), mass_by_layer(circuit)
    if not by_layer:
        return [Text("  none", style="dim")]
    n_layers = len(circuit.model.d_ff or ()) or max(by_layer) + 1
    most = max(len(members) for members in by_layer.values())
    width = min(_BAR, max(10, screen.out.width - 22))
    lines = []
    for layer in range(n_layers) if n_layers <= _MOST_LAYERS else by_layer:
        count = len(by_layer.get(layer, ()))
        bar = screen.glyph("█", "#") * -(-count * width // most)
        line = Text(f"{layer:>5}  ").append(bar, style="cyan").append(f" {count}")
        if layer in masses:
            line.append(f"  {percent(masses[layer])}", style="dim")
        lines.append(line)
    return lines


def _neurons(screen: Screen, circuit: Circuit, top: int) -> RenderableType:
    has_scores = any(one is not None for one in scores(circuit))
    title = circuit.model.neuron_title
    names = [f"layer {title}", "delta", *(["score"] if has_scores else [])]
    names += _moment_titles(circuit)
    rows = []
    parts = zip(circuit.neurons[:top], scores(circuit), strict=False)
    for number, ((layer, index, delta), score) in enumerate(parts):
        name = circuit.model.neuron_name(layer, index)
        row = [f"{layer:>5} {name:>{len(title)}}", f"{delta:+.4f}"]
        if has_scores:
            row.append(NO_VALUE if score is None else f"{score:.3g}")
        if circuit.moments:
            moments = circuit.moments[number]
            row.append(decimal(moments.effect_size))
            row += [f"{value:.4f}" for value in moments[::2]]
        rows.append(row)
    routes = routing(circuit)[:top]
    if not any(routes):
        return table_or_lines(screen, names, rows)
    titles = [*(f"{side} routed" for side in _sides(circuit)), "delta if routed"]
    routed = [routing_texts(one, "+.4f") for one in routes]
    return one_table_or_two(screen, (names, rows), (titles, routed))


def _sides(circuit: Circuit) -> tuple[str, str]:
    contrast = circuit.provenance.contrast or ContrastEntry()
    return contrast.positive_label or "positive", contrast.negative_label or "negative"


def _moment_titles(circuit: Circuit) -> list[str]:
    if not circuit.moments:
        return []
    return ["Cohen's d", *(f"{side} mean" for side in _sides(circuit))]


def _pairs(screen: Screen, rows: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, screen.safe(value))
    return grid
