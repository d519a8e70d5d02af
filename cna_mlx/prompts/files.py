"""Prompts from a user's files: text, JSON, JSON Lines, CSV and TSV."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.contrasts import PromptSet
from cna_mlx.prompts.tables import Table, clip, find_name, listed, parse_table
from cna_mlx.prompts.validation import (
    Located,
    check_contrast,
    check_prompt,
    kind,
    shown,
)

# In the order of preference, in any capitalisation.
KNOWN_COLUMNS = ("prompt", "text", "goal")

# A header of one column that is longer than this is a prompt that lost its header.
_COLUMN_NAME = re.compile(r"[\w.-]+( [\w.-]+){0,2}")

Source = str | os.PathLike[str]
_Parser = Callable[[str, str, str | None], Iterator[Located]]


def read_prompts(
    source: Source, column: str | None = None, stdin: IO[Any] | None = None
) -> list[str]:
    """The prompts of a file or of standard input, in their order.

    Args:
        source: a path, or ``-`` for standard input, which is read as text. The ending
            tells the format: ``.json`` (a list), ``.jsonl``, ``.csv``, ``.tsv``;
            anything else is text, one prompt a line, blank lines skipped.
        column: the column, or key of the objects, that holds the prompts. Unless told,
            ``prompt``, ``text`` or ``goal`` in any capitalisation, or the only column.
        stdin: what to read for ``-``; the process's standard input unless told.

    Returns:
        the prompts, without white space around them.

    Raises:
        InputError: the file cannot be read or holds something else than prompts.
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
    if os.fspath(positive) == os.fspath(negative):
        what = "standard input" if os.fspath(positive) == "-" else source_name(positive)
        raise InputError(f"both sides read {what}; give each side a source of its own")
    sides = [_read(source, column, stdin) for source in (positive, negative)]
    labels = _label(positive), _label(negative)
    if labels[0] == labels[1]:
        labels = "positive", "negative"
    name = "-vs-".join(labels)
    check_contrast(sides[0], sides[1], shown(name))
    return PromptSet(
        name,
        f"Prompts of {source_name(positive)} against prompts of"
        f" {source_name(negative)}.",
        tuple(prompt.text for prompt in sides[0]),
        tuple(prompt.text for prompt in sides[1]),
        labels[0],
        labels[1],
    )


def read_bytes(source: Source, stdin: IO[Any] | None = None) -> bytes:
    """What a source holds, as it is.

    Raises:
        InputError: it cannot be read.
    """
    if os.fspath(source) != "-":
        return _contents(Path(source), source_name(source))
    content = _piped(stdin)
    # half a surrogate pair is no UTF-8, which decode() says
    return (
        content
        if isinstance(content, bytes)
        else content.encode("utf-8", "surrogatepass")
    )


def decode(content: bytes, name: str) -> str:
    """The text of a file of prompts.

    Raises:
        InputError: it is not UTF-8, or holds a NUL byte.
    """
    text = _decode(content, name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}, line {line}: a NUL byte; save the file as UTF-8")
    return text


def parse_prompts(
    text: str, suffix: str, name: str, column: str | None = None
) -> list[Located]:
    """The prompts of a text, each with its place.

    Args:
        text: what the file holds.
        suffix: its ending, which tells the format; see :func:`read_prompts`.
        name: what to call it in messages.
        column: as for :func:`read_prompts`.

    Raises:
        InputError: it holds no prompts, or something else.
    """
    parser = _PARSERS.get(suffix.lower(), _parse_lines)
    prompts = list(parser(text, name, column))
    if not prompts:
        raise InputError(f"{name}: no prompts in it; put at least one there")
    return prompts


def _read(source: Source, column: str | None, stdin: IO[Any] | None) -> list[Located]:
    name = source_name(source)
    text = decode(read_bytes(source, stdin), name)
    return parse_prompts(text, Path(source).suffix, name, column)


def source_name(source: Source) -> str:
    """What to call a source in messages."""
    name = os.fspath(source)
    return "standard input" if name == "-" else shown(name)


def _label(source: Source) -> str:
    return "stdin" if os.fspath(source) == "-" else Path(source).stem


def _contents(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{name}: a directory; name a file of prompts") from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{name}: cannot be read ({reason.lower()}); check the file"
        ) from error


