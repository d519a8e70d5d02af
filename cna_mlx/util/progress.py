"""How the library tells how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done, the steps done, and the steps in all."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def silent(task: str, done: int, total: int) -> None:
    """Tell nobody."""
