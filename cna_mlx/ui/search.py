"""A search on the screen: the best circuits while it runs, then what it found."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from cna_mlx.search.result import SearchResult
from cna_mlx.search.search import Shown
from cna_mlx.search.trial import Standing
from cna_mlx.strength import as_typed
from cna_mlx.ui.console import Screen
from cna_mlx.ui.evaluation import headline_view, summary_view
from cna_mlx.ui.lists import table_or_lines
from cna_mlx.ui.progress import EVERY
from cna_mlx.util.formatting import counted, decimal

_SHOWN = 8
_COLUMNS = ("neurons", "rank", "layers", "m", "refusals lost", "KL", "quality", "mark")

_Counts = TypeVar("_Counts")


def live_table(screen: Screen) -> AbstractContextManager[Shown]:
    """Draw the best circuits so far on stderr; a line now and then on a pipe."""

    def said(standings: Sequence[Standing]) -> str:
        asked = max(one.refusals for one in standings)
        return (
            f"{counted(len(standings), 'circuit')}, {counted(asked, 'refusal')} so far"
        )

    def table(standings: Sequence[Standing]) -> RenderableType:
        best = sorted(standings, key=lambda one: (-one.share, one.kl))[:_SHOWN]
        return table_or_lines(screen, _COLUMNS, [_row(one, "") for one in best])

    return live_view(screen, said, table)


@contextmanager
def live_view(
    screen: Screen,
    said: Callable[[Sequence[_Counts]], str],
    table: Callable[[Sequence[_Counts]], RenderableType],
) -> Iterator[Callable[[Sequence[_Counts]], None]]:
    """Draw a line and a table of counts on stderr while they grow; none ends it.

    On a pipe only the line is printed, every half minute.
    """
    console = screen.err
    if not console.is_terminal or console.is_dumb_terminal:
        yield _spoken(screen, said)
        return
    live = Live(console=console, auto_refresh=False, transient=True)

    def show(counts: Sequence[_Counts]) -> None:
        if not counts:
            live.stop()
            return
        live.start()
        line = screen.safe(said(counts), "dim")
        live.update(Group(line, table(counts)), refresh=True)

    try:
        yield show
    finally:
        live.stop()


def _spoken(
    screen: Screen, said: Callable[[Sequence[_Counts]], str]
) -> Callable[[Sequence[_Counts]], None]:
    last = time.monotonic()

    def show(counts: Sequence[_Counts]) -> None:
        nonlocal last
        if counts and time.monotonic() - last >= EVERY:
            last = time.monotonic()
            screen.note(said(counts))

    return show


def search_view(
    screen: Screen, found: SearchResult, path: str | None
) -> RenderableType:
    """What was found, the Pareto front, and the answers to the unused prompts."""
    parts: list[RenderableType] = []
    if found.run and found.run.samples():
        summary = found.run.summary()
        parts += [headline_view(screen, found.run.verdict())]
    else:
        summary = None
        parts += [
            screen.safe("\nThe search ended before the circuit was judged.", "bold")
        ]
    if found.chosen.refusals:  # else it ended in the first prompt
        parts += [screen.safe(line) for line in _lines(found, path)]
        parts += [Text(), screen.safe(_front_title(found), "bold")]
        parts += [_front(screen, found)]
    if summary:
        parts += [Text(), summary_view(screen, summary), parts[0]]
    return Group(*parts)


def _lines(found: SearchResult, path: str | None) -> Iterator[str]:
    chosen, tried = found.chosen, counted(len(found.standings), "circuit")
    if found.circuit is None:
        most = max(one.candidate.size for one in found.standings)
        so_far = "" if found.is_whole else " so far"
        was_judged = " was judged" if found.run and found.run.samples() else ""
        yield (
            f"No circuit of up to {most} MLP neurons lowered refusals within the "
            f"damage that is allowed{so_far}; {tried} tried. "
            f"The best of them{was_judged}:"
        )
        yield chosen.candidate.title
    else:
        also = " (the paper's)" if chosen.candidate.is_paper else ""
        yield f"the chosen one of {tried}: {chosen.candidate.title}{also}"
        if path:
            yield f"saved to {path}"
    paper = next((one for one in found.standings if one.candidate.is_paper), None)
    if paper is not None and paper is not chosen:
        yield (
            f"the paper's, {paper.candidate.title}: {paper.lost} of "
            f"{counted(paper.refusals, 'refusal')} lost, KL {decimal(paper.kl)}"
        )


def _front_title(found: SearchResult) -> str:
    return (
        f"Pareto front on {found.contrast.name}, where circuits are chosen: no other "
        "loses more refusals for less KL on benign prompts"
    )


def _front(screen: Screen, found: SearchResult) -> RenderableType:
    paper = [one for one in found.standings if one.candidate.is_paper]
    all_of_them = dict.fromkeys([*found.front, *paper, found.chosen])
    shown = sorted(all_of_them, key=lambda one: one.kl)
    rows = [_row(one, _marks(found, one)) for one in shown]
    return table_or_lines(screen, _COLUMNS, rows)


def _marks(found: SearchResult, one: Standing) -> str:
    marks = ["chosen"] if one is found.chosen and found.circuit else []
    marks += ["the paper's"] if one.candidate.is_paper else []
    marks += [] if one in found.front else ["not on the front"]
    return ", ".join(marks)


def _row(one: Standing, marks: str) -> list[str]:
    own = one.candidate
    first, last = own.layers
    return [
        str(own.size),
        own.rank,
        f"{first}-{last}",
        as_typed(own.strength),
        f"{one.lost} of {one.refusals}",
        decimal(one.kl),
        decimal(one.quality),
        marks,
    ]
