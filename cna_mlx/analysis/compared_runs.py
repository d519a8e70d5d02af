"""Compare two runs from their files: no model is loaded, and mlx_lm not imported."""

from collections.abc import Sequence

from cna_mlx.analysis.compared_model import ComparedModel
from cna_mlx.analysis.comparison import ModelComparison, compare_sides
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RUN, RunRecord, runs_directory
from cna_mlx.models.loading import DEMO_NAMES
from cna_mlx.util.files import typed_path


def compare_runs(a: RunRecord, b: RunRecord) -> ModelComparison:
    """Compare two runs on the prompts that both answered.

    Raises:
        InputError: they have no prompt in common, or cannot be read.
    """
    models = [str(run.config.model.id) for run in (a, b)]
    places = [str(run.directory) for run in (a, b)]
    called = distinct_names(models if models[0] != models[1] else places)
    return compare_sides(
        ComparedModel.of_run(a, called[0]), ComparedModel.of_run(b, called[1])
    )


def run_of(name: str) -> RunRecord | None:
    """Return the run of this name or directory; None if it names a model."""
    if name in DEMO_NAMES:
        return None
    kept = runs_directory() / name
    try:
        path = typed_path(name)
        is_run = path.name == RUN or (path / RUN).exists()
        is_run = is_run or (not path.exists() and kept.is_dir())
    except (OSError, InputError):  # too long for a name, nobody's home
        return None
    return RunRecord.open(name) if is_run else None


def distinct_names(names: Sequence[str]) -> tuple[str, str]:
    """What to call two models or runs: their last words, where these differ."""
    short = [last_word(name) for name in names]
    if short[0] != short[1]:
        return short[0], short[1]
    if names[0] != names[1]:
        return names[0], names[1]
    return f"{short[0]} (a)", f"{short[1]} (b)"


def last_word(name: str) -> str:
    """The last part of an id or a path."""
    return name.rstrip("/").rpartition("/")[2] or name
