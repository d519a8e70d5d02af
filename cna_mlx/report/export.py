"""Export a run to files that other tools read: Inspect's logs, lm-eval's samples."""

from pathlib import Path
from typing import Literal, get_args

from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import by_arm
from cna_mlx.report.inspect_log import write_inspect_log
from cna_mlx.report.lm_eval_samples import write_lm_eval_samples
from cna_mlx.util.files import File, typed_path

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
    if format not in FORMATS:
        raise InputError(f"{format!r}: the formats are {' and '.join(FORMATS)}")
    answered = by_arm(run.samples())
    if not answered:
        raise InputError(f"{run.directory}: no prompt is answered yet")
    place = typed_path(directory, "--out") if directory else run.directory / format
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"{place}: cannot be made ({error.strerror}); give another --out"
        ) from None
    found = []
    for arm in run.arms:
        samples = answered[arm.label]
        if format == "inspect":
            found.append(write_inspect_log(run, arm, samples, place))
        else:
            found += write_lm_eval_samples(run, arm, samples, place)
    return found
