"""A run: a directory with a configuration and the answers to each prompt.

``run.json`` has the resolved configuration, the machine and the status;
``samples.jsonl`` a line for each prompt and arm; ``circuits/`` the scaled neurons.
Only their owner can read the files: answers may be harmful.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import RunArm, RunConfig, RunFacts
from cna_mlx.evaluation.samples import Sample, read_samples
from cna_mlx.util import ranks
from cna_mlx.util.files import (
    File,
    file_errors,
    is_there,
    shell_word,
    typed_path,
    without_home,
    write_atomically,
)
from cna_mlx.util.reading import read_file, read_text
from cna_mlx.util.records import parse_document

FORMAT = 1
_KIND = "cna-mlx run"
RUN, SAMPLES, CIRCUITS = "run.json", "samples.jsonl", "circuits"
DIRECTION = "direction.npz"
#: What a run keeps for its report only: of its circuit's neurons, and of a search.
NEURONS, SEARCH = "neurons.json", "search.json"

Status = Literal["running", "complete", "interrupted", "failed"]


@dataclass(frozen=True)
class DamagedRun:
    """A run whose ``run.json`` cannot be read, and why."""

    directory: Path
    problem: str


@dataclass(frozen=True)
class RunRecord:
    """The content of ``run.json``; its status is ``running`` also after a kill."""

    directory: Path
    status: Status
    config: RunConfig
    facts: RunFacts = field(default_factory=RunFacts)

    @property
    def arms(self) -> tuple[RunArm, ...]:
        """The arms in the order of a batch's rows; the baseline is the first."""
        return self.config.arms

    @property
    def planned(self) -> int:
        """How many prompts the run has when it is complete."""
        return self.config.planned

    @property
    def circuits(self) -> dict[str, Circuit]:
        """The circuits of the arms, by name.

        Raises:
            CircuitError: one is missing or damaged.
        """
        names = dict.fromkeys(arm.circuit for arm in self.arms if arm.circuit)
        return {name: Circuit.load(self.circuit_file(name)) for name in names}

    def circuit_file(self, name: str) -> Path:
        """The file of a circuit of the arms."""
        return self.directory / CIRCUITS / f"{name}.json"

    @property
    def word(self) -> str:
        """The run as it is typed after a command: its name if that is enough."""
        if self.directory.parent.resolve() == runs_directory().resolve():
            return shell_word(self.directory.name)
        return shell_word(without_home(self.directory.absolute()))

    def samples(self) -> list[Sample]:
        """The samples of all whole batches, in the order of the run.

        Raises:
            InputError: the file is damaged, or another run's.
        """
        labels = [arm.label for arm in self.arms]
        return read_samples(self.directory / SAMPLES, labels)[0]

    def keep(self, name: str, data: Mapping[str, Any]) -> None:
        """Write :data:`NEURONS` or :data:`SEARCH`, atomically.

        Raises:
            InputError: it cannot be written.
        """
        text = json.dumps({"kind": _kind(name), "format": FORMAT, **data})
        write_atomically(self.directory / name, text + "\n", 0o600)

    def kept(self, name: str) -> dict[str, Any] | None:
        """Read what :meth:`keep` wrote; None if there is no such file.

        Raises:
            InputError: it is damaged, or of a newer format.
        """
        path = self.directory / name
        with file_errors(path, "read"):
            try:
                text = read_file(path).decode(errors="replace")
            except FileNotFoundError:
                return None
        return parse_document(text, _kind(name), FORMAT, str(path), InputError)

    def save(self) -> None:
        """Write ``run.json``, atomically.

        Raises:
            InputError: it cannot be written.
        """
        data = {
            "kind": _KIND,
            "format": FORMAT,
            "status": self.status,
            "identity": self.config.identity,
            "config": self.config.to_dict(),
            **self.facts.to_dict(),
            "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.directory / RUN, text, 0o600)

    @classmethod
    def open(cls, text: File) -> Self:
        """Read a run by its directory, or by the name that ``cna-mlx runs`` shows.

        Raises:
            InputError: as :meth:`load`.
        """
        if not is_there(typed_path(text)) and is_there(runs_directory() / text / RUN):
            return cls.load(runs_directory() / text)
        return cls.load(text)

    @classmethod
    def load(cls, directory: File) -> Self:
        """Read a run's directory, or its ``run.json``.

        Raises:
            InputError: the run is missing, damaged, or of a newer format.
        """
        place = typed_path(directory)
        place = place.parent if place.name == RUN else place
        path = place / RUN
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise InputError(
                f"{directory}: not a run ({RUN} is missing); cna-mlx runs "
                "lists all runs"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InputError(f"{path}: cannot be read ({reason})") from None
        data = parse_document(text, _KIND, FORMAT, str(path), InputError)
        known = ("kind", "format", "status", "identity", "config")
        facts = {key: value for key, value in data.items() if key not in known}
        try:
            config = RunConfig.from_dict(data.get("config") or {})
        except TypeError:
            config = RunConfig()
        if not config.arms or config.planned <= 0:
            raise InputError(f"{path}: no arms or no prompts: the file is damaged")
        status = data.get("status", "running")
        return cls(place, status, config, RunFacts.from_dict(facts))


def _kind(name: str) -> str:
    return f"cna-mlx {Path(name).stem}"


def runs_directory() -> Path:
    """Return ``CNA_MLX_RUNS``, else ``cna-mlx/runs`` in ``XDG_DATA_HOME`` or
    ``~/.local/share``.
    """
    if own := os.environ.get("CNA_MLX_RUNS"):
        return typed_path(own, "CNA_MLX_RUNS")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return typed_path(base, "XDG_DATA_HOME") / "cna-mlx" / "runs"


def has_run(directory: Path, config: RunConfig) -> bool:
    """Whether a directory has a run of a configuration.

    Raises:
        InputError: it has a run that cannot be read.
    """
    if not is_there(directory / RUN):
        return False
    return RunRecord.load(directory).config.identity == config.identity


def default_directory(config: RunConfig) -> Path:
    """The default directory of a configuration: the same every time."""
    name = str(config.model.id).strip("/.").rpartition("/")[2] or "model"
    name = re.sub(r"[^\w.-]+", "-", name)[:60]
    return runs_directory() / f"{config.command}-{name}-{config.identity[:10]}"


def _children(place: Path) -> list[str]:
    return sorted(one.name for one in place.iterdir()) if place.is_dir() else []


def list_runs(directory: Path | None = None) -> list[RunRecord]:
    """The runs of a directory that can be read, the latest first.

    Raises:
        InputError: the directory cannot be read.
    """
    return find_runs(directory)[0]


def find_runs(
    directory: Path | None = None,
) -> tuple[list[RunRecord], list[DamagedRun]]:
    """The runs of a directory, the latest first, and those that cannot be read.

    Raises:
        InputError: the directory cannot be read.
    """
    place = directory or runs_directory()
    found, damaged = [], []
    with file_errors(place, "read"):
        names = ranks.first(lambda: _children(place))
        children = [place / name for name in names]
    for child in children:
        try:
            found.append(RunRecord.load(child))
        except InputError as error:
            if any(os.path.lexists(child / name) for name in (RUN, SAMPLES)):
                damaged.append(DamagedRun(child, problem_in(child, error)))
    found.sort(key=lambda run: str(run.facts.updated), reverse=True)
    return found, damaged


def problem_in(directory: Path, error: InputError) -> str:
    """What is wrong with a run's files, without the path of its directory."""
    if not os.path.lexists(directory / RUN):
        return f"{RUN} is missing"
    return str(error).replace(f"{directory}/", "").removeprefix(f"{directory}: ")
