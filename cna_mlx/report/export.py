"""Export a run to files that other tools read: Inspect's logs, lm-eval's samples."""

from pathlib import Path
from typing import Literal, get_args

from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import by_arm
from cna_mlx.report.inspect_log import inspect_log
from cna_mlx.report.lm_eval_samples import lm_eval_samples
from cna_mlx.util.files import (
    File,
    file_errors,
    make_directory,
    typed_path,
    write_atomically,
)

ExportFormat = Literal["inspect", "lm-eval"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)


def export_run(
    run: RunRecord, format: ExportFormat = "inspect", directory: File | None = None
) -> list[Path]:
    """Write the answers of each arm for another tool, readable by their owner only.

    Args:
        format: ``inspect``: one ``.eval`` log an arm, for ``inspect view``;
            ``lm-eval``: a directory an arm, with ``samples_*.jsonl`` a prompt set.
        directory: where the files go; made if it does not exist. A directory of the
            run's if None.

    Returns:
        the files.

    Raises:
        InputError: an unknown format, no prompt is answered yet, or a file cannot be
            written.
    """
    contents = exported(run, format, directory)
    write_exported(contents)
    return list(contents)


def exported(
    run: RunRecord, format: ExportFormat = "inspect", directory: File | None = None
) -> dict[Path, bytes]:
    """The files of :func:`export_run` with their contents, not yet written."""
    if format not in FORMATS:
        raise InputError(f"{format!r}: the formats are {' and '.join(FORMATS)}")
    answered = by_arm(run.samples())
    if not answered:
        raise InputError(f"{run.directory}: no prompt is answered yet")
    place = typed_path(directory, "--out") if directory else run.directory / format
    files_of = inspect_log if format == "inspect" else lm_eval_samples
    contents: dict[Path, bytes] = {}
    for arm in run.arms:
        contents |= files_of(run, arm, answered[arm.label], place)
    return contents


def changed(contents: dict[Path, bytes]) -> list[Path]:
    """The files that exist already with another content."""
    found = []
    for path, content in contents.items():
        with file_errors(path, "read"):
            if path.is_file() and path.read_bytes() != content:
                found.append(path)
    return found


def write_exported(contents: dict[Path, bytes]) -> None:
    """Write the files, readable by their owner only; make their directories.

    Raises:
        InputError: one cannot be written.
    """
    for path, content in contents.items():
        make_directory(path.parent)
        write_atomically(path, content, 0o600)
