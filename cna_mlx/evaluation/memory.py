"""What a run's batches need of the memory, and how many rows fit."""

from dataclasses import replace

from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import WAITING
from cna_mlx.evaluation.kl import LOGITS
from cna_mlx.evaluation.order import sizes
from cna_mlx.models.context import vocabulary
from cna_mlx.models.memory.forecast import evaluation_bytes
from cna_mlx.models.memory.loaded import loaded_shape, parameter_bytes
from cna_mlx.models.memory.machine import gigabytes, machine
from cna_mlx.models.memory.plan import TIGHT


def batch_bytes(evaluation: Evaluation) -> int:
    """MLX's peak memory in a run, without the weights, at most."""
    model, arms = evaluation.model, len(evaluation.arms)
    tokens = evaluation.max_tokens
    rows, size = evaluation.width, vocabulary(model)
    lengths = [len(evaluation.ids(prompt)) for _, prompt in evaluation.prompts]
    _, group = sizes(evaluation.rows, arms)
    kept = 1 if evaluation.extend_to else WAITING
    waiting = int(kept * (group // evaluation.size - 1) * rows)
    compared = rows * min(evaluation.kl_tokens, tokens) * size
    return evaluation_bytes(
        loaded_shape(model),
        rows,
        max(lengths, default=0),
        tokens,
        min(compared, max(LOGITS, rows * size)),
        vocabulary=size,
        waiting=waiting,
        extended=evaluation.extend_to,
    )


def short_of_memory(evaluation: Evaluation) -> str | None:
    """A warning with the numbers and a width that fits; None if memory suffices."""
    weights = parameter_bytes(evaluation.model)
    usable = machine().usable

    def needed(one: Evaluation) -> int:
        return weights + batch_bytes(one)

    if needed(evaluation) <= TIGHT * usable:
        return None
    arms, size = len(evaluation.arms), evaluation.size
    remedy = "fewer arms (--controls) or fewer --max-tokens take less"
    for fewer in range(size // 2, 0, -1):
        narrow = replace(evaluation, rows=fewer * arms)
        if needed(narrow) <= TIGHT * usable:
            remedy = f"--batch {fewer * arms} takes {gigabytes(needed(narrow))}"
            break
    return (
        f"memory is short: the weights and {size * arms} rows need up to "
        f"{gigabytes(needed(evaluation))} of the {gigabytes(usable)} usable here; "
        f"{remedy}"
    )
