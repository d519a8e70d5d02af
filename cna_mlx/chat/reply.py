"""What a chat command answers, before it is drawn."""

from dataclasses import dataclass

from cna_mlx.discovery.strip import Word
from cna_mlx.steering.first_tokens import FirstTokens


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
        words: a prompt with the gauge up to each word, below the text.
        first: what answers begin with, below the words.
        remark: a caveat below the rest.
        ask: a message to answer next.
    """

    text: str
    is_over: bool = False
    is_data: bool = False
    grid: Grid | None = None
    words: tuple[Word, ...] = ()
    first: FirstTokens | None = None
    remark: str = ""
    ask: str | None = None
