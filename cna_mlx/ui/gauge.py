"""The gauge as a bar: a prompt between the answered and the refused ones."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cross_validation import HeldOutScores
from cna_mlx.prompts import PromptSet
from cna_mlx.provenance import ContrastEntry
from cna_mlx.ui.console import Screen
from cna_mlx.ui.words import first_tokens_view, words_view
from cna_mlx.util.formatting import auc_text, counted, decimal

if TYPE_CHECKING:
    from cna_mlx.discovery.probe import Probe

# prompts extend a little past both means
_LOW, _HIGH = -0.25, 1.25
_WIDTH = 25
_SHORT = 19
_AUC_WIDTH = 40


def gauge_view(
    screen: Screen,
    value: float,
    circuit: Circuit | None = None,
    *,
    is_calibrated: bool = True,
) -> Text:
    """One line: the bar, the value, and what the circuit says of its accuracy."""
    line = Text("gauge ").append_text(bar(screen, value))
    line.append(f" {decimal(value)}", style="bold")
    if circuit is not None:
        line.append_text(screen.safe(f"  {trust(circuit, is_calibrated)}"))
    return line


def bar(screen: Screen, value: float, width: int = _WIDTH) -> Text:
    """Draw the gauge between 0 (answered) and 1 (refused), an arrow past the ends."""
    cells = [screen.glyph("─", "-")] * width
    for mean in (0.0, 1.0):
        cells[_cell(mean, width)] = screen.glyph("┼", "+")
    at = _cell(value, width)
    if value < _LOW:
        mark = "<"
    elif value > _HIGH:
        mark = ">"
    else:
        mark = screen.glyph("●", "O")
    text = Text().append("".join(cells[:at]), style="dim")
    text.append(mark, style="bold red" if value >= 0.5 else "bold green")
    return text.append("".join(cells[at + 1 :]), style="dim")


def trust(circuit: Circuit, is_calibrated: bool = True) -> str:
    """Say what 0 and 1 mean, and how well the gauge separates unseen prompts."""
    contrast = circuit.provenance.contrast or ContrastEntry()
    zero, one = contrast.negative_label, contrast.positive_label
    sides = f"0 as {zero or 'answered'}, 1 as {one or 'refused'}"
    if not is_calibrated:
        return f"{sides}; accuracy on such prompts unknown"
    found = circuit.provenance.held_out
    if found is None:
        return sides
    return f"{sides}; held-out AUC {auc_text(found)}"


def _cell(value: float, width: int) -> int:
    share = (value - _LOW) / (_HIGH - _LOW)
    return min(width - 1, max(0, round(share * (width - 1))))


def probe_view(screen: Screen, found: "Probe") -> RenderableType:
    """Prompts with their gauges, and a closer look at each or a histogram."""
    parts: list[RenderableType] = []
    for number, (prompt, value) in enumerate(found.gauges):
        parts.append(
            Text(f"{value:6.2f} ")
            .append_text(bar(screen, value, _SHORT))
            .append(" ")
            .append_text(screen.safe(" ".join(prompt.split())))
        )
        if found.looks:
            look = found.looks[number]
            parts += [Text(), words_view(screen, look.words), Text()]
            parts += [first_tokens_view(screen, look.first), Text()]
    parts = parts if found.looks else [*parts, Text()]
    values = [value for _, value in found.gauges]
    count = counted(len(values), "prompt")
    return Group(
        *parts,
        Text(f"{count}, {trust(found.circuit, found.is_calibrated)}", style="bold"),
        *(() if found.looks else histogram(screen, [("", values)])),
    )


def held_out_view(
    screen: Screen, contrast: PromptSet, scores: HeldOutScores
) -> RenderableType:
    """How well the gauge separates held-out prompts of a contrast."""
    sides = [
        (contrast.positive_label, scores.positive),
        (contrast.negative_label, scores.negative),
    ]
    counts = " and ".join(f"{len(values)} {label}" for label, values in sides)
    layers = [
        Text(f"{layer:>5}  ")
        .append(screen.glyph("█", "#") * round(_AUC_WIDTH * one.value), style="cyan")
        .append(f" {auc_text(one)}")
        for layer, one in scores.layers.items()
    ]
    how = "each gauged by a circuit of the others"
    whole = f"held-out AUC {auc_text(scores.auc)}  (0.5: no separation, 1: perfect)"
    return Group(
        Text(f"{contrast.name}: {counts} prompts, {how}"),
        Text(whole, style="bold"),
        Text(),
        *histogram(screen, sides),
        Text(),
        Text("held-out AUC of each layer's own neurons", style="bold"),
        *layers,
    )


def histogram(
    screen: Screen, groups: Sequence[tuple[str, Sequence[float]]]
) -> list[Text]:
    """Draw how the gauges of each group are distributed, in steps of 0.1."""
    edges = [_LOW + 0.1 * step for step in range(round((_HIGH - _LOW) / 0.1) + 1)]
    placed = [Counter(bisect_right(edges, v) for v in values) for _, values in groups]
    most = max((max(counts.values(), default=0) for counts in placed), default=0) or 1
    width = _AUC_WIDTH // len(groups)
    block = screen.glyph("█", "#")
    lines = []
    if any(label for label, _ in groups):
        titles = [f"{label:<{width + 5}}" for label, _ in groups]
        lines.append(Text(" " * 15 + " ".join(titles).rstrip(), style="dim"))
    for row in range(len(edges) + 1):
        low = f"{edges[row - 1]:5.2f}" if row else "     "
        high = f"{edges[row]:5.2f}" if row < len(edges) else "     "
        is_beyond = row in (0, len(edges))
        if is_beyond and not any(counts[row] for counts in placed):
            continue
        line = Text(f"{low} .. {high} ", style="dim")
        for counts in placed:
            length = -(-counts[row] * width // most)
            cell = f"{block * length} {counts[row] or ''}"
            line.append(f"{cell:<{width + 6}}", style="cyan not dim")
        line.rstrip()
        lines.append(line)
    return lines
