"""Decide whether a file that exists may be replaced.

Only a file of the kind that is written is ever replaced, and only if the user says so.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cna_mlx.errors import InputError
from cna_mlx.util import ranks
from cna_mlx.util.files import File, check_writable, file_errors, typed_path

Kind = Literal[
    "circuit",
    "conversation",
    "page",
    "page of runs",
    "picture",
    "Markdown",
    "CSV",
    "Inspect log",
    "lm-eval",
]

# What every file of a kind has that cna-mlx wrote.
_MARKS: dict[Kind, re.Pattern[bytes]] = {
    "circuit": re.compile(rb'\A\s*\{\s*"kind": "cna-mlx circuit"'),
    "conversation": re.compile(rb'\A\s*\{\s*"kind": "cna-mlx conversation"'),
    "page": re.compile(rb"<title>[^<]*cna-mlx"),
    "page of runs": re.compile(rb"<p class=\"kind\">cna-mlx report --all</p>"),
    "picture": re.compile(rb'\A\s*<svg class="rich-terminal".*cna-mlx', re.DOTALL),
    "Markdown": re.compile(rb"\A# A conversation with |^Written by cna-mlx", re.M),
    "CSV": re.compile(rb"\Arun,(model,status|number,set),"),
    "Inspect log": re.compile(rb'\APK.*"created_by": "cna-mlx"', re.DOTALL),
    "lm-eval": re.compile(
        rb'"model_source": "cna-mlx"|\A\{"doc_id": 0,.*"metrics": \["refused"\]'
    ),
}
_READ = 1_000_000  # bytes


def check_replaceable(
    path: File | None,
    kind: Kind,
    *,
    force: bool = False,
    confirm: Callable[[str], bool] = lambda question: False,
) -> None:
    """Check that a file may be written, before long work.

    An empty file and a name that is free are always right.

    Args:
        force: replace a file of this kind without a question.
        confirm: asks the user a question, if somebody can answer.

    Raises:
        InputError: the file is of another kind, or is to stay, or cannot be written.
    """
    if path is not None:
        ranks.first(lambda: _check(path, kind, force, confirm))


def _check(path: File, kind: Kind, force: bool, confirm: Callable[[str], bool]) -> None:
    check_writable(path)
    if not _has_content(place := typed_path(path)):
        return
    if not is_of(place, kind):
        raise InputError(
            f"{path} exists and is not a {kind} file of cna-mlx: it stays as it is; "
            "give another name"
        )
    if not force and not confirm(f"{path} exists. Replace it?"):
        raise InputError(
            f"{path} exists and stays as it is: give another name, or --force to "
            "replace it"
        )


def _has_content(path: Path) -> bool:
    with file_errors(path, "read"):
        return path.is_file() and path.stat().st_size > 0


def is_of(path: Path, kind: Kind) -> bool:
    """Whether a file is of a kind that cna-mlx wrote.

    Raises:
        InputError: it cannot be read.
    """
    with file_errors(path, "read"), path.open("rb") as file:
        return _MARKS[kind].search(file.read(_READ)) is not None
