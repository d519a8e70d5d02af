"""Open what prompts and answers come from: a file, standard input, a Hub data set."""

import gzip
import io
import os
import re
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.hub_files import fetch_split
from cna_mlx.prompts.validation import shown
from cna_mlx.util import ranks
from cna_mlx.util.files import is_there, typed_path
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import read_file, read_stream

Source = str | os.PathLike[str]

#: The endings that give a format; anything else is text, one prompt a line.
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".eval")

_GZIP = b"\x1f\x8b"
_MOST_BYTES = 1 << 30  # of a file that is compressed
_DATA_SET = re.compile(r"([\w.-]+/[\w.-]+):([\w./-]+)(?::([^:]+))?")
# What a file is that cannot be read, by its first bytes; and what to do.
_FOREIGN = {
    b"ARROW1": "an Arrow file; save it as parquet",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first (zstd -d)",
    b"BZh": "compressed with bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ": "compressed with xz; unpack it first (unxz)",
    b"SQLite": "an SQLite database; export the table as CSV",
}


@dataclass(frozen=True)
class Opened:
    """The content of a source.

    Attributes:
        name: for messages.
        stem: short and fit for the name of a set.
        suffix: the format, one of :data:`FORMATS`; or anything else for text.
        content: the bytes, unpacked.
        column: the column that the source names after a colon, or None.
        revision: the commit of a data set, or None.
        more: the further shards of a data set, unpacked.
    """

    name: str
    stem: str
    suffix: str
    content: bytes
    column: str | None = None
    revision: str | None = None
    more: tuple[bytes, ...] = ()

    @property
    def text(self) -> str:
        """The content as text; raises as :func:`decode`."""
        return decode(self.content, self.name)


def open_source(
    source: Source,
    stdin: IO[Any] | None = None,
    *,
    offline: bool = False,
    progress: Progress = silent,
) -> Opened:
    """Read ``FILE``, ``FILE:COLUMN``, ``-`` or ``org/set:split[:column]``.

    Args:
        source: a file that exists wins over the other readings of its name.
        stdin: the stream for ``-``; if None, the process's standard input.
        offline: make no request for a data set.
        progress: called for a download.

    Raises:
        InputError: it cannot be read.
        HubError: the network or the Hub failed.
    """
    text = os.fspath(source)
    if (found := _data_set(text)) is not None:
        name, split, column = found
        one = fetch_split(name, split, offline=offline, progress=progress)
        stem = f"{name.rpartition('/')[2]}-{split}".replace("/", "-")
        where, (content, *more) = f"{name}:{split}", one.contents
        return _unpacked(
            Opened(where, stem, one.file, content, column, one.revision, tuple(more))
        )
    path, column = split_column(text)
    content, name = read_bytes(path, stdin), source_name(path)
    if path == "-":
        return _unpacked(Opened(name, "stdin", "", content, column))
    return _unpacked(Opened(name, Path(path).stem, path, content, column))


def split_column(text: str) -> tuple[str, str | None]:
    """A path, and the column after its last colon if the path exists without it."""
    path, _, column = text.rpartition(":")
    if path and column and not is_there(text) and (path == "-" or is_there(path)):
        return path, column
    return text, None


def names_source(text: str) -> bool:
    """Whether a text is a file that exists, standard input, or a Hub data set."""
    path = split_column(text)[0]
    return path == "-" or bool(path and is_there(path)) or _data_set(text) is not None


def source_name(source: Source) -> str:
    """What to call a source in messages."""
    name = os.fspath(source)
    return "standard input" if name == "-" else shown(name)


def read_bytes(source: Source, stdin: IO[Any] | None = None) -> bytes:
    """The content of a file or of standard input.

    Raises:
        InputError: it cannot be read.
    """
    return ranks.first(lambda: _read_bytes(source, stdin))


def _read_bytes(source: Source, stdin: IO[Any] | None) -> bytes:
    name = source_name(source)
    if os.fspath(source) == "-":
        stream = sys.stdin if stdin is None else stdin
        if stream is None:
            raise InputError(f"{name}: closed; name a file of prompts")
        content: bytes | str = _read_stream(getattr(stream, "buffer", stream), name)
        if isinstance(content, str):
            # half a surrogate pair is not UTF-8, which decode() reports
            return content.encode("utf-8", "surrogatepass")
        return content
    try:
        return read_file(typed_path(source), _MOST_BYTES)
    except IsADirectoryError as error:
        raise InputError(f"{name}: a directory; name a file of prompts") from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{name}: cannot be read ({reason.lower()}); check the file, or give - "
            "and pipe it in"
        ) from error


def _read_stream(stream: IO[Any], name: str) -> bytes | str:
    try:
        return read_stream(stream, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; give a part of it") from None


def decode(content: bytes, name: str) -> str:
    """The text of a file of prompts.

    Raises:
        InputError: it is not UTF-8, or contains a NUL byte.
    """
    for start, what in _FOREIGN.items():
        if content.startswith(start):
            raise InputError(f"{name}: {what}")
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: byte {error.start + 1} "
            f"(0x{content[error.start]:02x}) is not UTF-8; save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}, line {line}: a NUL byte; save the file as UTF-8")
    return text


def _data_set(text: str) -> tuple[str, str, str | None] | None:
    """The name, split and column of a Hub data set; None for anything else."""
    found = _DATA_SET.fullmatch(text)
    if found is None or is_there(text) or is_there(split_column(text)[0]):
        return None
    # a file that is missing, with a column
    if Path(found[1]).suffix.lower() in (*FORMATS, ".txt", ".gz"):
        return None
    return found[1], found[2], found[3]


def _unpacked(one: Opened) -> Opened:
    """A source with its suffix in the place of its file's name, without gzip."""
    path, content, stem = Path(one.suffix), one.content, one.stem
    if content.startswith(_GZIP):
        content = _gunzip(content, one.name)
        if path.suffix.lower() == ".gz":
            path, stem = path.with_suffix(""), Path(one.stem).stem
    more = tuple(
        _gunzip(shard, one.name) if shard.startswith(_GZIP) else shard
        for shard in one.more
    )
    suffix = path.suffix.lower()
    return replace(one, stem=stem, suffix=suffix, content=content, more=more)


def _gunzip(content: bytes, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            found = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: damaged gzip ({error}); fetch it again") from None
    if len(found) > _MOST_BYTES:
        raise InputError(f"{name}: over 1 GiB when unpacked; cut the file")
    return found
