"""Progress bars on stderr."""

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
    """Show notes and bars on stderr; let Ctrl-C end the work between tokens."""
    interrupt, to = Interrupt(), screen()
    return Reporter(
        note=to.note,
        warn=lambda text: to.note(text, style="yellow"),
        progress=progress_bar,
        stop=interrupt,
        watching=interrupt.watching,
    )


@contextmanager
def progress_bar(unit: str) -> Iterator[Listener]:
    """A bar to pass to the library as ``progress``; silent on a pipe.

    A bar of ``bytes`` is drawn from the first byte to the last.
    """
    console = screen().err
    if not console.is_terminal or console.is_dumb_terminal:
        yield silent
        return
    is_bytes = unit == "bytes"
    amount: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()]
        if is_bytes
        else [MofNCompleteColumn(), TextColumn(unit)]
    )
    whole = Column(no_wrap=True, overflow="crop")  # an ellipsis is not ASCII
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=min(40, max(4, console.width - 60))),
        *amount,
        TimeElapsedColumn(whole),
        TimeRemainingColumn(compact=True, table_column=whole.copy()),
        console=console,
        transient=True,
    )
    number = bar.add_task("", total=None)

    def listen(task: str, done: int, total: int) -> None:
        bar.update(number, description=task, completed=done, total=total)
        bar.start()
        if is_bytes and done >= total:
            bar.stop()

    if not is_bytes:
        bar.start()
    try:
        yield listen
    finally:
        bar.stop()
