"""The one door for files: regular files only, with limits of size, depth and type.

Every reader of a file takes its content from here. What is refused raises an OSError or
a ValueError with a reason, which the reader puts into its own message.
"""

import errno
import io
import json
import math
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from cna_mlx.util import ranks
from cna_mlx.util.files import File

if TYPE_CHECKING:  # most files need no numpy
    import numpy as np

#: Exceptions of a damaged npz archive; zipfile takes flipped bits for features.
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    MemoryError,  # a header that asks for more than there is
    RuntimeError,  # and NotImplementedError
    SyntaxError,  # NumPy reads some types as Python
)

#: Bytes: of the answers of a run, of a document, of settings, of the JSON that begins
#: a safetensors file (the format's own limit).
LARGEST_FILE = 2_000_000_000
LARGEST_DOCUMENT = 200_000_000
LARGEST_SETTINGS = 20_000_000
LARGEST_HEADER = 100_000_000
#: Lists and objects inside each other.
DEEPEST = 64


class BeyondLimits(ValueError):
    """A JSON text is nested more deeply than any file needs."""


def read_file(path: File, most: int = LARGEST_DOCUMENT) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be read, is a device, a pipe or a directory, or is larger.
    """
    with opened(path) as file:
        return read_stream(file, most)


def read_text(path: File, most: int = LARGEST_DOCUMENT) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        OSError: as :func:`read_file`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_file(path, most).decode()


def opened(path: File) -> IO[bytes]:
    """Open a regular file for reading, without waiting for the other end of a pipe.

    Of several ranks the first reads it.

    Raises:
        OSError: as :func:`read_file`.
    """
    if not ranks.is_apart():
        return io.BytesIO(ranks.first(lambda: _content(path)))
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "its name contains a NUL character")
    return open(path, "rb", opener=_open_regular)


def _content(path: File) -> bytes:
    with opened(path) as file:
        content: bytes = read_stream(file, LARGEST_FILE)
    return content


def _open_regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "a device or a pipe, not a file")


def read_stream(stream: IO[Any], most: int = LARGEST_DOCUMENT) -> Any:
    """The rest of a stream: at most ``most`` bytes or characters.

    Raises:
        OSError: it has more.
    """
    content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most / 1e6:,.0f} MB")
    return content


def parse_json(text: str | bytes, *, finite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        finite: refuse NaN and infinity, which files of ours do not have.

    Raises:
        ValueError: it is not JSON; BeyondLimits if it is nested too deeply.
    """
    constant = _refuse if finite else None
    try:
        found = json.loads(text, parse_constant=constant)
    except RecursionError:
        raise BeyondLimits(_TOO_DEEP) from None
    _check(found, finite)
    return found


_TOO_DEEP = f"more than {DEEPEST} lists and objects inside each other"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check(value: Any, finite: bool) -> None:
    """Check the depth of a value, and that 1e999 did not become infinity."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [part for one in level for part in _parts(one)]
        if finite and (math.inf in inner or -math.inf in inner):
            raise ValueError("a number beyond the range of floating point")
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return
    raise BeyondLimits(_TOO_DEEP)


def _parts(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_arrays(path: Path, most: int = LARGEST_FILE) -> "dict[str, np.ndarray]":
    """The arrays of an npz archive, without pickles.

    Raises:
        OSError: as :func:`read_file`.
        ValueError: it is damaged, or its arrays take more than ``most`` bytes.
    """
    import numpy as np

    # a file of our own: np.load leaves the one that it opens open where it fails
    with opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(one.file_size for one in archive.infolist())
            if size > most:
                raise ValueError(f"{size} bytes of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        except DAMAGED_ARCHIVE as error:
            raise ValueError(f"damaged, or cut off ({error})") from None
