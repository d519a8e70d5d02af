"""The cache of lists of runs: the figures of runs that have not changed since.

Reading all samples of 300 runs takes the better part of a minute.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cna_mlx import analysis
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RUN, SAMPLES
from cna_mlx.util.environment import versions
from cna_mlx.util.files import cache_directory, make_directory, write_atomically
from cna_mlx.util.reading import read_text
from cna_mlx.util.records import parse_document

_KIND, _FORMAT = "cna-mlx list of runs", 1

Figures = Mapping[str, Any]
#: Of each file of a run its time and size; another one means that the run has changed.
Stamp = list[list[int]]


class ListingCache:
    """Figures of the runs in one directory, by the run's name.

    A file that cannot be read counts as empty, and one that cannot be written is
    skipped.
    """

    def __init__(self, directory: Path) -> None:
        name = hashlib.sha256(bytes(directory.resolve())).hexdigest()[:32]
        self._path = cache_directory() / "lists" / f"{name}.json"
        self._old = self._read()
        self._new: dict[str, Any] = {}

    def get(self, name: str, stamped: Stamp) -> Figures | None:
        """What was kept of a run; None if there is nothing, or the run has changed."""
        entry = self._old.get(name)
        if not isinstance(entry, Mapping) or entry.get("stamp") != stamped:
            return None
        figures = entry.get("figures")
        return figures if isinstance(figures, Mapping) else None

    def keep(self, name: str, stamped: Stamp, figures: Figures) -> None:
        """Keep the figures of a run; the stamp is from before they were read."""
        self._new[name] = {"stamp": stamped, "figures": figures}

    def save(self) -> None:
        """Write what was kept, and nothing else, if that is new."""
        if self._new == self._old:
            return
        data = {"kind": _KIND, "format": _FORMAT, "code": _code(), "runs": self._new}
        with suppress(InputError):
            make_directory(self._path.parent)
            write_atomically(self._path, json.dumps(data) + "\n", 0o600)

    def _read(self) -> Mapping[str, Any]:
        try:
            text = read_text(self._path)
            data = parse_document(text, _KIND, _FORMAT, str(self._path), InputError)
        except (OSError, UnicodeDecodeError, InputError):
            return {}
        runs = data.get("runs") if data.get("code") == _code() else None
        return runs if isinstance(runs, dict) else {}


def stamp(directory: Path) -> Stamp:
    """The stamp of a run's directory."""
    found = []
    for name in (RUN, SAMPLES):
        try:
            status = (directory / name).stat()
        except OSError:
            found.append([0, 0])
        else:
            found.append([status.st_mtime_ns, status.st_size])
    return found


@cache
def _code() -> list[Any]:
    """What the figures depend on beside the run: the code that judges it."""
    sources = (path for place in analysis.__path__ for path in Path(place).glob("*.py"))
    newest = max((path.stat().st_mtime_ns for path in sources), default=0)
    return [versions("cna-mlx")["cna-mlx"], newest]
