"""Edit a message in the terminal: history, completion, paste, several lines."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_session
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    PathCompleter,
    WordCompleter,
)
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.vt100 import Vt100_Output

from cna_mlx.chat.commands import COMMANDS
from cna_mlx.chat.settings import SETTINGS
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lines import Read, is_open, mended, more_waits, show_line


def line_editor(screen: Screen, history: Path | None = None) -> Read:
    """Return a function that reads a message at a prompt; None for Ctrl-D.

    Without a ``history`` file, what was typed is kept for the session.
    """
    output = get_app_session().output
    if isinstance(output, Vt100_Output):
        # the reply to a query of the cursor would mix with what is typed ahead
        output.enable_cpr = False
    session: PromptSession[str] = PromptSession(
        [("bold", "> ")],
        prompt_continuation=lambda _, __, wrapped: "" if wrapped else "... ",
        completer=CommandCompleter(),
        complete_while_typing=False,
        history=None if history is None else _PrivateHistory(history),
        key_bindings=_key_bindings(),
        enable_suspend=True,
        erase_when_done=True,  # a message that is longer than the screen was cut
    )

    def read() -> str | None:
        try:
            text = mended(session.prompt())
        except EOFError:
            return None
        for number, line in enumerate(text.split("\n")):
            show_line(screen, "... " if number else "> ", line)
        return text

    return read


def _key_bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter", filter=has_focus(DEFAULT_BUFFER))
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        menu = buffer.complete_state
        if menu and menu.current_completion:
            buffer.complete_state = None  # takes the completion
        elif is_open(buffer.text) or _is_pasting(event):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    return bindings


def _is_pasting(event: KeyPressEvent) -> bool:
    """Whether more text came with this line, in a terminal that marks no paste."""
    if event.current_buffer.text.startswith("/"):
        return False
    waiting = event.key_processor.input_queue
    return bool(waiting) or more_waits(event.app.input.fileno())


class CommandCompleter(Completer):
    """Completes commands and their arguments."""

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        name, gap, argument = document.text_before_cursor.partition(" ")
        command = COMMANDS.get(name)
        if not gap:
            help_of = {f"{name} ": one.help for name, one in COMMANDS.items()}
            completer: Completer = _words(help_of)
        elif command is None:
            return ()
        elif command.takes_file:
            completer = PathCompleter(expanduser=True)
        else:
            words = SETTINGS if name == "/set" else command.choices
            completer = _words({f"{word} ": "" for word in words})
        return completer.get_completions(
            Document(argument if gap else name), complete_event
        )


def _words(words: dict[str, str]) -> WordCompleter:
    return WordCompleter(list(words), meta_dict=words, sentence=True)


class _PrivateHistory(FileHistory):
    """A history file that only its owner can read; errors of the file are ignored."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        try:
            return super().load_history_strings()
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(0o600)
            super().store_string(mended(string))
