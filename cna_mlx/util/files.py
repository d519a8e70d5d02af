"""Paths as people type them, and files that are written whole or not at all."""

import errno
import os
import tempfile
from pathlib import Path

from cna_mlx.errors import InputError


def typed_path(text: str | os.PathLike[str], source: str = "") -> Path:
    """A path as it was typed, with ``~`` as the home directory that it stands for.

    Nothing has to be there.

    Args:
        text: what was typed.
        source: the option or the variable that it was typed for, for the message.

    Raises:
        InputError: there is no such home directory, or a name in it is too long.
    """
    said = f"{source} {os.fspath(text)}".lstrip()
    path = Path(text)
    try:
        path = path.expanduser()
        path.lstat()
    except RuntimeError:  # ~nobody
        raise InputError(
            f"{said}: no such user's directory; write the path without ~"
        ) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(
                f"{said}: too long for the name of a file; give a shorter one"
            ) from None
    return path


def is_there(text: str | os.PathLike[str]) -> bool:
    """Whether something lies at a path; False where nobody can tell."""
    try:
        return typed_path(text).exists()
    except (OSError, InputError):
        return False


def existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    while not is_there(path) and path != path.parent:
        path = path.parent
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new, never a part.

    Raises:
        InputError: it cannot be written.
    """
    path = typed_path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            # A file's name may hold half a surrogate pair; JSON can say it escaped.
            with os.fdopen(
                handle, "w", encoding="utf-8", errors="backslashreplace"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())  # a power loss must not leave the name alone
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
