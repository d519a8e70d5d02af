"""Draw the arms of a turn while they grow: the last lines that fit."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Token
from cna_mlx.ui.console import Screen
from cna_mlx.ui.diff import arranged, fits_side_by_side
from cna_mlx.ui.lists import frame
from cna_mlx.util.formatting import counted
from cna_mlx.util.sanitize import first_words

_FRAMES_PER_SECOND = 12


class Growing:
    """The unfinished answers of a turn.

    Draws the arms at the ``shown`` positions, if the terminal's cursor can move.
    """

    def __init__(self, screen: Screen, arms: list[Arm], shown: list[int]) -> None:
        self._screen, self._arms, self._shown = screen, arms, shown
        self._texts = [""] * len(arms)
        self._tokens = 0
        self._started = self._drawn = time.perf_counter()
        self._live: Live | None = None
        self.heading: list[Text] = []

    @contextmanager
    def drawn(self) -> Iterator["Growing"]:
        """Let :meth:`take` draw inside the context; erase the drawing after it."""
        if not self._screen.is_live:
            yield self
            return
        with Live(
            console=self._screen.out,
            auto_refresh=False,  # a drawing thread would compete with the model
            transient=True,
            vertical_overflow="crop",
        ) as self._live:
            self._draw()
            yield self
        self._live = None

    def take(self, token: Token) -> None:
        """Add a token's text; draw at most 12 times a second."""
        self._texts[token.arm] += token.text
        self._tokens += 1
        now = time.perf_counter()
        if now - self._drawn > 1 / _FRAMES_PER_SECOND:
            self._draw()
            self._drawn = now

    def _draw(self) -> None:
        if self._live is None:
            return
        seconds = max(time.perf_counter() - self._started, 1e-6)
        status = f"{counted(self._tokens, 'token')}, {self._tokens / seconds:.1f}/s"
        titles = [self._arms[number].title for number in self._shown]
        texts = [self._texts[number] for number in self._shown]
        view = live_view(self._screen, titles, texts, status)
        self._live.update(Group(*self.heading, view), refresh=True)


def live_view(
    screen: Screen, titles: list[str], texts: list[str], status: str
) -> RenderableType:
    """Arms side by side if there is room, each with its last lines."""
    stacked = len(titles) == 1 or not fits_side_by_side(screen, len(titles))
    height = max(2, (screen.out.height - 6) // (len(titles) if stacked else 1) - 2)
    width = screen.out.width // (1 if stacked else len(titles)) - 4
    frames = [
        Panel(
            _tail(screen, text, width, height),
            box=frame(screen),
            padding=(0, 1),
            title=screen.safe(title),
            title_align="left",
            border_style="dim",
        )
        for title, text in zip(titles, texts, strict=True)
    ]
    line = Text(f"{status}   Ctrl-C ends the answer", style="dim")
    return Group(arranged(screen, frames), line)


def _tail(screen: Screen, text: str, width: int, height: int) -> Text:
    """The last lines that fit, because Live cannot scroll."""
    if screen.hides_text:
        return screen.safe(first_words(text))
    # only this much can be visible, and wrapping all would slow each frame
    recent = text[-2 * width * height :]
    lines = screen.safe(recent).wrap(screen.out, max(10, width))
    return Text("\n").join(lines[-height:]) if lines else Text()
