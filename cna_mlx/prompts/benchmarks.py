"""Prompts to evaluate on: published sets, the demo's, and those of a user's files."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from cna_mlx.errors import InputError
from cna_mlx.prompts.benchmark_files import LAYOUTS, Kind, Row, parse_rows
from cna_mlx.prompts.files import decode, read_bytes
from cna_mlx.prompts.published import PUBLISHED, Published, fetch
from cna_mlx.prompts.validation import shown
from cna_mlx.util.progress import Progress, silent

DEMO = "demo"
# The names that stand alone, and those that may stand before a file.
NAMES = (*PUBLISHED, DEMO)
FILE_NAMES = (*PUBLISHED, "harmful", "benign")

# What a word before a file says of all its prompts.
_KINDS: dict[str | None, Kind] = {"harmful": "harmful", "benign": "benign"}


@dataclass(frozen=True)
class EvalPrompt:
    """A prompt to evaluate on.

    Attributes:
        id: unique within the benchmark, and begun with its name.
        text: the user's words.
        category: what the benchmark files it under, or None.
        kind: ``harmful``: it should be declined; ``benign``: it should be answered.
            For the demo ``harmful`` means what its model was tuned to decline: magic.
    """

    id: str
    text: str
    category: str | None
    kind: Kind


@dataclass(frozen=True)
class Benchmark:
    """Prompts to evaluate on, and where they come from.

    Attributes:
        name: what to call it.
        prompts: in the order of the file.
        source: the dataset and its file, or the file's name.
        revision: the dataset's commit, or None.
        file_sha256: of the file as it was read, or None for the demo.
        is_published: whether the file is, byte by byte, one that was published.
        licence, citation: whose work it is, and on what terms; None for own files.
        note: what has to be said beside figures on it, or None.
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

    @property
    def sha256(self) -> str:
        """A hash of the prompts in their order: ids, texts, kinds and categories."""
        rows = [[one.id, one.text, one.kind, one.category] for one in self.prompts]
        content = json.dumps(rows, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def limited(self, count: int | None) -> "Benchmark":
        """The same set cut to ``count`` prompts, spread evenly; None for all of it.

        Sets are ordered by category: the first ones would all be of one.
        """
        total = len(self.prompts)
        if count is None or count >= total:
            return self
        chosen = tuple(self.prompts[n * total // count] for n in range(count))
        return replace(self, prompts=chosen)

    def to_json(self) -> dict[str, Any]:
        """Where the prompts come from, as plain data; not the prompts themselves."""
        return {
            "name": self.name,
            "prompts": len(self.prompts),
            "source": self.source,
            "revision": self.revision,
            "sha256": self.sha256,
            "file_sha256": self.file_sha256,
            "is_published": self.is_published,
            "licence": self.licence,
            "citation": self.citation,
            "note": self.note,
        }


def load_benchmark(
    text: str,
    *,
    column: str | None = None,
    offline: bool = False,
    progress: Progress = silent,
    stdin: IO[Any] | None = None,
) -> Benchmark:
    """Prompts to evaluate on, by a name or from a file.

    Args:
        text: ``jbb``, ``jbb-benign`` or ``xstest`` (from the Hub, then from the local
            cache), ``demo`` (the demo's held-out questions), a file as for
            :func:`cna_mlx.prompts.read_prompts`, or ``NAME=FILE``. Before a file
            ``jbb``, ``jbb-benign`` and ``xstest`` ask for a CSV of their columns in
            any capitalisation; ``harmful`` and ``benign`` say what any file holds. A
            CSV with the columns of a published set is read like it without a name.
        column: the column of a file that holds the prompts.
        offline: ask nobody; see :func:`cna_mlx.prompts.published.fetch`.
        progress: told about a download.
        stdin: what to read for ``-``; the process's standard input unless told.

    Raises:
        InputError: no such name or file, or prompts that cannot be used.
        HubError: the network or the Hub failed.
    """
    if text == DEMO:
        return _demo()
    if text in PUBLISHED:
        return _published(PUBLISHED[text], offline, progress)
    name, mark, file = text.partition("=")
    if mark and file and name in FILE_NAMES:
        return _from_file(file, name, column, stdin)
    if text != "-" and not _exists(text):
        raise _unknown(text)
    return _from_file(text, None, column, stdin)


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except OSError:  # too long for a name
        return False


def _unknown(text: str) -> InputError:
    close = get_close_matches(text, NAMES, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    files = ", ".join(f"{name}=FILE" for name in FILE_NAMES)
    return InputError(
        f"{shown(text) or 'nothing'}: no such file or prompt set; {hint}the sets are "
        f"{', '.join(NAMES)}; of a file it can be said what it holds: {files}"
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
    note = "harmful means what the demo's model was tuned to decline: magic"
    return Benchmark(DEMO, prompts, "the demo's held-out questions", note=note)


def _published(one: Published, offline: bool, progress: Progress) -> Benchmark:
    found = fetch(one, offline=offline, progress=progress)
    text, layout = decode(found.content, found.where), LAYOUTS[one.name]
    rows, _ = parse_rows(text, ".csv", found.where, layout=layout)
    note = (
        f"{found.where} at commit {found.revision[:7]} does not hold the bytes "
        f"published at {one.revision[:7]}: rates on it compare with nobody else's"
    )
    return Benchmark(
        one.name,
        _prompts(rows, one.name, layout.kind),
        found.where,
        found.revision,
        found.sha256,
        found.is_published,
        one.licence,
        one.citation,
        None if found.is_published else note,
    )


def _from_file(
    source: str, named: str | None, column: str | None, stdin: IO[Any] | None
) -> Benchmark:
    content = read_bytes(source, stdin)
    path = Path("stdin" if source == "-" else source)
    where = "standard input" if source == "-" else shown(source)
    wanted = LAYOUTS.get(named or "")
    rows, layout = parse_rows(
        decode(content, where), path.suffix.lower(), where, column, wanted
    )
    all_alike = _KINDS.get(named, "unknown")
    # two files of one kind are two sets
    keeps = named is not None and (named in PUBLISHED or source == "-")
    name = named if named and keeps else path.stem
    if layout is None or named in _KINDS:
        prompts = _prompts(rows, name, lambda _: all_alike)
    else:
        prompts = _prompts(rows, name, layout.kind)
    digest = hashlib.sha256(content).hexdigest()
    origin = next((one for one in PUBLISHED.values() if one.sha256 == digest), None)
    return Benchmark(
        name,
        prompts,
        where,
        file_sha256=digest,
        is_published=origin is not None,
        licence=origin.licence if origin else None,
        citation=origin.citation if origin else None,
    )


def _prompts(
    rows: Iterable[Row], name: str, kind: Callable[[str], Kind]
) -> tuple[EvalPrompt, ...]:
    """The rows as prompts with ids; a text or an id that occurs twice is refused."""
    prompts: list[EvalPrompt] = []
    places: dict[str, str] = {}
    ids: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        key = f"{name}-{row.id or number}"
        if row.text in places:
            raise InputError(
                f"{row.where}: the same prompt as {places[row.text]}; "
                "remove one of the two"
            )
        if key in ids:
            raise InputError(
                f"{row.where}: the same id as {ids[key]}; number the prompts anew"
            )
        places[row.text] = ids[key] = row.where
        prompts.append(
            EvalPrompt(key, row.text, row.category, kind(row.category or ""))
        )
    return tuple(prompts)
