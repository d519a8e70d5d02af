"""Progress on stderr: bars on a terminal, a plain line now and then on a pipe."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from cna_mlx.ui.console import Screen, screen
from cna_mlx.util.formatting import duration
from cna_mlx.util.interrupt import Interrupt
from cna_mlx.util.progress import Pace, Reporter
from cna_mlx.util.progress import Progress as Listener

#: Seconds between two lines on a pipe.
EVERY = 30.0


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
    """A bar to pass to the library as ``progress``; plain lines on a pipe.

    A bar of ``bytes`` is drawn from the first byte to the last.
    """
    to = screen()
    pace = Pace()
    is_live = to.err.is_terminal and not to.err.is_dumb_terminal
    with (_bar if is_live else _lines)(to, unit, pace) as listen:
        yield listen


@contextmanager
def _lines(to: Screen, unit: str, pace: Pace) -> Iterator[Listener]:
    """Print a line every half minute, also while no step ends."""
    started, is_over = time.monotonic(), Event()

    def say() -> None:
        while not is_over.wait(EVERY):
            to.note(_line(pace, unit, time.monotonic() - started))

    speaker = Thread(target=say, daemon=True)
    speaker.start()
    try:
        yield pace.take
    finally:
        is_over.set()
        speaker.join()


def _line(pace: Pace, unit: str, seconds: float) -> str:
    """``Answering: 12 of 100 prompts, 3 min, about 20 min left``."""
    amount = f"{pace.done:,} of {pace.total:,} {unit}"
    if unit == "bytes":
        amount = f"{pace.done / 1e9:.1f} of {pace.total / 1e9:.1f} GB"
    parts = [f"{pace.task}: {amount}" if pace.task else "still at work"]
    parts.append(duration(seconds))
    if pace.left:
        parts.append(f"about {duration(pace.left)} left")
    return ", ".join(parts)


class _TimeLeft(ProgressColumn):
    """The time left; Rich's own column forgets steps of more than half a minute."""

    def __init__(self, pace: Pace, column: Column) -> None:
        super().__init__(table_column=column)
        self._pace = pace

    def render(self, task: Task) -> Text:
        left = self._pace.left
        if left is None:
            return Text("--:--")
        minutes, seconds = divmod(int(left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{minutes:02}:{seconds:02}"
        return Text(f"{hours}:{clock}" if hours else clock, style="progress.remaining")


@contextmanager
def _bar(to: Screen, unit: str, pace: Pace) -> Iterator[Listener]:
    is_bytes = unit == "bytes"
    amount: list[ProgressColumn] = (
        [DownloadColumn(), TransferSpeedColumn()]
        if is_bytes
        else [MofNCompleteColumn(), TextColumn(unit)]
    )
    whole = Column(no_wrap=True, overflow="crop")  # an ellipsis is not ASCII
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=min(40, max(4, to.err.width - 60))),
        *amount,
        TimeElapsedColumn(whole),
        _TimeLeft(pace, whole.copy()),
        console=to.err,
        transient=True,
    )
    number = bar.add_task("Starting", total=None)

    def listen(task: str, done: int, total: int) -> None:
        pace.take(task, done, total)
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
