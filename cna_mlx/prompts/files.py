"""Read prompts from a user's files: text, JSON, JSON Lines, CSV and TSV."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.contrasts import PromptSet
from cna_mlx.prompts.tables import (
    DELIMITERS,
    Table,
    clip,
    find_name,
    listed,
    parse_table,
)
from cna_mlx.prompts.validation import (
    Located,
    check_contrast,
    check_prompt,
    kind,
    shown,
)

# In the order of preference, in any case.
KNOWN_COLUMNS = ("prompt", "text", "goal")
RECORDS = (".json", ".jsonl")

# A longer header of a single column is a prompt: the header is missing.
_COLUMN_NAME = re.compile(r"[\w.-]+( [\w.-]+){0,2}")

Source = str | os.PathLike[str]


def read_prompts(
    source: Source, column: str | None = None, stdin: IO[Any] | None = None
) -> list[str]:
    """The prompts of a file or of standard input, in their order.

    Args:
        source: a path, or ``-`` for standard input, which is read as text. The ending
            gives the format: ``.json`` (a list), ``.jsonl``, ``.csv``, ``.tsv``;
            anything else is text, one prompt a line, blank lines skipped.
        column: the column, or key of the objects, with the prompts. If None,
            ``prompt``, ``text`` or ``goal`` in any case, or the only column.
        stdin: the stream for ``-``; if None, the process's standard input.

    Returns:
        the prompts, stripped.

    Raises:
        InputError: the file cannot be read or contains something else than prompts.
    """
    return [prompt.text for prompt in _read(source, column, stdin)]


def contrast_from_files(
    positive: Source,
    negative: Source,
    column: str | None = None,
    stdin: IO[Any] | None = None,
) -> PromptSet:
    """A contrast of two files of prompts.

    Args:
        positive: prompts that show the behaviour; a source as for :func:`read_prompts`.
        negative: prompts that do not.
        column, stdin: as for :func:`read_prompts`.

    Returns:
        the contrast, named and labelled after the files.

    Raises:
        InputError: a file cannot be used, or a prompt occurs twice.
    """
    names = source_name(positive), source_name(negative)
    if os.fspath(positive) == os.fspath(negative):
        raise InputError(f"both sides read {names[0]}; give each side its own source")
    sides = [_read(source, column, stdin) for source in (positive, negative)]
    labels = _label(positive), _label(negative)
    if labels[0] == labels[1]:
        labels = "positive", "negative"
    name = "-vs-".join(labels)
    check_contrast(sides[0], sides[1], shown(name))
    return PromptSet(
        name,
        f"Prompts of {names[0]} against prompts of {names[1]}.",
        tuple(prompt.text for prompt in sides[0]),
        tuple(prompt.text for prompt in sides[1]),
        *labels,
    )


def read_bytes(source: Source, stdin: IO[Any] | None = None) -> bytes:
    """The content of a source.

    Raises:
        InputError: it cannot be read.
    """
    name = source_name(source)
    if os.fspath(source) == "-":
        stream = sys.stdin if stdin is None else stdin
        if stream is None:
            raise InputError(f"{name}: closed; name a file of prompts")
        content: bytes | str = getattr(stream, "buffer", stream).read()
        if isinstance(content, str):
            # half a surrogate pair is not UTF-8, which decode() reports
            return content.encode("utf-8", "surrogatepass")
        return content
    try:
        return Path(source).read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{name}: a directory; name a file of prompts") from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{name}: cannot be read ({reason.lower()}); check the file"
        ) from error


def decode(content: bytes, name: str) -> str:
    """The text of a file of prompts.

    Raises:
        InputError: it is not UTF-8, or contains a NUL byte.
    """
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


def parse_prompts(
    text: str, suffix: str, name: str, column: str | None = None
) -> list[Located]:
    """The prompts of a text, each with its place.

    Raises:
        InputError: it contains no prompts, or something else.
    """
    suffix = suffix.lower()
    found: Iterable[Located]
    if suffix in DELIMITERS:
        found = _of_table(parse_table(text, name, DELIMITERS[suffix]), column)
    elif suffix in RECORDS:
        records = parse_records(text, suffix, name)
        found = (_of_record(record, column, where) for where, record in records)
    elif column is not None:
        raise InputError(
            f"{name}: text has no column {column!r}; "
            "leave the column out, or give a .csv, .tsv, .json or .jsonl file"
        )
    else:
        found = (Located(line, where) for where, line in _lines(text, name))
    prompts = [one._replace(text=check_prompt(*one[:2]).strip()) for one in found]
    if not prompts:
        raise InputError(f"{name}: no prompts in it; add at least one")
    return prompts


def parse_records(text: str, suffix: str, name: str) -> Iterator[tuple[str, object]]:
    """The values of a JSON list or of JSON Lines, each with its place.

    Args:
        suffix: ``.json`` for a list; anything else is JSON Lines.

    Raises:
        InputError: it is not JSON, or not a list.
    """
    if suffix.lower() == ".json":
        yield from _list(text, name)
        return
    for where, line in _lines(text, name):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise InputError(
                f"{where}: not JSON ({reason}); put one JSON value on each line"
            ) from error
        yield where, record


def prompt_column(table: Table, column: str | None) -> int:
    """The column of a table with the prompts; see :func:`read_prompts`.

    Raises:
        InputError: there is none, or two of one name.
    """
    names = table.columns
    if len(names) == 1 and column is None and names[0].lower() not in KNOWN_COLUMNS:
        if not _COLUMN_NAME.fullmatch(names[0]):
            raise InputError(
                f"{table.where}: {clip(names[0])} does not look like a column's name; "
                "name the columns in the first line, e.g. prompt"
            )
        column = names[0]
    found = table.find(_choose(names, column, table.where))
    assert found is not None  # it was chosen from the names
    return found


def source_name(source: Source) -> str:
    """What to call a source in messages."""
    name = os.fspath(source)
    return "standard input" if name == "-" else shown(name)


def _label(source: Source) -> str:
    return "stdin" if os.fspath(source) == "-" else Path(source).stem


def _read(source: Source, column: str | None, stdin: IO[Any] | None) -> list[Located]:
    name = source_name(source)
    text = decode(read_bytes(source, stdin), name)
    return parse_prompts(text, Path(source).suffix, name, column)


def _list(text: str, name: str) -> Iterator[tuple[str, object]]:
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason, line = getattr(error, "msg", str(error)), getattr(error, "lineno", 0)
        where = f"{name}, line {line}" if line else name
        hint = "; JSON Lines end in .jsonl" if reason == "Extra data" else ""
        raise InputError(
            f"{where}: not JSON ({reason}){hint}; correct the file"
        ) from error
    if not isinstance(records, list):
        raise InputError(
            f"{name}: {kind(records)}; a list of strings or objects is expected"
        )
    for number, record in enumerate(records, start=1):
        yield f"{name}, item {number}", record


def _of_record(record: Any, column: str | None, where: str) -> Located:
    if isinstance(record, dict):
        text = record[_choose(list(record), column, where)]
        category, level = (_tag(record, name) for name in ("category", "level"))
        return Located(text, where, category, level=level)
    if column is not None or not isinstance(record, str):
        wanted = "a string or an object" if column is None else "an object"
        raise InputError(f"{where}: {kind(record)}; {wanted} is expected")
    return Located(record, where)


def _tag(record: dict[str, Any], name: str) -> str | None:
    """A word or a number about a prompt; None for anything else."""
    found = find_name(list(record), name)
    value = None if found is None else record[found]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = str(value).strip() if is_number or isinstance(value, str) else ""
    return text or None


def _of_table(table: Table, column: str | None) -> Iterator[Located]:
    if table.columns:
        index = prompt_column(table, column)
        for where, row in table.rows():
            yield Located(row[index], where)


def _choose(names: Sequence[str], column: str | None, where: str) -> str:
    for wanted in KNOWN_COLUMNS if column is None else (column,):
        if (found := find_name(names, wanted)) is not None:
            return found
    wanted = repr(column) if column is not None else "prompt, text or goal"
    raise InputError(
        f"{where}: no column {wanted}; choose one of those there are: {listed(names)}"
    )


def _lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place."""
    # Not splitlines: it also breaks at characters that JSON strings may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}, line {number}", line.strip()
