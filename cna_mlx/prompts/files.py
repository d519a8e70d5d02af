"""Read prompts from a user's files, and contrasts of two of them."""

import re
from collections.abc import Sequence
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.columns import PROMPT_COLUMNS, ColumnReader, missing_column
from cna_mlx.prompts.contrasts import PromptSet
from cna_mlx.prompts.records import Records, read_records
from cna_mlx.prompts.sources import (
    FORMATS,
    Opened,
    Source,
    open_source,
    source_name,
)
from cna_mlx.prompts.tables import clip, find_name
from cna_mlx.prompts.validation import (
    Located,
    check_contrast,
    check_prompt,
    kind,
    shown,
)
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter

# A longer header of a single column is a prompt: the header is missing.
_USUAL = "prompt, text or goal,"
_COLUMN_NAME = re.compile(r"[\w.-]+( [\w.-]+){0,2}")


def read_prompts(
    source: Source,
    column: str | None = None,
    stdin: IO[Any] | None = None,
    *,
    offline: bool = False,
    reporter: Reporter = SILENT,
) -> list[str]:
    """The prompts of a file, of standard input or of a Hub data set, in their order.

    Args:
        source: a path, ``FILE:COLUMN``, a data set on the Hub as
            ``org/set:split[:column]``, or ``-`` for standard input, which is read as
            text. The ending gives the format: ``.json`` (a list, or an object with a
            list: JailbreakBench's artifacts, HarmBench's results, Inspect's logs),
            ``.jsonl`` (also lm-eval's samples and chat messages), ``.csv``, ``.tsv``,
            ``.parquet``, ``.eval``, each also with ``.gz``; anything else is text, one
            prompt a line, blank lines skipped.
        column: the column, or key of the objects, with the prompts. If None, the first
            of :data:`~cna_mlx.prompts.columns.PROMPT_COLUMNS` in any case, or the only
            column.
        stdin: the stream for ``-``; if None, the process's standard input.
        offline: make no request for a data set.
        reporter: called with the column that was read, and what was left out.

    Returns:
        the prompts, stripped.

    Raises:
        InputError: the file cannot be read or contains something else than prompts.
        HubError: the network or the Hub failed.
    """
    found = _read(source, column, stdin, offline, reporter)
    return [prompt.text for prompt in found]


def contrast_from_files(
    positive: Source,
    negative: Source,
    column: str | None = None,
    stdin: IO[Any] | None = None,
    *,
    offline: bool = False,
    reporter: Reporter = SILENT,
) -> PromptSet:
    """A contrast of two files of prompts.

    Args:
        positive: prompts that show the behaviour; a source as for :func:`read_prompts`.
        negative: prompts that do not.
        column: of files that do not name their own, ``FILE:COLUMN``.
        stdin, offline, reporter: as for :func:`read_prompts`.

    Returns:
        the contrast, named and labelled after the files.

    Raises:
        InputError: a file cannot be used, or a prompt is on both sides.
        HubError: the network or the Hub failed.
    """
    names = source_name(positive), source_name(negative)
    if names[0] == names[1]:
        raise InputError(f"both sides read {names[0]}; give each side its own source")
    with reporter.progress("bytes") as progress:
        opened = [
            open_source(one, stdin, offline=offline, progress=progress)
            for one in (positive, negative)
        ]
    sides = [distinct(prompts_of(one, column, reporter), reporter) for one in opened]
    labels = _labels(*opened)
    name = "-vs-".join(labels)
    check_contrast(sides[0], sides[1], shown(name))
    return PromptSet(
        name,
        f"Prompts of {names[0]} against prompts of {names[1]}.",
        tuple(prompt.text for prompt in sides[0]),
        tuple(prompt.text for prompt in sides[1]),
        *labels,
    )


def prompts_of(
    one: Opened, column: str | None = None, reporter: Reporter = SILENT
) -> list[Located]:
    """The prompts of a source, each with its place.

    Raises:
        InputError: it contains no prompts, or something else.
    """
    column = column_for(one, column)
    return located(read_records(one, column), column, reporter)


