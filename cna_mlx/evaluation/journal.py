"""A run while it is being written: it goes on where it was cut off.

The batch (one prompt in all arms) is the unit of resumption. Its lines are written
together and flushed to the disk; what a kill leaves of an unfinished batch is cut off
and computed again.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    RUN,
    SAMPLES,
    RunRecord,
    Status,
)
from cna_mlx.evaluation.samples import Sample, read_samples
from cna_mlx.util.files import existing

# What the Finder puts into a directory that it shows, and "._" on foreign disks.
_FINDERS = (".DS_Store", ".localized")
_PASSING = ("._", f".{RUN}.")  # the latter is run.json while it is being written


class Journal:
    """A run that is being written, one batch at a time; see :func:`opened`.

    Attributes:
        run: as it stands.
        done: how many batches are whole.
    """

    def __init__(self, run: RunRecord, done: int, file: FileIO) -> None:
        self.run, self.done = run, done
        self._begun = done
        self._file = file

    def add(self, samples: Sequence[Sample]) -> None:
        """Write a batch's lines together, and see them onto the disk.

        Raises:
            CnaError: they cannot be written: the disk is full, say.
        """
        lines = "".join(f"{sample.to_line()}\n" for sample in samples)
        left = memoryview(lines.encode("utf-8", "backslashreplace"))
        try:
            while left:  # of a disk that fills up it takes a part
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CnaError(
                f"{self.run.directory}: the samples cannot be written "
                f"({error.strerror}); make room, then the same command goes on"
            ) from None
        self.done += 1

    def finish(self, status: Status) -> None:
        """Say how it ended.

        Raises:
            CnaError: it cannot be written; never of a run that failed, since what is on
                its way then says more.
        """
        if status == self.run.status and self.done == self._begun:
            return  # nothing came of it: the file's date stays
        self.run = replace(self.run, status=status)
        try:
            self.run.save()
        except InputError as error:
            if status == "failed":
                return
            raise CnaError(
                f"{error}; the answers are kept: make room, then the same command "
                "goes on"
            ) from None


@contextmanager
def opened(
    directory: Path,
    config: RunConfig,
    circuits: Mapping[str, Circuit],
    facts: RunFacts,
) -> Iterator[Journal]:
    """Begin a run, or go on with the one that is there.

    Args:
        directory: where it lies, or will.
        config: all that decides the samples; see :class:`RunRecord`.
        circuits: by name, as the arms of the configuration name them.
        facts: what else is known.

    Raises:
        InputError: another configuration lies there, another process is at work on it,
            or nothing can be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unwritable(directory, error) from None
    _check_empty_or_run(directory)
    path = directory / SAMPLES
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(directory, error) from None
    # unbuffered: closing it writes nothing, and cannot fail over a full disk once more
    with FileIO(handle, "r+") as file:
        try:
            # on the file itself: filelock would leave a second one in the directory
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{directory}: another process is at work on this run; wait for it, or "
                "give another --out"
            ) from None
        run = _begin(directory, config, circuits, facts)
        samples, size = read_samples(path, [arm.label for arm in run.arms])
        try:
            file.truncate(size)
            file.seek(size)
        except OSError as error:
            raise _unwritable(directory, error) from None
        done = len(samples) // len(run.arms)
        if done < run.planned and run.status != "running":
            # or a kill would leave it as it ended the last time
            run = replace(run, status="running")
            run.save()
        yield Journal(run, done, file)


def _begin(
    directory: Path,
    config: RunConfig,
    circuits: Mapping[str, Circuit],
    facts: RunFacts,
) -> RunRecord:
    """The run that lies here, if it is the same one; else a new one, written."""
    if (directory / RUN).exists():
        old = RunRecord.load(directory)
        if old.config.identity != config.identity:
            changed = ", ".join(old.config.differences(config))
            raise InputError(
                f"{directory}: a run of another configuration lies there ({changed}); "
                "give another --out, or the options of that run"
            )
        return replace(old, facts=replace(old.facts, resumed=True))
    place = directory / CIRCUITS
    try:
        place.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unwritable(directory, error) from None
    for name, circuit in circuits.items():
        circuit.save(place / f"{name}.json")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    run = RunRecord(directory, "running", config, replace(facts, created=created))
    run.save()
    return run


def check_place(directory: Path) -> None:
    """See that a run can lie in a directory, before the work for it is done.

    Nothing is made or written. Whether the run that lies there is the same one is told
    by :func:`opened`.

    Raises:
        InputError: it holds something else, cannot be made, or cannot be written to.
    """
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
    """Refuse to write among files that are not ours, or that nothing is known of."""
    samples = directory / SAMPLES
    # in this order: another process writes run.json first
    if samples.is_file() and samples.stat().st_size and not (directory / RUN).exists():
        raise InputError(
            f"{directory}: {SAMPLES} is there, but {RUN}, which says what its answers "
            f"are of, is missing; put it back, or give another --out"
        )
    own = {RUN, SAMPLES, CIRCUITS, DIRECTION, *_FINDERS}
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({error.strerror})") from None
    others = [name for name in names if name not in own]
    others = [name for name in others if not name.startswith(_PASSING)]
    if others and not (directory / RUN).exists():
        raise InputError(
            f"{directory}: holds other files ({others[0]}) and no run; give --out a "
            "directory of its own"
        )


def _unwritable(directory: Path, error: OSError) -> InputError:
    return InputError(f"{directory}: cannot be written ({error.strerror})")
