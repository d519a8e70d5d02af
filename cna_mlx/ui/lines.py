"""Read what the user types: from an edited terminal line, or from plain lines."""

import select
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import IO

from rich.text import Text

from cna_mlx.chat.composer import is_open
from cna_mlx.ui.console import Screen

# The lines of one paste arrive together; a person does not type this fast.
PASTE_GAP = 0.02  # seconds

Read = Callable[[], str | None]


def message_reader(
    screen: Screen, source: IO[str] | None = None, history: Path | None = None
) -> Read:
    """Return a function that reads a command or a whole message; None at the end.

    Args:
        screen: repeats the lines of a pipe, so that a transcript has the questions.
        source: where lines come from; standard input if None.
        history: a file that keeps what was typed between sessions.
    """
    source = source or sys.stdin
    if isinstance(source, TextIOWrapper):  # messages are UTF-8 in every locale
        source.reconfigure(encoding="utf-8", errors="surrogateescape")
    if source is sys.stdin and source.isatty() and screen.is_live:
        # its import takes time that a pipe does not have to wait
        from cna_mlx.ui.line_editor import line_editor

        return line_editor(screen, history)
    return lambda: _plain_message(screen, source)


def _plain_message(screen: Screen, source: IO[str]) -> str | None:
    text = _plain_line(screen, source, "> ")
    while text is not None and is_open(text):
        line = _plain_line(screen, source, "... ")
        if line is None:
            break
        text = f"{text}\n{line}"
    return text


def _plain_line(screen: Screen, source: IO[str], prompt: str) -> str | None:
    """A line of a pipe, or of a terminal that cannot move its cursor."""
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
    if not is_typed:
        show_line(screen, prompt, line)
    return line


def show_line(screen: Screen, prompt: str, line: str) -> None:
    """Print a line as it looked while it was typed."""
    screen.out.print(Text(prompt, style="bold") + screen.safe(line))


def _rest_of_paste(source: IO[str]) -> str:
    lines = []
    while source in select.select([source], [], [], PASTE_GAP)[0]:
        lines.append(source.readline())
        if not lines[-1]:
            break
    return "".join(lines)


def mended(text: str) -> str:
    """Replace the bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
