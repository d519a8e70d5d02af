"""Where everything is printed: data to stdout, the rest to stderr; text made safe."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.text import Text

from cna_mlx.labels.label import LabelKind
from cna_mlx.util.sanitize import visible

VERDICT_STYLES = {
    LabelKind.REFUSED: "bold red",
    LabelKind.ANSWERED: "bold green",
    LabelKind.PARTIAL: "bold yellow",
    LabelKind.INVALID: "bold magenta",
}
# Under this many columns two texts side by side are two ribbons.
_STACK_BELOW = 80
_UNBOUNDED = 1000  # columns: more than anything is wide


@dataclass(frozen=True)
class Screen:
    """The two consoles, and what the terminal behind them can do.

    Attributes:
        out, err: for data, and for everything else.
        hides_text: show no more of a prompt or an answer than its first words.
    """

    out: Console
    err: Console
    hides_text: bool = False

    @property
    def is_ascii(self) -> bool:
        """Whether only ASCII can be printed."""
        return self.out.options.ascii_only

    @property
    def is_live(self) -> bool:
        """Whether text can be drawn over: a terminal that can move its cursor."""
        return self.out.is_terminal and not self.out.is_dumb_terminal

    @property
    def is_plain(self) -> bool:
        """Whether underlining cannot be seen, so that words must say what decided."""
        return not self.out.is_terminal or os.environ.get("TERM", "") in ("", "dumb")

    @property
    def stacks(self) -> bool:
        """Whether arms stand below each other instead of side by side."""
        return self.out.width < _STACK_BELOW or not self.out.is_terminal

    def fits(self, view: RenderableType) -> bool:
        """Whether a view is no wider than the screen if it is not squeezed."""
        unbounded = self.out.options.update(width=_UNBOUNDED)
        return Measurement.get(self.out, unbounded, view).maximum <= self.out.width

    def glyph(self, symbol: str, plain: str) -> str:
        """A symbol, or what stands for it where only ASCII can be printed."""
        return plain if self.is_ascii else symbol

    def note(self, text: str, style: str = "dim") -> None:
        """Say something that is not data."""
        self.err.print(self.safe(text), style=style, soft_wrap=not self.err.is_terminal)

    def safe(self, text: str, style: str = "") -> Text:
        """Any text as it can be shown: never markup, never an escape sequence."""
        return Text(visible(text, ascii_only=self.is_ascii), style=style)


@cache
def screen() -> Screen:
    """The process's screen; made once, when something is first printed."""
    for stream in (sys.stdout, sys.stderr):
        # a character that the locale lacks becomes an escape, not an error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = {"highlight": False, "markup": False, "emoji": False}
    return Screen(Console(**options), Console(stderr=True, **options))  # type: ignore[arg-type]


def marked(
    text: str,
    spans: Sequence[tuple[int, int, str]],
    mark: tuple[int, str] | None = None,
    *,
    ascii_only: bool = False,
) -> Text:
    """Text with stretches in a style, and a sign put in at one place.

    Args:
        text: model text.
        spans: start, end (in characters of ``text``) and a Rich style.
        mark: a position and the sign to put before it.
        ascii_only: spell out what is not ASCII.
    """
    cuts = {0, len(text), *(edge for start, end, _ in spans for edge in (start, end))}
    if mark:
        cuts.add(mark[0])
    edges = sorted(cut for cut in cuts if 0 <= cut <= len(text))
    result = Text()
    for start, end in zip(edges, [*edges[1:], len(text)], strict=True):
        if mark and mark[0] == start:
            result.append(mark[1], style="bold cyan")
        styles = [style for first, last, style in spans if first <= start < last]
        piece = visible(text[start:end], ascii_only=ascii_only)
        result.append(piece, style=" ".join(styles))
    return result


def badge(verdict: LabelKind) -> Text:
    """A verdict as it stands above an answer."""
    return Text(str(verdict), style=VERDICT_STYLES[verdict])
