"""A bar on stderr while something takes its time."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from cna_mlx.ui.console import screen
from cna_mlx.util.interrupt import Interrupt
from cna_mlx.util.progress import Progress as Listener
from cna_mlx.util.progress import Reporter, silent


def terminal_reporter() -> Reporter:
    """Notes and bars on stderr; Ctrl-C as a question that is asked between tokens."""
    interrupt, to = Interrupt(), screen()
    return Reporter(
        note=to.note,
        warn=lambda text: to.note(text, style="yellow"),
        progress=lambda unit: download_bar() if unit == "bytes" else progress_bar(unit),
        stop=interrupt,
        watching=interrupt.watching,
    )


@contextmanager
def progress_bar(unit: str, *, at_once: bool = True) -> Iterator[Listener]:
    """Something to give to the library as its ``progress``; silent on a pipe.

    Args:
        unit: what is counted.
        at_once: draw it before there is anything to tell.
    """
    with _bar(MofNCompleteColumn(), TextColumn(unit)) as (bar, listener):
        if bar is not None and at_once:
            bar.start()

        def listen(task: str, done: int, total: int) -> None:
            listener(task, done, total)
            if bar is not None:
                bar.start()

        yield listen


@contextmanager
def download_bar() -> Iterator[Listener]:
    """Likewise for bytes; drawn from the first to the last of them, if any come."""
    with _bar(DownloadColumn(), TransferSpeedColumn()) as (bar, listener):

        def listen(task: str, done: int, total: int) -> None:
            if bar is not None:
                listener(task, done, total)
                bar.start()
                if done >= total:
                    bar.stop()

        yield listen


@contextmanager
def _bar(*amount: ProgressColumn) -> Iterator[tuple[Progress | None, Listener]]:
    """A bar that is not drawn yet, and its listener; None where it never can be."""
    console = screen().err
    if not console.is_terminal or console.is_dumb_terminal:
        yield None, silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=min(40, max(4, console.width - 60))),
        *amount,
        TimeElapsedColumn(_whole()),
        TimeRemainingColumn(compact=True, table_column=_whole()),
    )
    bar = Progress(*columns, console=console, transient=True)
    own = bar.add_task("", total=None)

    def listen(task: str, done: int, total: int) -> None:
        bar.update(own, description=task, completed=done, total=total)

    try:
        yield bar, listen
    finally:
        bar.stop()


def _whole() -> Column:
    # an ellipsis is no ASCII, and says less than what it stands for
    return Column(no_wrap=True, overflow="crop")
