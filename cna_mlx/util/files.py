"""Read paths as people type them; write files atomically."""

import errno
import fcntl
import os
import secrets
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.util import ranks

File = str | os.PathLike[str]


def typed_path(text: File, source: str = "") -> Path:
    """Expand ``~`` in a path; the file need not exist.

    ``source`` is the option or variable of the path, for the message.

    Raises:
        InputError: the home directory does not exist, a name is too long, or it
            contains a NUL character.
    """
    said = f"{source} {os.fspath(text)}".lstrip()
    if "\0" in said:
        raise InputError(f"{said!r}: the name of a file cannot contain a NUL character")
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


def cache_directory() -> Path:
    """``CNA_MLX_CACHE``, else ``cna-mlx`` under ``XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        InputError: there can be no such directory.
    """
    if own := os.environ.get("CNA_MLX_CACHE"):
        return typed_path(own, "CNA_MLX_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return typed_path(base, "XDG_CACHE_HOME") / "cna-mlx"


def without_home(text: File) -> str:
    """A path for files that are passed on: ``~`` in place of the home directory."""
    path = os.fspath(text)
    try:
        home = str(Path.home()).rstrip("/")
    except RuntimeError:  # there is none
        return path
    is_inside = home and (path == home or path.startswith(f"{home}/"))
    return f"~{path.removeprefix(home)}" if is_inside else path


def shell_word(text: File) -> str:
    """A path or a name as it is typed in a shell; ``~`` is left for the shell."""
    path = os.fspath(text)
    head = "~/" if path.startswith("~/") else ""
    return head + shlex.quote(path.removeprefix(head))


def is_there(text: str | os.PathLike[str]) -> bool:
    """Whether a path exists; False if unknown."""
    return ranks.first(lambda: _exists(text))


def _exists(text: File) -> bool:
    try:
        return typed_path(text).exists()
    except (OSError, ValueError, InputError):  # ValueError: a NUL character
        return False


def check_writable(path: File | None) -> None:
    """Check that a file can be written, before long work.

    Raises:
        InputError: it is a directory or a circle of links, or its directory is missing
            or read-only.
    """
    if path is not None:
        ranks.first(lambda: _check_writable(path))


def _check_writable(path: File) -> None:
    place = typed_path(path)
    _target(place)
    parent = place.parent
    if place.is_dir():
        raise InputError(f"{path} is a directory; give the name of a file in it")
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written (there is no directory {parent})")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be written ({parent} is read-only)")


@contextmanager
def file_errors(path: Path, deed: str = "written") -> Iterator[None]:
    """Raise InputError if a file inside the block cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be {deed} ({error.strerror})") from None


def existing(path: Path) -> Path:
    """The path, or the nearest parent directory that exists."""
    while not is_there(path) and path != path.parent:
        path = path.parent
    return path


def make_directory(path: Path) -> None:
    """Make a directory and those above it, for their owner only.

    Raises:
        InputError: it cannot be made.
    """
    if not ranks.is_first():
        return
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made ({error.strerror}); give another --out"
        ) from None


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file, text as UTF-8: a reader sees the old or the new, never a part.

    A symbolic link stays, and what it leads to is written; a device or a pipe is
    written to. ``mode`` applies from a file's creation, less the process's umask. Of
    several ranks only the first writes.

    Raises:
        InputError: it cannot be written.
    """
    if not ranks.is_first():
        return
    path = typed_path(path)
    if isinstance(content, str):
        # A file name may contain half a surrogate pair: escape it.
        content = content.encode(errors="backslashreplace")
    with file_errors(path):
        if path.exists() and not path.is_file():
            _write_to_device(path, content)
        else:
            _replace(_target(path), content, mode)


def _target(path: Path) -> Path:
    """What a symbolic link leads to, or the path itself."""
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError):  # the latter up to Python 3.12
        raise InputError(
            f"{path}: a symbolic link that leads back to itself; give another name"
        ) from None


def _replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power loss leaves an empty file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_to_device(path: Path, content: bytes) -> None:
    # a pipe that nobody reads is an error, and not a wait
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def lock(file: IO[Any]) -> bool | None:
    """Lock an open file until it is closed or its process ends, however it ends.

    Returns:
        True; None if another process has it; False on a file system without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return None
    except OSError:  # as on some network drives
        return False
    return True


def packaged_toml(package: str, name: str) -> dict[str, Any]:
    """Return the content of a TOML file of this package."""
    return tomllib.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
