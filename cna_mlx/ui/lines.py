"""Where the chat's lines come from: a terminal with history and completion, a pipe."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import IO

from rich.text import Text

from cna_mlx.chat import COMMANDS
from cna_mlx.ui.console import Screen

_REMEMBERED = 1000
# The lines of one paste arrive together; a person does not type this fast.
_PASTE_GAP = 0.02

Read = Callable[[str], str | None]


def line_reader(
    screen: Screen, source: IO[str] | None = None, history: Path | None = None
) -> Read:
    """Something that shows a prompt and returns a line, or None at the end.

    Args:
        screen: where a pipe's lines are repeated, so that a transcript is whole.
        source: where lines come from; standard input if None.
        history: a file that keeps what was typed between sessions.
    """
    source = source or sys.stdin
    if isinstance(source, TextIOWrapper):  # _mended sees to what is no text
        source.reconfigure(errors="surrogateescape")
    if source is not sys.stdin or not source.isatty():
        return lambda prompt: _from_pipe(screen, source, prompt)
    readline = _line_editing(screen)
    if readline and history:
        _recall(readline, history)

    def from_terminal(prompt: str) -> str | None:
        try:
            line = input(prompt)
        except EOFError:
            screen.out.print()
            return None
        if not line.startswith("/"):
            line = "\n".join([line, *_rest_of_paste()])
        if readline and history:
            _keep(readline, history)
        return _mended(line)

    return from_terminal


def _from_pipe(screen: Screen, source: IO[str], prompt: str) -> str | None:
    line = source.readline()
    if not line:
        return None
    line = _mended(line.rstrip("\r\n"))
    # a transcript reads better with the questions in it
    screen.out.print(Text(prompt, style="bold") + screen.safe(line))
    return line


def _line_editing(screen: Screen) -> ModuleType | None:
    """Arrow keys, history and completion, where Python was built with them."""
    try:
        import readline
    except ImportError:
        return None
    if screen.is_live:  # a dumb terminal would print what turns it on
        readline.parse_and_bind("set enable-bracketed-paste on")
    readline.set_completer_delims(" ")
    readline.set_completer(
        lambda text, state: _nth(completions(readline.get_line_buffer(), text), state)
    )
    is_libedit = "libedit" in (readline.__doc__ or "")
    # macOS's Python comes with either
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    return readline


def _nth(matches: list[str], state: int) -> str | None:
    return matches[state] if state < len(matches) else None


def completions(line: str, word: str) -> list[str]:
    """What a word of a line may become: a command, its argument, a file.

    Args:
        line: all that was typed so far.
        word: its last word, which is to be completed.
    """
    name, gap, _ = line.lstrip().partition(" ")
    if not gap:
        return [f"{name} " for name in COMMANDS if word and name.startswith(word)]
    command = COMMANDS.get(name)
    if command is None:
        return []
    if command.takes_file:
        return _files(word)
    return [f"{one} " for one in command.words() if one.startswith(word)]


def _files(word: str) -> list[str]:
    directory, _, start = word.rpartition("/")
    where = Path(f"{directory}/" if "/" in word else ".")
    prefix = f"{directory}/" if "/" in word else ""
    try:
        children = where.expanduser().iterdir()
        found = sorted(path for path in children if path.name.startswith(start))
    except (OSError, RuntimeError):  # none, or ~nobody's
        return []
    return [f"{prefix}{path.name}{'/' if path.is_dir() else ''}" for path in found]


def _rest_of_paste() -> list[str]:
    """The lines that came together with the first, where the terminal marks no paste.

    With bracketed paste the whole paste is one line of input already.
    """
    lines = []
    while sys.stdin in select.select([sys.stdin], [], [], _PASTE_GAP)[0]:
        try:
            lines.append(input())
        except EOFError:
            break
    return lines


def _recall(readline: ModuleType, history: Path) -> None:
    readline.set_history_length(_REMEMBERED)
    with suppress(OSError):  # none yet, or not ours to read
        readline.read_history_file(history)


def _keep(readline: ModuleType, history: Path) -> None:
    """Write what was typed, after each line: a window may be closed at any time."""
    with suppress(OSError):
        history.parent.mkdir(parents=True, exist_ok=True)
        # what people ask is nobody else's affair
        os.close(os.open(history, os.O_CREAT | os.O_WRONLY, 0o600))
        readline.write_history_file(history)


def _mended(line: str) -> str:
    """A line as UTF-8, whatever the locale took its bytes for."""
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
