"""What a command answers, before anybody draws it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Rows of text in columns.

    Attributes:
        titles: one for each column; empty where the rows need none.
        rows: as many cells each as there are columns.
        numbers: how many of the first columns are set flush right.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 0


@dataclass(frozen=True)
class Reply:
    """What a command answers.

    Attributes:
        text: lines of text.
        is_over: whether the chat has ended.
        is_data: whether this is a result, as an answer is, and no remark.
        grid: a table that follows the text.
        remark: what to keep in mind when reading it.
    """

    text: str
    is_over: bool = False
    is_data: bool = False
    grid: Grid | None = None
    remark: str = ""
