"""Read answers from a file and label them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.labels.label import Label, label
from cna_mlx.labels.repetition import quality
from cna_mlx.prompts.files import (
    Source,
    decode,
    parse_records,
    read_bytes,
    source_name,
)
from cna_mlx.prompts.tables import DELIMITERS, find_name, listed, parse_table
from cna_mlx.prompts.validation import check_text, kind

#: Columns that can hold the answer, best first; case does not matter.
ANSWER_COLUMNS = ("text", "answer", "response", "completion", "output")


@dataclass(frozen=True)
class LabelledAnswer:
    """An answer of a file, with its label.

    Attributes:
        quality: distinct / all 4-grams; see :func:`cna_mlx.labels.repetition.quality`.
        prompt: the request, if the file has it.
        given: the other fields of the record.
    """

    text: str
    label: Label
    quality: float
    prompt: str | None
    given: Mapping[str, Any]

    @property
    def decided_by(self) -> str | None:
        """Return the words that decided the label."""
        span = self.label.span
        return None if span is None else self.text[slice(*span)]

    @property
    def flags(self) -> list[str]:
        """LOOP, and TRUNCATED where the record's ``finish`` is ``length``."""
        is_cut = self.given.get("finish") == "length"
        flags = {"LOOP": self.label.has_loop, "TRUNCATED": is_cut}
        return [flag for flag, is_set in flags.items() if is_set]


def label_file(
    source: Source,
    column: str | None = None,
    stdin: IO[Any] | None = None,
) -> list[LabelledAnswer]:
    """Label the answers of a file.

    Args:
        source: JSON Lines (objects, or bare strings), a ``.json`` list, ``.csv`` or
            ``.tsv`` with a header; ``-`` for JSON Lines on standard input.
        column: the column or key with the answers; if None, the first of
            `ANSWER_COLUMNS` that exists.
        stdin: the stream for ``-``; if None, the process's standard input.

    Raises:
        InputError: the file cannot be read, or a record has no answer.
    """
    name = source_name(source)
    content = decode(read_bytes(source, stdin), name)
    suffix = Path(source).suffix.lower()
    records: Iterator[tuple[str, object]]
    if suffix in DELIMITERS:
        records = _rows(content, name, DELIMITERS[suffix])
    else:
        records = parse_records(content, suffix, name)
    answers = [_answer(record, column, where) for where, record in records]
    if not answers:
        raise InputError(f"{name}: contains no answers; add at least one")
    return answers


def _rows(text: str, name: str, delimiter: str) -> Iterator[tuple[str, object]]:
    """Yield the rows of a table as objects, without unnamed columns."""
    table = parse_table(text, name, delimiter)
    for column in filter(None, table.columns):
        table.find(column)  # raises if two have the same name
    for where, row in table.rows():
        pairs = zip(table.columns, row, strict=True)
        yield where, {column: cell for column, cell in pairs if column}


def _answer(record: object, column: str | None, where: str) -> LabelledAnswer:
    """Label the answer of a record."""
    if isinstance(record, str) and column is None:
        record = {"text": record}
    if not isinstance(record, dict):
        wanted = "an object with the answer as text" if column is None else "an object"
        raise InputError(f"{where}: {kind(record)}; {wanted} is expected")
    given = dict(record)
    text = check_text(
        given.pop(_choose(list(given), column, where)), where, "an answer"
    )
    prompt = given.pop("prompt", None)
    if prompt is not None:
        prompt = check_text(prompt, where, "the prompt")
    return LabelledAnswer(text, label(text), quality(text), prompt, given)


def _choose(names: list[str], column: str | None, where: str) -> str:
    """Return the key of the answer."""
    for wanted in ANSWER_COLUMNS if column is None else (column,):
        if (found := find_name(names, wanted)) is not None:
            return found
    wanted = repr(column) if column is not None else "text"
    raise InputError(
        f"{where}: no {wanted}; choose the answers' column with --column, one of: "
        f"{listed(names)}"
    )
