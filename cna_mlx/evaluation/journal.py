"""Write a run, and resume it where it was cut off.

The lines of a prompt, one for each arm, are written together and flushed to the disk;
the rest of an unfinished prompt is cut off. Prompts are answered in groups: a group of
which some are missing is computed again, and only these are written.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError, InputError
from cna_mlx.evaluation.run_config import RunConfig, RunFacts
from cna_mlx.evaluation.runs import (
    CIRCUITS,
    DIRECTION,
    NEURONS,
    RUN,
    SAMPLES,
    SEARCH,
    RunRecord,
    Status,
)
from cna_mlx.evaluation.samples import Sample, read_samples
from cna_mlx.util import ranks
from cna_mlx.util.files import existing, file_errors, lock

# Files that the Finder creates.
_FINDERS = (".DS_Store", ".localized")
_TEMPORARY = ("._", f".{RUN}.")  # the latter is run.json during a write
_LEFTOVER = re.compile(r"\.[\w.-]+\.(json|npz)\.[0-9a-f]{8}")


class Journal:
    """A run that is being written, and how many of its batches are ``done``.

    ``is_locked`` is False on a file system that cannot keep other processes out. Of
    several ranks only the first has a ``file``.
    """

    def __init__(
        self, run: RunRecord, done: int, file: FileIO | None, is_locked: bool = True
    ) -> None:
        self.run, self.done, self.is_locked = run, done, is_locked
        self._begun = done
        self._file = file

    def add(self, samples: Sequence[Sample]) -> None:
        """Write a batch's lines together, and flush them to the disk.

        Raises:
            CnaError: they cannot be written, e.g. because the disk is full.
        """
        ranks.share()  # an answer after which a rank is gone was not computed whole
        self.done += 1
        if self._file is None:
            return
        lines = "".join(f"{sample.to_line()}\n" for sample in samples)
        left = memoryview(lines.encode("utf-8", "backslashreplace"))
        try:
            while left:  # a disk that fills up takes a part
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CnaError(
                f"{self.run.directory}: the samples cannot be written "
                f"({error.strerror}); make room and run the same command again"
            ) from None

    def finish(self, status: Status) -> None:
        """Record how the run ended.

        Raises:
            CnaError: it cannot be written; not for a failed run with an earlier error.
        """
        if status == self.run.status and self.done == self._begun:
            return  # nothing was added: keep the file's date
        if self._file is None:
            self.run = replace(self.run, status=status)
            return
        self.run = replace(self.run, status=status)
        try:
            self.run.save()
        except InputError as error:
            if status == "failed":
                return
            raise CnaError(
                f"{error}; the answers are saved: make room and run the same command "
                "again"
            ) from None


@contextmanager
def opened(
    directory: Path, config: RunConfig, circuits: Mapping[str, Circuit], facts: RunFacts
) -> Iterator[Journal]:
    """Start a run of this configuration, or resume the one in the directory.

    ``circuits`` are by name, as the arms of the configuration name them.

    Raises:
        InputError: the directory has a run of another configuration, another process
            is writing it, or nothing can be written.
    """
    with ExitStack() as stack:
        own: list[Journal] = []

        def write() -> tuple[int, bool]:
            opening = _written(directory, config, circuits, facts)
            own.append(stack.enter_context(opening))
            return own[0].done, own[0].is_locked

        done, is_locked = ranks.first(write)
        if ranks.count() > 1:
            run = RunRecord.load(directory)  # which all read together
            own = own or [Journal(run, done, None, is_locked)]
        yield own[0]


@contextmanager
def _written(
    directory: Path, config: RunConfig, circuits: Mapping[str, Circuit], facts: RunFacts
) -> Iterator[Journal]:
    """The run of :func:`opened`, which this process writes."""
    with file_errors(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_empty_or_run(directory)
    path = directory / SAMPLES
    with file_errors(directory):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    # unbuffered: closing it writes nothing, so it cannot fail on a full disk
    with FileIO(handle, "r+") as file:
        is_locked = _lock(file, directory)
        _remove_leftovers(directory)
        run = _begin(directory, config, circuits, facts)
        samples, size = read_samples(path, [arm.label for arm in run.arms])
        with file_errors(directory):
            file.truncate(size)
            file.seek(size)
        done = len(samples) // len(run.arms)
        if done < run.planned and run.status != "running":
            # or a kill would leave the last status
            run = replace(run, status="running")
            run.save()
        yield Journal(run, done, file, is_locked)


def _lock(file: FileIO, directory: Path) -> bool:
    """Keep other processes out; False on a file system without locks."""
    # on the file itself: filelock would leave a second one in the directory
    if (is_locked := lock(file)) is None:
        raise InputError(
            f"{directory}: another process is writing this run; wait for it, or "
            "give another --out"
        )
    return is_locked


def _begin(
    directory: Path, config: RunConfig, circuits: Mapping[str, Circuit], facts: RunFacts
) -> RunRecord:
    """The run in the directory, if it has this configuration; else a new one."""
    if (directory / RUN).exists():
        old = RunRecord.load(directory)
        if old.config.identity != config.identity:
            changed = ", ".join(old.config.differences(config))
            raise InputError(
                f"{directory}: has a run of another configuration ({changed}); "
                "give another --out, or the options of that run"
            )
        return replace(old, facts=replace(old.facts, resumed=True))
    place = directory / CIRCUITS
    with file_errors(directory):
        place.mkdir(exist_ok=True, mode=0o700)
    for name, circuit in circuits.items():
        circuit.save(place / f"{name}.json")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunRecord(directory, "running", config, replace(facts, created=created))
    run.save()
    return run


def _remove_leftovers(directory: Path) -> None:
    """Remove the temporary files of a killed writer: only one process writes here."""
    for place in (directory, directory / CIRCUITS):
        for path in place.glob(".*.*"):
            if _LEFTOVER.fullmatch(path.name) and not path.is_symlink():
                path.unlink(missing_ok=True)


def check_place(directory: Path) -> None:
    """Check that a run can be written to a directory, without writing anything.

    Raises:
        InputError: it has other files, or cannot be made or written to.
    """
    ranks.first(lambda: _check_place(directory))


def _check_place(directory: Path) -> None:
    nearest = existing(directory)
    if not nearest.is_dir():
        raise InputError(f"{directory}: {nearest} is a file; give another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"{directory}: cannot be written ({nearest} is read-only); give another "
            "--out"
        )
    if nearest == directory:
        _check_empty_or_run(directory)
    if (directory / RUN).exists():
        RunRecord.load(directory)


def _check_empty_or_run(directory: Path) -> None:
    """Refuse a directory with other files, or with samples of an unknown run."""
    for name in (RUN, SAMPLES, CIRCUITS, DIRECTION, NEURONS, SEARCH):
        if (directory / name).is_symlink():
            raise InputError(
                f"{directory / name}: a symbolic link; a run has its own files: remove "
                "the link, or give another --out"
            )
    samples = directory / SAMPLES
    # in this order: another process writes run.json first
    if samples.is_file() and samples.stat().st_size and not (directory / RUN).exists():
        raise InputError(
            f"{directory}: {SAMPLES} is there, but {RUN} is missing; restore it, or "
            "give another --out"
        )
    own = {RUN, SAMPLES, CIRCUITS, DIRECTION, *_FINDERS}
    with file_errors(directory, "read"):
        names = sorted(path.name for path in directory.iterdir())
    others = [name for name in names if name not in own]
    others = [name for name in others if not name.startswith(_TEMPORARY)]
    if others and not (directory / RUN).exists():
        raise InputError(
            f"{directory}: has other files ({others[0]}) and no run; give another --out"
        )
