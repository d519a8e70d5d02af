"""A prompt as words with their gauges, and the first words of its answers as bars."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.discovery.strip import (
    LEAST_CHANCE,
    Word,
    largest_rise,
    rise_text,
    shade,
)
from cna_mlx.ui.console import Screen
from cna_mlx.util.formatting import decimal, percent
from cna_mlx.util.sanitize import quoted, visible

if TYPE_CHECKING:  # showing a circuit file must not import this
    from cna_mlx.steering.first_tokens import FirstTokens

# Black text on these is readable, in light and dark terminals.
_SHADES = ("", *(f"black on #{c}" for c in ("fbe3d6", "f6bfa3", "ee9471", "e0663f")))
_BAR = 24
_STYLES = ("", "red", "green", "cyan")


def words_view(screen: Screen, words: Sequence[Word]) -> RenderableType:
    """Words with the gauge of the prompt up to each; say which raises it most."""
    rise = largest_rise(words)
    width = screen.out.width if screen.out.is_terminal else None
    cells = [
        _cell(screen, word, rise is not None and number == rise[0], width)
        for number, word in enumerate(words)
    ]
    lines = [line for row in _rows(cells, width) for line in row]
    return Group(*lines, screen.safe(f"  {rise_text(words)}", "bold"))


def _cell(
    screen: Screen, word: Word, is_most: bool, width: int | None
) -> tuple[Text, Text]:
    """A word above its gauge, equally wide."""
    text = visible(" ".join(word.text.split()), ascii_only=screen.is_ascii)
    value = decimal(word.gauge)
    room = max(len(value), cell_len(text))
    if width is not None:
        room = min(room, width - 2)
    style = (
        f"{_SHADES[shade(word.gauge)]}{' bold underline' if is_most else ''}".strip()
    )
    shown = text if cell_len(text) <= room else set_cell_size(text, room)
    above = Text.assemble((shown, style), " " * (room - cell_len(shown)))
    return above, Text(f"{value:<{room}}", style="bold" if is_most else "dim")


def _rows(
    cells: Sequence[tuple[Text, Text]], width: int | None
) -> Iterator[tuple[Text, Text]]:
    """Two lines of as many cells as fit, again and again."""
    above, below = Text(" "), Text(" ")
    for word, value in cells:
        if width and above.plain != " " and above.cell_len + 1 + word.cell_len > width:
            yield above, below
            above, below = Text(" "), Text(" ")
        above.append(" ").append_text(word)
        below.append(" ").append_text(value)
    yield above, below


def first_tokens_view(screen: Screen, found: "FirstTokens | None") -> RenderableType:
    """A bar for each token and arm: the probability that the answer begins with it."""
    if found is None:
        return Text("  first words: they need all weights in memory", style="dim")
    tokens = [one for one in found.tokens if max(one.probabilities) >= LEAST_CHANCE]
    names = [quoted(token.text, ascii_only=screen.is_ascii) for token in tokens]
    arms = [visible(arm, ascii_only=screen.is_ascii) for arm in found.arms]
    room, side = max(map(cell_len, names), default=0), max(map(cell_len, arms))
    room, block = min(room, 16), screen.glyph("█", "#")
    lines = [Text("  most likely first words of the answer", style="dim")]
    for name, token in zip(names, tokens, strict=True):
        head = set_cell_size(name, room)
        for number, chance in enumerate(token.probabilities):
            line = Text(f"  {head if number == 0 else ' ' * room} ")
            line.append(set_cell_size(arms[number], min(side, 18)) + " ")
            bar = block * round(_BAR * chance)
            line.append(bar, style=_STYLES[number % len(_STYLES)])
            lines.append(line.append(f"{' ' if bar else ''}{percent(chance)}"))
    return Group(*lines)
