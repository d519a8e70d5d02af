"""Read answers from a file and label them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.labels.label import Label, label
from cna_mlx.labels.repetition import quality
from cna_mlx.prompts.columns import ANSWER_COLUMNS, PROMPT_COLUMNS, ColumnReader
from cna_mlx.prompts.records import Records, read_records
from cna_mlx.prompts.sources import FORMATS, Source, open_source
from cna_mlx.prompts.tables import listed
from cna_mlx.prompts.validation import check_text, kind
from cna_mlx.util.progress import SILENT, Reporter


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
    *,
    offline: bool = False,
    reporter: Reporter = SILENT,
) -> list[LabelledAnswer]:
    """Label the answers of a file.

    Args:
        source: as for :func:`cna_mlx.prompts.read_prompts`; text and standard input are
            JSON Lines (objects, or bare strings).
        column: the column or key with the answers; if None, the first of
            :data:`~cna_mlx.prompts.columns.ANSWER_COLUMNS` that exists.
        stdin: the stream for ``-``; if None, the process's standard input.
        offline: make no request for a data set.
        reporter: called with the columns that were read.

    Raises:
        InputError: the file cannot be read, or a record has no answer.
        HubError: the network or the Hub failed.
    """
    with reporter.progress("bytes") as progress:
        one = open_source(source, stdin, offline=offline, progress=progress)
    if one.suffix not in FORMATS:
        one = replace(one, suffix=".jsonl")
    column = one.column or column
    records = read_records(one, column)
    reader = _Reader.of(records, None if records.key == column else column)
    answers = [answer for row in records.rows for answer in reader.answers(*row)]
    if not answers:
        raise InputError(f"{one.name}: contains no answers; add at least one")
    reader.answer.report(reporter)
    reader.prompt.report(reporter)
    return answers


@dataclass(frozen=True)
class _Reader:
    """Reads the answer and the prompt of each record."""

    answer: ColumnReader
    prompt: ColumnReader
    may_lack: bool

    @classmethod
    def of(cls, records: Records, column: str | None) -> "_Reader":
        name, head = records.name, records.head
        for one in filter(None, head.columns if head else ()):
            assert head is not None
            head.find(one)  # raises if two have the same name
        # where the answer's column is named, nobody knows whose a text is
        prompts = [one for one in PROMPT_COLUMNS if column is None or one != "text"]
        return cls(
            ColumnReader(name, "assistant", column, ANSWER_COLUMNS, head),
            ColumnReader(name, "user", None, prompts, head),
            records.may_lack,
        )

    def answers(self, where: str, record: object) -> Iterator[LabelledAnswer]:
        """Label what a record has in its answer's column: several texts in a list."""
        if isinstance(record, str) and self.answer.column is None:
            record = {"text": record}
        if not isinstance(record, dict):
            is_free = self.answer.column is None
            wanted = "an object with the answer as text" if is_free else "an object"
            raise InputError(f"{where}: {kind(record)}; {wanted} is expected")
        if self.may_lack and self.answer.lacks(record):
            return
        column = self.answer.find(record)
        if column is None:
            said = repr(self.answer.column) if self.answer.column else "text"
            raise InputError(
                f"{where}: no {said}; choose the answers' column with --column, one "
                f"of: {listed(list(record))}"
            )
        given = {key: value for key, value in record.items() if key and key != column}
        prompt = self._prompt(record, column, given, where)
        for text in self.answer.read(record, column):
            text = check_text(text, where, "an answer")
            yield LabelledAnswer(text, label(text), quality(text), prompt, given)

    def _prompt(
        self, record: dict[str, Any], answer: str, given: dict[str, Any], where: str
    ) -> str | None:
        """The prompt of a record, taken out of what else is given; None without one."""
        is_shared = answer in ("messages", "conversations")
        own = record if is_shared else given
        column = self.prompt.find(own)
        if column is None or own[column] is None:
            return None
        found = self.prompt.read(own, column)
        if column.casefold() != "prompt" and not isinstance(found[0], str):
            return None
        given.pop(column, None)
        return check_text(found[0], where, "the prompt")
