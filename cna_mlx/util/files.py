"""Paths as people type them."""

import errno
import os
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