def _piped(stdin: IO[Any] | None) -> bytes | str:
    stream = sys.stdin if stdin is None else stdin
    if stream is None:
        raise InputError("standard input: closed; name a file of prompts")
    content: bytes | str = getattr(stream, "buffer", stream).read()
    return content


def _decode(content: bytes, name: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}, line {line}: byte {error.start + 1} "
            f"(0x{error.object[error.start]:02x}) is not UTF-8; save it as UTF-8"
        ) from error
    return text.removeprefix("\ufeff")


def _parse_lines(text: str, name: str, column: str | None) -> Iterator[Located]:
    if column is not None:
        raise InputError(
            f"{name}: text has no column {column!r}; "
            "leave the column out, or give a .csv, .tsv, .json or .jsonl file"
        )
    for where, line in _lines(text, name):
        yield Located(check_prompt(line, where), where)


def parse_records(text: str, suffix: str, name: str) -> Iterator[tuple[str, object]]:
    """The values of a JSON list or of JSON Lines, each with its place.

    Args:
        text: what the file holds.
        suffix: ``.json`` for a list; anything else is JSON Lines.
        name: what to call the file in messages.

    Raises:
        InputError: it is no JSON, or no list.
    """
    return _list(text, name) if suffix.lower() == ".json" else _values(text, name)


def _values(text: str, name: str) -> Iterator[tuple[str, object]]:
    for where, line in _lines(text, name):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise InputError(
                f"{where}: not JSON ({reason}); put one JSON value on each line"
            ) from error
        yield where, record


def _list(text: str, name: str) -> Iterator[tuple[str, object]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; JSON Lines end in .jsonl" if error.msg == "Extra data" else ""
        raise InputError(
            f"{name}, line {error.lineno}: not JSON ({error.msg}){hint}; "
            "correct the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not JSON ({error}); correct the file") from error
    if not isinstance(records, list):
        raise InputError(
            f"{name}: {kind(records)}; a list of strings or objects is expected"
        )
    for number, record in enumerate(records, start=1):
        yield f"{name}, item {number}", record


def _parse_jsonl(text: str, name: str, column: str | None) -> Iterator[Located]:
    for where, record in _values(text, name):
        yield _from_record(record, column, where)


def _parse_json(text: str, name: str, column: str | None) -> Iterator[Located]:
    for where, record in _list(text, name):
        yield _from_record(record, column, where)


def _from_record(record: object, column: str | None, where: str) -> Located:
    if isinstance(record, dict):
        record = record[_choose(list(record), column, where)]
    elif column is not None or not isinstance(record, str):
        wanted = "a string or an object" if column is None else "an object"
        raise InputError(f"{where}: {kind(record)}; {wanted} is expected")
    return Located(check_prompt(record, where).strip(), where)


def _parse_csv(text: str, name: str, column: str | None) -> Iterator[Located]:
    return _parse_table(text, name, column, ",")


def _parse_tsv(text: str, name: str, column: str | None) -> Iterator[Located]:
    return _parse_table(text, name, column, "\t")


def _parse_table(
    text: str, name: str, column: str | None, delimiter: str
) -> Iterator[Located]:
    table = parse_table(text, name, delimiter)
    if not table.columns:
        return
    index = prompt_column(table, column)
    for where, row in table.rows():
        yield Located(check_prompt(row[index], where).strip(), where)


def prompt_column(table: Table, column: str | None) -> int:
    """Which column of a table holds the prompts; see :func:`read_prompts`.

    Raises:
        InputError: none does, or two of one name.
    """
    names = table.columns
    if len(names) == 1 and column is None and names[0].lower() not in KNOWN_COLUMNS:
        if not _COLUMN_NAME.fullmatch(names[0]):
            raise InputError(
                f"{table.where}: {clip(names[0])} is no column's name; "
                "let the first line name the columns, e.g. prompt"
            )
        column = names[0]
    found = table.find(_choose(names, column, table.where))
    assert found is not None  # it was chosen from the names
    return found


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
    # Not splitlines: it also breaks at characters that JSON strings may hold.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{name}, line {number}", line.strip()


_PARSERS: dict[str, _Parser] = {
    ".csv": _parse_csv,
    ".json": _parse_json,
    ".jsonl": _parse_jsonl,
    ".tsv": _parse_tsv,
}