def column_for(one: Opened, column: str | None) -> str | None:
    """The column that a source names, else the given one.

    Raises:
        InputError: the source is text, which has none.
    """
    column = one.column or column
    if column is not None and one.suffix not in FORMATS:
        raise InputError(
            f"{one.name}: text has no column {column!r}; name it after the file that "
            f"has it, FILE:{column}, or give a .csv, .tsv, .json or .jsonl file"
        )
    return column


def located(
    records: Records, column: str | None = None, reporter: Reporter = SILENT
) -> list[Located]:
    """The prompts of records, each with its place; says which column was read.

    Raises:
        InputError: there are none, or a record has no prompt.
    """
    reader = prompt_reader(records, column)
    found = []
    for where, record in records.rows:
        if records.may_lack and reader.lacks(record):
            continue
        text = check_prompt(_text(record, reader, where), where).strip()
        reader.check_template(text)
        category, level = (tag(record, name) for name in ("category", "level"))
        found.append(Located(text, where, category, level=level))
    if not found:
        raise InputError(f"{records.name}: no prompts in it; add at least one")
    reader.report(reporter)
    return found


def prompt_reader(records: Records, column: str | None) -> ColumnReader:
    """What reads the prompts of records; a table has its column checked at once.

    Raises:
        InputError: a table without such a column, or without a header.
    """
    head, column = records.head, None if records.key == column else column
    if head is not None and head.columns:
        names = head.columns
        known = PROMPT_COLUMNS if column is None else (column,)
        if column is None and len(names) == 1 and names[0].lower() not in known:
            if not _COLUMN_NAME.fullmatch(names[0]):
                raise InputError(
                    f"{head.where}: {clip(names[0])} does not look like a column's "
                    "name; name the columns in the first line, e.g. prompt"
                )
            column = names[0]
        elif not any(find_name(names, one) for one in known):
            raise missing_column(names, column, _USUAL, head.where)
    return ColumnReader(records.name, "user", column, PROMPT_COLUMNS, head)


def tag(record: object, name: str) -> str | None:
    """A word or a number about a prompt; None for anything else."""
    found = find_name(list(record), name) if isinstance(record, dict) else None
    value = record[found] if isinstance(record, dict) and found else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = str(value).strip() if is_number or isinstance(value, str) else ""
    return text or None


def distinct(prompts: Sequence[Located], reporter: Reporter = SILENT) -> list[Located]:
    """The prompts without exact repeats; says how many were left out."""
    first: dict[str, Located] = {}
    repeats = [one for one in prompts if first.setdefault(one.text, one) is not one]
    if repeats:
        one = repeats[0]
        reporter.note(
            f"{counted(len(repeats), 'repeated prompt')} left out; the first is "
            f"{one.where}, which equals {first[one.text].where}"
        )
    return list(first.values())


def _read(
    source: Source,
    column: str | None,
    stdin: IO[Any] | None,
    offline: bool,
    reporter: Reporter,
) -> list[Located]:
    with reporter.progress("bytes") as progress:
        one = open_source(source, stdin, offline=offline, progress=progress)
    return prompts_of(one, column, reporter)


def _labels(positive: Opened, negative: Opened) -> tuple[str, str]:
    """The names of two sides: their files', else their columns'."""
    for labels in (
        (positive.stem, negative.stem),
        (positive.column, negative.column),
    ):
        if labels[0] and labels[1] and labels[0] != labels[1]:
            return labels[0], labels[1]
    return "positive", "negative"


def _text(record: Any, reader: ColumnReader, where: str) -> object:
    """What a record has in the place of its prompt."""
    if not isinstance(record, dict):
        if reader.column is not None or not isinstance(record, str):
            wanted = "a string or an object" if reader.column is None else "an object"
            raise InputError(f"{where}: {kind(record)}; {wanted} is expected")
        return record
    column = reader.find(record)
    if column is None:
        raise missing_column(list(record), reader.column, _USUAL, where)
    found = reader.read(record, column)
    return found[0] if len(found) == 1 else record[column]
