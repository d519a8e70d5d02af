"""The consoles: data on stdout, the rest on stderr, no escape sequences in text."""

import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.text import Text

from cna_mlx.labels.label import LabelKind
from cna_mlx.util.sanitize import visible

LABEL_STYLES = {
    LabelKind.REFUSED: "bold red",
    LabelKind.ANSWERED: "bold green",
    LabelKind.PARTIAL: "bold yellow",
    LabelKind.INVALID: "bold magenta",
    LabelKind.UNJUDGED: "bold cyan",
}
# Below this width two texts do not fit side by side.
_STACK_BELOW = 80
_UNBOUNDED = 1000  # columns: wider than any view
_NARROWEST = 20  # columns of folded text


@dataclass(frozen=True)
class Screen:
    """The two consoles, and what their terminal can do.

    Attributes:
        out, err: for data, and for everything else.
        hides_text: show only the first words of prompts and answers.
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
        """Whether the terminal can move its cursor, to draw over text."""
        return self.out.is_terminal and not self.out.is_dumb_terminal

    @property
    def is_plain(self) -> bool:
        """Whether underlining is invisible, so that text must replace it."""
        return not self.out.is_terminal or os.environ.get("TERM", "") in ("", "dumb")

    @property
    def stacks(self) -> bool:
        """Whether arms are stacked instead of side by side."""
        return self.out.width < _STACK_BELOW or not self.out.is_terminal

    def fits(self, view: RenderableType) -> bool:
        """Whether a view fits the screen without being squeezed."""
        unbounded = self.out.options.update(width=_UNBOUNDED)
        return Measurement.get(self.out, unbounded, view).maximum <= self.out.width

    def glyph(self, symbol: str, plain: str) -> str:
        """A symbol, or its ASCII replacement."""
        return plain if self.is_ascii else symbol

    def show(self, view: RenderableType) -> None:
        """Print data: wrapped for people, whole lines on a pipe; nothing is cut."""
        self.out.print(view, soft_wrap=not self.out.is_terminal, crop=False)

    def note(self, text: str, style: str = "dim") -> None:
        """Print a remark to stderr; a path longer than a line stays whole."""
        remark, is_whole = self.safe(text), not self.err.is_terminal
        if not is_whole and any(cell_len(w) > self.err.width for w in text.split()):
            # Rich would break the path where nobody can copy it
            lines = (
                _by_words(line, self.err.width) for line in remark.plain.split("\n")
            )
            remark, is_whole = Text("\n".join(lines)), True
        self.err.print(remark, style=style, soft_wrap=is_whole)

    def safe(self, text: str, style: str = "") -> Text:
        """Text without markup and escape sequences."""
        return Text(visible(text, ascii_only=self.is_ascii), style=style)


@cache
def screen() -> Screen:
    """Return the process's screen, made at its first use."""
    for stream in (sys.stdout, sys.stderr):
        # print an escape for a character that the locale lacks
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
    """Style spans of a model's text, and put a sign before one place.

    Spans are a start, an end (in characters) and a Rich style.
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


def _by_words(line: str, width: int) -> str:
    """A line wrapped between words alone."""
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def whole_line(screen: Screen, text: str) -> Text:
    """A line that only the terminal wraps, so that it can be copied."""
    line = screen.safe(text)
    line.no_wrap, line.overflow = True, "ignore"
    return line


def badge(kind: LabelKind) -> Text:
    """A label as it appears above an answer."""
    return Text(str(kind), style=LABEL_STYLES[kind])


def folded(screen: Screen, parts: Sequence[str], column: int) -> list[str]:
    """Wrap each part in lines from a column on; on a pipe it stays one line."""
    # made visible before wrapping: that can lengthen a part
    ascii_only = screen.is_ascii
    parts = [" ".join(visible(part, ascii_only=ascii_only).split()) for part in parts]
    indent = " " * column
    if not screen.out.is_terminal:
        return [indent + part for part in parts]
    wrapper = textwrap.TextWrapper(
        max(screen.out.width, column + _NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [line for part in parts for line in wrapper.wrap(part) or [indent]]


def folded_after(screen: Screen, head: str, parts: Sequence[str]) -> list[str]:
    """Wrap the parts to the right of a head."""
    first, *rest = folded(screen, parts, len(head))
    return [head + first[len(head) :], *rest]
