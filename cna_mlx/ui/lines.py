"""Plain lines: messages from a pipe, or from a terminal without a movable cursor."""

import select
from collections.abc import Callable
from typing import IO

from rich.text import Text

from cna_mlx.ui.console import Screen

Read = Callable[[], str | None]

_QUOTES = '"""'

# The lines of one paste arrive together; a person does not type this fast.
_PASTE_GAP = 0.02  # seconds


def plain_lines(screen: Screen, source: IO[str]) -> Read:
    """Return a function that reads a command or a whole message; None at the end."""

    def read() -> str | None:
        text = _line(screen, source, "> ")
        while text is not None and is_open(text):
            line = _line(screen, source, "... ")
            if line is None:
                break
            text = f"{text}\n{line}"
        return text

    return read


def _line(screen: Screen, source: IO[str], prompt: str) -> str | None:
    is_typed, line = source.isatty(), ""
    if is_typed:
        screen.out.print(prompt, style="bold", end="")
    try:
        line = source.readline()
        if is_typed and not line.startswith("/"):
            line += _rest_of_paste(source)
    finally:
        if is_typed and not line:  # the cursor is still behind the prompt
            screen.out.print()
    if not line:
        return None
    line = mended(line.rstrip("\r\n"))
    if not is_typed:  # so that a transcript has the questions
        show_line(screen, prompt, line)
    return line


def _rest_of_paste(source: IO[str]) -> str:
    lines = []
    while more_waits(source.fileno()):
        lines.append(source.readline())
        if not lines[-1]:
            break
    return "".join(lines)


def more_waits(file: int) -> bool:
    """Whether more of a paste arrives at a file descriptor."""
    return bool(select.select([file], [], [], _PASTE_GAP)[0])


def mended(text: str) -> str:
    """Replace the bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def show_line(screen: Screen, prompt: str, line: str) -> None:
    """Print a line behind its prompt, as it was typed."""
    screen.out.print(Text(prompt, style="bold") + screen.safe(line))


def is_open(text: str) -> bool:
    """Whether a text begins with three quotes and does not end with three more."""
    body = text.lstrip()
    is_quoted = body.startswith(_QUOTES)
    return is_quoted and not body.removeprefix(_QUOTES).rstrip().endswith(_QUOTES)


def unquoted(text: str) -> str:
    """Return the message without its three quotes, which may not be closed yet."""
    body = text.lstrip()
    if not body.startswith(_QUOTES):
        return text
    return body.removeprefix(_QUOTES).rstrip().removesuffix(_QUOTES).strip("\n")
