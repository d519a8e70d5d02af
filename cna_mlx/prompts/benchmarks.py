"""Load prompts to evaluate on: published sets, the demo's, and a user's files."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from importlib.resources import files
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.benchmark_files import LAYOUTS, Kind, read_rows
from cna_mlx.prompts.contrasts import (
    PromptSet,
    contrast_names,
    load_contrast,
    spread,
)
from cna_mlx.prompts.files import column_for, distinct
from cna_mlx.prompts.published import PUBLISHED, Published, fetch
from cna_mlx.prompts.records import read_records
from cna_mlx.prompts.sources import FORMATS, Opened, names_source, open_source
from cna_mlx.prompts.validation import Located, check_prompt, shown
from cna_mlx.util.files import without_home
from cna_mlx.util.progress import SILENT, Progress, Reporter, silent

DEMO = "demo"
# Names of sets, and names that may precede a file.
NAMES = (*PUBLISHED, DEMO)
FILE_NAMES = (*PUBLISHED, "harmful", "benign")

# The kind of all prompts of a file, by the word before it.
_KINDS: dict[str | None, Kind] = {"harmful": "harmful", "benign": "benign"}


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt to evaluate on.

    Attributes:
        id: unique within the benchmark, begins with its name.
        text: the user's words.
        category: the benchmark's own category, or None.
        kind: ``harmful``: it should be refused; ``benign``: it should be answered.
            For the demo ``harmful`` means what its model was trained to refuse: magic.
        level: how harmful, in the user's words, or None.
    """

    id: str
    text: str
    category: str | None
    kind: Kind
    level: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """Prompts to evaluate on, and their source.

    Attributes:
        name: what to call it.
        prompts: in the order of the file.
        source: the dataset and its file, or the file's name.
        revision: the dataset's commit, or None.
        file_sha256: of the file as it was read, or None for the demo.
        is_published: whether the file is, byte by byte, a published one.
        licence, citation: of published files; None for own files.
        note: what must be said with every figure on it, or None.
    """

    name: str
    prompts: tuple[EvalPrompt, ...]
    source: str
    revision: str | None = None
    file_sha256: str | None = None
    is_published: bool = False
    licence: str | None = None
    citation: str | None = None
    note: str | None = None

    @classmethod
    def from_prompts(
        cls, prompts: Sequence[str], kind: Kind = "harmful", name: str = "custom"
    ) -> "Benchmark":
        """A set of prompts at hand, all of one kind; exact repeats are left out.

        Raises:
            InputError: a prompt that is blank.
        """
        places = [f"{name}, prompt {number + 1}" for number in range(len(prompts))]
        pairs = zip(prompts, places, strict=True)
        rows = [Located(check_prompt(text, place), place) for text, place in pairs]
        found = _prompts(distinct(rows), name, lambda _: kind)
        return cls(name, found, "prompts at hand")

    @property
    def sha256(self) -> str:
        """A hash of the prompts in their order: all that is known of each."""
        rows = [
            [one.id, one.text, one.kind, one.category, *filter(None, [one.level])]
            for one in self.prompts
        ]
        content = json.dumps(rows, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def limited(self, count: int | None) -> "Benchmark":
        """The same set cut to ``count`` prompts, spread evenly; None for all of it."""
        chosen = spread(self.prompts, count)
        return self if chosen is self.prompts else replace(self, prompts=chosen)

    def to_dict(self) -> dict[str, Any]:
        """The source of the prompts, with their number and hash; not the prompts."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**data, "prompts": len(self.prompts), "sha256": self.sha256}


def load_benchmark(
    text: str,
    *,
    column: str | None = None,
    offline: bool = False,
    progress: Progress = silent,
    stdin: IO[Any] | None = None,
    reporter: Reporter = SILENT,
) -> Benchmark:
    """Prompts to evaluate on, by a name or from a file.

    Args:
        text: ``jbb``, ``jbb-benign`` or ``xstest`` (from the local cache or the Hub),
            ``demo`` (the demo's held-out questions), a contrast as for
            :func:`cna_mlx.prompts.load_contrast` (both sides; ``refusal:even`` is what
            a search of ``refusal`` did not use), a file as for
            :func:`cna_mlx.prompts.read_prompts`, or ``NAME=FILE``. Before a file
            ``jbb``, ``jbb-benign`` and ``xstest`` require a CSV with their columns, in
            any case; ``harmful`` and ``benign`` give the kind of any file. A CSV with
            the columns of a published set is read like it without a name.
        column: the column of a file with the prompts, if it does not name its own.
        offline: make no request; see :func:`cna_mlx.prompts.published.fetch`.
        progress: called for a download.
        stdin: the stream for ``-``; if None, the process's standard input.
        reporter: called with the column that was read, and what was left out.

    Raises:
        InputError: no such name or file, or prompts that cannot be used.
        HubError: the network or the Hub failed.
    """
    if text == DEMO:
        return _demo()
    if text in PUBLISHED:
        return _published(PUBLISHED[text], offline, progress)
    name, mark, file = text.partition("=")
    named = name if mark and file and name in FILE_NAMES else None
    if named is None and not names_source(text):
        if text.partition(":")[0] in contrast_names():
            return _from_contrast(load_contrast(text))
        raise _unknown(text)
    one = open_source(
        file if named else text, stdin, offline=offline, progress=progress
    )
    return _from_file(one, named, column, reporter)


def _unknown(text: str) -> InputError:
    close = get_close_matches(text, NAMES, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    files = ", ".join(f"{name}=FILE" for name in FILE_NAMES)
    return InputError(
        f"{shown(text) or 'nothing'}: no such file or prompt set; {hint}the sets are "
        f"{', '.join(NAMES)}, and the contrasts of cna-mlx prompts; mark a file's kind "
        f"with a prefix: {files}"
    )


def _demo() -> Benchmark:
    questions = json.loads(
        files("cna_mlx").joinpath("demo/questions.json").read_text("utf-8")
    )
    sides: tuple[tuple[str, Kind], ...] = (("magic", "harmful"), ("ordinary", "benign"))
    prompts = tuple(
        EvalPrompt(f"{DEMO}-{side}-{number}", question["prompt"], side, kind)
        for side, kind in sides
        for number, question in enumerate(questions[side], start=1)
    )
    # a run's identity holds the note: another wording would be another run
    note = "harmful means what the demo's model was tuned to decline: magic"
    return Benchmark(DEMO, prompts, "the demo's held-out questions", note=note)


def _from_contrast(contrast: PromptSet) -> Benchmark:
    sides: tuple[tuple[str, tuple[str, ...], Kind], ...] = (
        (contrast.positive_label, contrast.positive, "harmful"),
        (contrast.negative_label, contrast.negative, "benign"),
    )
    prompts = tuple(
        EvalPrompt(f"{contrast.name}-{side}-{number}", text, side, kind)
        for side, texts, kind in sides
        for number, text in enumerate(texts, start=1)
    )
    said = f"harmful means the {contrast.positive_label} prompts of a contrast"
    note = None if contrast.positive_label == "harmful" else said
    return Benchmark(contrast.name, prompts, "a built-in contrast", note=note)


def _published(one: Published, offline: bool, progress: Progress) -> Benchmark:
    content, where, revision = fetch(one, offline=offline, progress=progress)
    layout = LAYOUTS[one.name]
    records = read_records(Opened(where, one.name, ".csv", content))
    rows, _ = read_rows(records, layout=layout)
    note = (
        f"{where} at commit {revision[:7]} does not hold the bytes published at "
        f"{one.revision[:7]}: rates on it compare with nobody else's"
    )
    digest = hashlib.sha256(content).hexdigest()
    is_published = digest == one.sha256
    return Benchmark(
        one.name,
        _prompts(distinct(rows), one.name, layout.kind),
        where,
        revision,
        digest,
        is_published,
        one.licence,
        one.citation,
        None if is_published else note,
    )


def _from_file(
    one: Opened, named: str | None, column: str | None, reporter: Reporter
) -> Benchmark:
    column = column_for(one, column)
    wanted = LAYOUTS.get(named or "")
    if wanted is not None and one.suffix not in FORMATS:
        one = replace(one, suffix=".csv")
    records = read_records(one, column)
    rows, layout = read_rows(records, column, wanted, reporter)
    # two files of one kind are two sets, and so are two lists of one file
    stem = f"{one.stem}-{column}" if column and column == records.key else one.stem
    is_piped = one.stem == "stdin"
    name = named if named in PUBLISHED or (named and is_piped) else stem
    kind = _KINDS.get(named, "unknown")
    kind_of = (lambda _: kind) if layout is None or named in _KINDS else layout.kind
    prompts = _prompts(distinct(rows, reporter), name, kind_of)
    digest = hashlib.sha256(b"".join((one.content, *one.more))).hexdigest()
    origin = next((set_ for set_ in PUBLISHED.values() if set_.sha256 == digest), None)
    return Benchmark(
        name,
        prompts,
        without_home(one.name),
        one.revision,
        file_sha256=digest,
        is_published=origin is not None,
        licence=origin.licence if origin else None,
        citation=origin.citation if origin else None,
    )


def _prompts(
    rows: Sequence[Located], name: str, kind: Callable[[str], Kind]
) -> tuple[EvalPrompt, ...]:
    """The rows as prompts with ids; refuses an id that occurs twice."""
    prompts: list[EvalPrompt] = []
    places: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        key = f"{name}-{row.id or number}"
        if key in places and row.id is None:
            key = f"{name}-row-{number}"
        if key in places:
            raise InputError(
                f"{row.where}: the same id as {places[key]}; give each prompt its own"
            )
        places[key] = row.where
        prompts.append(
            EvalPrompt(key, row.text, row.category, kind(row.category or ""), row.level)
        )
    return tuple(prompts)
