"""Check for Ctrl-C between tokens."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """A flag that Ctrl-C sets, in place of an exception."""

    def __init__(self) -> None:
        self.was_pressed = False

    def __call__(self) -> bool:
        return self.was_pressed

    @contextmanager
    def watching(self) -> Iterator["Interrupt"]:
        """Set the flag at the first Ctrl-C; raise KeyboardInterrupt at the second."""
        self.was_pressed = False

        def press(number: int, stack: FrameType | None) -> None:
            if self.was_pressed:
                raise KeyboardInterrupt
            self.was_pressed = True

        before = signal.signal(signal.SIGINT, press)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)
