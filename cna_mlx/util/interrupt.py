"""Check for Ctrl-C between tokens; unwind on SIGTERM and SIGHUP."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cna_mlx.util import ranks


class Interrupt:
    """A flag that Ctrl-C sets, in place of an exception."""

    def __init__(self) -> None:
        self.was_pressed = False
        self._stop = ranks.SharedStop(lambda: self.was_pressed)

    def __call__(self) -> bool:
        return self._stop()

    @contextmanager
    def watching(self) -> Iterator["Interrupt"]:
        """Set the flag at the first Ctrl-C; raise KeyboardInterrupt at the second.

        Several ranks stop together at the first.
        """
        self.was_pressed = False
        self._stop.forget()

        def press(number: int, stack: FrameType | None) -> None:
            if self.was_pressed and ranks.is_apart():
                raise KeyboardInterrupt
            self.was_pressed = True

        before = signal.signal(signal.SIGINT, press)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


class Terminated(BaseException):
    """SIGTERM or SIGHUP: unwinds everything, so that the terminal is left in order."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def obey_ctrl_c_together() -> None:
    """Among several ranks, let Ctrl-C end all of them or none: rank 0 decides."""
    if ranks.is_apart():
        return

    def press(number: int, stack: FrameType | None) -> None:
        # in rank 0's own work the others learn of it; else they are somewhere else
        raise KeyboardInterrupt if ranks.is_apart() else Terminated(number)

    signal.signal(signal.SIGINT, press if ranks.is_first() else signal.SIG_IGN)


def obey_signals() -> None:
    """Let SIGTERM and SIGHUP unwind this process, and lose no Ctrl-C.

    An exception that is raised inside a destructor is dropped by Python; the signal is
    sent again then.
    """
    process, before = os.getpid(), sys.unraisablehook

    def end(number: int, stack: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker has nothing to put in order
            os._exit(128 + number)
        raise Terminated(number)

    def dropped(found: "sys.UnraisableHookArgs") -> None:
        again = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}
        if (number := again.get(found.exc_type)) is None:
            before(found)
            return
        timer = threading.Timer(_AGAIN, os.kill, (process, number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = dropped
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)


_AGAIN = 0.02  # seconds: by then the destructor is over
