"""Keep a conversation on the disk while it is held, so that a crash loses nothing."""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.transcripts import as_json
from cna_mlx.errors import InputError
from cna_mlx.util.files import lock, write_atomically
from cna_mlx.util.formatting import counted
from cna_mlx.util.reading import parse_json, read_text

#: The conversation of the last chat that did not end as it should.
LAST = "last.json"
# A process, and a part that tells it from a later process of the same number.
_OWN_NAME = re.compile(r"(\d+)(-[0-9a-f]+)?")
_LOCK = ".lock"


@dataclass(frozen=True)
class LeftChat:
    """A conversation that a crashed or killed chat left behind.

    Attributes:
        path: its file, for `/load`.
        title: its model, its turns, and when its last answer ended.
        others: how many more were left, for later chats.
    """

    path: Path
    title: str
    others: int = 0


class ChatJournal:
    """The file of a conversation that is being held.

    It is written after every turn and removed when the chat ends. A lock beside it says
    that the chat is running: the system releases it however the process ends. Where
    nothing can be written, the chat goes on without a file.

    Args:
        directory: of the journals; None keeps nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        name = f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._path = directory and directory / name
        self._lock: IO[Any] | None = None

    def recover(self) -> LeftChat | None:
        """Rename what the last crashed chat left to :data:`LAST`; None if nothing."""
        if self._path is None:
            return None
        left = sorted(self._left(self._path.parent), reverse=True)
        for number, (ended, path) in enumerate(left, 1):
            with suppress(OSError, ValueError, LookupError, TypeError):
                title = _title(path, ended)
                kept = path.replace(path.with_name(LAST))
                path.with_suffix(_LOCK).unlink(missing_ok=True)
                return LeftChat(kept, title, len(left) - number)
        return None

    def _left(self, directory: Path) -> list[tuple[float, Path]]:
        """When each chat that has ended wrote its file, and the file."""
        found = []
        with suppress(OSError):
            for path in directory.glob("*.json"):
                own = _OWN_NAME.fullmatch(path.stem)
                if own and path != self._path and not _is_running(path, int(own[1])):
                    found.append((path.stat().st_mtime, path))
        return found

    def write(self, chat: Conversation) -> None:
        """Write the conversation as `/save` does, once something was asked."""
        if self._path is None or not chat.turns:
            return
        with suppress(OSError, InputError, ValueError, TypeError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._lock is None:
                self._lock = self._path.with_suffix(_LOCK).open("wb")
                lock(self._lock)
            write_atomically(self._path, as_json(chat), 0o600)

    def close(self) -> None:
        """Remove the file: the chat ended."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
                self._path.with_suffix(_LOCK).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def _is_running(path: Path, process: int) -> bool:
    """Whether the chat of a file is held; by its process's number without a lock."""
    with suppress(OSError), path.with_suffix(_LOCK).open("rb") as file:
        if (is_free := lock(file)) is not False:
            return is_free is None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _title(path: Path, ended: float) -> str:
    data = parse_json(read_text(path))
    turns = counted(len(data["turns"]), "turn")
    at = datetime.fromtimestamp(ended).astimezone()
    return f"{data['model']}, {turns}, last written {at:%Y-%m-%d %H:%M}"
