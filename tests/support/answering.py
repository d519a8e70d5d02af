"""Answer a prompt of an evaluation by itself."""

from collections.abc import Callable

from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.samples import Sample
from cna_mlx.util.progress import never


def answered_alone(
    evaluation: Evaluation, number: int, stop: Callable[[], bool] = never
) -> list[Sample] | None:
    """A sample for each arm; None if stopped."""
    found = answer_group(evaluation, [number], stop)
    return None if found is None else found[0]
