"""What a chat command answers, before it is drawn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Rows of text in columns.

    Attributes:
        titles: of the columns; may be empty.
        numbers: the number of leading columns that are right-aligned.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 0


@dataclass(frozen=True)
class Reply:
    """A command's answer.

    Attributes:
        is_over: whether the chat ends.
        is_data: whether the text is a result and not a remark.
        grid: a table below the text.
        remark: a caveat below the table.
    """

    text: str
    is_over: bool = False
    is_data: bool = False
    grid: Grid | None = None
    remark: str = ""
