"""Read the records of a file: lines, tables, JSON, and what other tools write."""

import io
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cna_mlx.errors import InputError
from cna_mlx.prompts.columns import KNOWN
from cna_mlx.prompts.sources import Opened
from cna_mlx.prompts.tables import DELIMITERS, Table, find_name, parse_table
from cna_mlx.prompts.validation import kind
from cna_mlx.util.reading import DAMAGED_ARCHIVE, parse_json

RECORDS = (".json", ".jsonl", ".ndjson")

_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"
# The keys under which tools keep their records, where an object has several lists.
_KEYS = ("samples", "jailbreaks")
_DEEPEST = 4  # keys down to a list
_MOST_NAMED = 8
_MOST_BYTES = 1 << 30  # of the samples of a log
_ZSTD = 93  # the method of compression, as zip archives number it
_EXTRA = "needs an extra: pip install 'cna-mlx[files]'"


class Records(NamedTuple):
    """The records of a file.

    Attributes:
        name: of the file, for messages.
        rows: the place and the value of each: a string or an object.
        head: the table, if the file is one.
        key: of an object, the key of the list that was read; else None.
    """

    name: str
    rows: list[tuple[str, object]]
    head: Table | None = None
    key: str | None = None

    @property
    def may_lack(self) -> bool:
        """Whether a tool wrote them, which leaves null where it got nothing."""
        return self.key in _KEYS


def read_records(one: Opened, key: str | None = None) -> Records:
    """The records of a source.

    Args:
        key: of an object, the list to read where it has several; else ignored.

    Raises:
        InputError: the content is not what its suffix says, or has no list.
    """
    if one.more:
        return _of_shards(one, key)
    suffix, name = one.suffix, one.name
    if suffix == ".parquet" or one.content.startswith(_PARQUET):
        return Records(name, list(_of_parquet(one)))
    if suffix == ".eval" or one.content.startswith(_ZIP):
        return Records(name, list(_of_log(one)), key="samples")
    if suffix in DELIMITERS:
        table = parse_table(one.text, name, DELIMITERS[suffix])
        return Records(name, list(_of_table(table)), table)
    text = one.text
    if suffix == ".json" and not _is_lines(text):
        return _of_json(text, name, key)
    if suffix in RECORDS:
        return Records(name, list(_of_lines(text, name)))
    return Records(name, list(lines(text, name)))


def _of_shards(one: Opened, key: str | None) -> Records:
    """The records of all shards of a split, one after the other."""
    found = [
        read_records(
            replace(one, name=f"{one.name}, shard {n}", content=content, more=()), key
        )
        for n, content in enumerate((one.content, *one.more), start=1)
    ]
    rows = [row for shard in found for row in shard.rows]
    return found[0]._replace(name=one.name, rows=rows)


def _of_lines(text: str, name: str) -> Iterator[tuple[str, object]]:
    for where, line in lines(text, name):
        try:
            record = parse_json(line)
        except ValueError as error:
            reason = getattr(error, "msg", str(error))
            raise InputError(
                f"{where}: not JSON ({reason}); put one JSON value on each line"
            ) from error
        yield where, record


def lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    # Not splitlines: it also breaks at characters that JSON strings may contain.
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(found, start=1):
        if line.strip():
            yield f"{name}, line {number}", line.strip()


def _is_lines(text: str) -> bool:
    """Whether a .json file holds JSON Lines: its first line is a whole object."""
    first, _, rest = text.strip().partition("\n")
    if not (first.startswith("{") and rest.lstrip().startswith("{")):
        return False
    try:
        return isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _of_json(text: str, name: str, key: str | None) -> Records:
    try:
        found = parse_json(text)
    except ValueError as error:
        reason, line = getattr(error, "msg", str(error)), getattr(error, "lineno", 0)
        where = f"{name}, line {line}" if line else name
        hint = "; JSON Lines end in .jsonl" if reason == "Extra data" else ""
        raise InputError(
            f"{where}: not JSON ({reason}){hint}; correct the file"
        ) from error
    if isinstance(found, dict):
        return _of_object(found, name, key)
    if not isinstance(found, list):
        raise InputError(
            f"{name}: {kind(found)}; a list of strings or objects is expected"
        )
    return Records(name, _items(found, name))


def _items(records: Sequence[Any], name: str) -> list[tuple[str, object]]:
    return [(f"{name}, item {number}", one) for number, one in enumerate(records, 1)]


