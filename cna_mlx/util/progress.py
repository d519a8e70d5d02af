"""Report the library's progress to its caller."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """Called with the task, the steps done, and the total steps."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def silent(task: str, done: int, total: int) -> None:
    """Report nothing."""


def never() -> bool:
    """Do not stop."""
    return False


def _ignore(text: str) -> None:
    pass


def _no_bar(unit: str) -> AbstractContextManager[Progress]:
    return nullcontext(silent)


@dataclass
class Pace:
    """Estimate the time left from all steps of a task, also of very slow ones.

    Attributes:
        task, done, total: as last reported to :meth:`take`.
        clock: gives seconds.
    """

    clock: Callable[[], float] = time.monotonic
    task: str = ""
    done: int = 0
    total: int = 0
    _first: tuple[int, float] = (0, 0.0)
    _last: float = field(default=0.0)

    def take(self, task: str, done: int, total: int) -> None:
        """Note a step; another task, or one that starts again, is timed from here."""
        now = self.clock()
        if (task, total) != (self.task, self.total) or done < self.done:
            self._first = done, now
        self.task, self.done, self.total, self._last = task, done, total, now

    @property
    def left(self) -> float | None:
        """Seconds until the task's end; None before its second report.

        A step that takes longer than the others delays those after it.
        """
        first, began = self._first
        if self.done <= first:
            return None
        step = (self._last - began) / (self.done - first)
        now, after = self.clock() - self._last, self.total - self.done - 1
        return max(0.0, step * after + max(0.0, step - now))


@dataclass(frozen=True)
class Reporter:
    """Callbacks of the library; by default nothing is shown.

    ``Reporter(note=print, warn=print)`` prints what a command shows on stderr.

    Attributes:
        note: called with a line of text.
        warn: called with a line that changes how a result must be read.
        progress: called with a unit (``layers``, ``prompts``, ``bytes``); returns a
            context manager that gives a :class:`Progress`.
        stop: called between tokens; True ends the work early and keeps what is done.
        watching: a context manager around work that ``stop`` can end.
    """

    note: Callable[[str], None] = _ignore
    warn: Callable[[str], None] = _ignore
    progress: Callable[[str], AbstractContextManager[Progress]] = _no_bar
    stop: Callable[[], bool] = never
    watching: Callable[[], AbstractContextManager[object]] = nullcontext


SILENT = Reporter()
