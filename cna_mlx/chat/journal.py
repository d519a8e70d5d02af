"""Keep a conversation on the disk while it is held, so that a crash loses nothing."""

import os
from contextlib import suppress
from pathlib import Path

from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.transcripts import as_json
from cna_mlx.errors import InputError
from cna_mlx.util.files import write_atomically

#: The conversation of the last chat that did not end as it should.
LAST = "last.json"


class ChatJournal:
    """The file of a conversation that is being held, named by its process.

    It is written after every turn and removed when the chat ends. Where it cannot be
    written, the chat goes on without it.

    Args:
        directory: of the journals; None keeps nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = directory and directory / f"{os.getpid()}.json"

    def recover(self) -> Path | None:
        """Rename what a crashed chat left to :data:`LAST`; None if nothing is left."""
        if self._path is None:
            return None
        found, last = None, self._path.with_name(LAST)
        with suppress(OSError):
            for path in self._path.parent.glob("*.json"):
                if path.stem.isdecimal() and not _is_running(int(path.stem)):
                    found = path.replace(last)
        return found

    def write(self, chat: Conversation) -> None:
        """Write the conversation as `/save` does, once something was asked."""
        if self._path is None or not chat.turns:
            return
        with suppress(OSError, InputError, ValueError, TypeError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path, as_json(chat), 0o600)

    def close(self) -> None:
        """Remove the file: the chat ended."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
