"""Report the library's progress to its caller."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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