def _of_object(data: dict[str, Any], name: str, key: str | None) -> Records:
    """The records of an object: of the list that is named, or that is the only one."""
    lists = dict(_lists(data))
    if key is None or key not in lists:
        if _is_by_behaviour(data):
            parts = (_items(one, f"{name}, {own}") for own, one in data.items())
            return Records(name, [row for part in parts for row in part])
        if (table := _columns(data)) is not None:
            return Records(name, _items(table, name))
        key = next((one for one in _KEYS if one in lists), None)
        if key is None and len(lists) != 1:
            raise InputError(f"{name}: an object; {_remedy(lists)}")
        key = key or next(iter(lists))
    return Records(name, _items(lists[key], f"{name}, {key}"), key=key)


def _remedy(lists: dict[str, list[Any]]) -> str:
    if not lists:
        return "a list of strings or objects is expected"
    sizes = [f"{one!r} ({len(records)})" for one, records in lists.items()]
    more = ", ..." if len(sizes) > _MOST_NAMED else ""
    return (
        f"its lists are {', '.join(sizes[:_MOST_NAMED])}{more}: name one after the "
        f"file, e.g. FILE:{next(iter(lists))}"
    )


def _lists(data: dict[str, Any], above: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The lists of records in an object, by their keys from the top, with dots."""
    for key, value in data.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and path.count(".") < _DEEPEST:
            yield from _lists(value, f"{path}.")
        elif isinstance(value, list) and _are_records(value):
            yield path, value


def _are_records(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(one, dict | str) for one in values)


def _is_by_behaviour(data: dict[str, Any]) -> bool:
    """Whether an object is HarmBench's: test cases or results by behaviour."""
    fields = ("test_case", "generation")
    return bool(data) and all(
        isinstance(records, list)
        and all(
            isinstance(one, dict) and any(name in one for name in fields)
            for one in records
        )
        for records in data.values()
    )


def _columns(data: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of an object of columns, as pandas writes one; None for any other."""
    columns = {
        key: list(value.values()) if isinstance(value, dict) else value
        for key, value in data.items()
    }
    sizes = {len(one) if isinstance(one, list) else -1 for one in columns.values()}
    is_known = any(find_name(list(columns), one) for one in KNOWN)
    if len(columns) < 2 or len(sizes) != 1 or sizes & {-1, 0} or not is_known:
        return None
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _of_table(table: Table) -> Iterator[tuple[str, object]]:
    for where, row in table.rows():
        # of two columns of one name the last; the reader names both
        yield where, dict(zip(table.columns, row, strict=True))


def _of_parquet(one: Opened) -> Iterator[tuple[str, object]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise InputError(f"{one.name}: parquet {_EXTRA}") from None
    try:
        rows = read_table(io.BytesIO(one.content)).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise InputError(
            f"{one.name}: not parquet, or damaged ({reason}); fetch it again"
        ) from None
    for number, row in enumerate(rows, start=1):
        yield f"{one.name}, row {number}", row


def _of_log(one: Opened) -> Iterator[tuple[str, object]]:
    """The samples of an Inspect log, a zip archive with a file for each."""
    try:
        with zipfile.ZipFile(io.BytesIO(one.content)) as archive:
            entries = [entry for entry in archive.infolist() if _is_sample(entry)]
            if sum(entry.file_size for entry in entries) > _MOST_BYTES:
                raise InputError(f"{one.name}: over 1 GiB of samples; cut the log")
            texts = [(entry.filename, _unzip(archive, entry, one)) for entry in entries]
    except (*DAMAGED_ARCHIVE, OSError) as error:
        raise InputError(
            f"{one.name}: not an Inspect log, or damaged ({error}); fetch it again"
        ) from None
    if not texts:
        raise InputError(
            f"{one.name}: a zip archive without samples; an Inspect log is expected"
        )
    for name, text in texts:
        where = f"{one.name}, {name}"
        try:
            yield where, parse_json(text)
        except ValueError as error:
            raise InputError(f"{where}: not JSON ({error}); fetch it again") from None


def _is_sample(entry: zipfile.ZipInfo) -> bool:
    name = entry.filename
    return name.startswith("samples/") and name.endswith(".json")


def _unzip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, one: Opened) -> bytes:
    """The content of an entry; zstd is beyond zipfile before Python 3.14."""
    if entry.compress_type != _ZSTD or sys.version_info >= (3, 14):
        return archive.read(entry)
    try:
        from pyarrow import Codec
    except ImportError:
        raise InputError(
            f"{one.name}: a log compressed with zstd {_EXTRA}, or write it as JSON: "
            "inspect log convert --to json"
        ) from None
    at = entry.header_offset
    start = at + 30 + sum(struct.unpack_from("<HH", one.content, at + 26))
    packed = one.content[start : start + entry.compress_size]
    unpacked = Codec("zstd").decompress(packed, entry.file_size)
    return bytes(unpacked)
