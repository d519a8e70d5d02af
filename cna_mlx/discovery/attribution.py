"""Ablate each neuron of a circuit alone, to find which of them flip an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Neuron
from cna_mlx.discovery.weight_norms import dequantized
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import downs, experts_of, family_of, widths
from cna_mlx.models.forward import logits
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.mlp import group_of
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.provenance import ModelEntry
from cna_mlx.steering.interventions import Edits
from cna_mlx.util import ranks
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import JsonFields

_ROWS = 16
# Bound the KV caches of the rows, and the activations of a step.
_TOKENS = 8192
_STEP = 512


@dataclass(frozen=True)
class Cause:
    """One neuron, and how much ablating it alone lowers a token's log-probability.

    ``drop`` is in nats; ``promotes`` are the tokens its output direction raises most.
    """

    neuron: Neuron
    drop: float
    promotes: tuple[str, ...]


@wired()
def ablate_each_neuron(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    ids: Sequence[int],
    token: int,
    *,
    top: int = 10,
    most: int | None = None,
    progress: Progress = silent,
) -> list[Cause]:
    """Rank a circuit's neurons by how much each alone changes a token's probability.

    Ablates one neuron over the whole text in each row of a batch, and compares the
    token's log-probability with the unsteered model's in a batch of that shape.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: the neurons to try; only its first ``most`` neurons if given.
        ids: the text before the token, e.g. to where two arms diverge.
        token: the baseline's next token.

    Returns:
        The largest |drop| first.

    Raises:
        CircuitError: the circuit does not fit the model.
        InputError: the text is empty or too long.
        OutOfMemoryError: MLX cannot allocate.
    """
    circuit.check_shape(widths(model), experts_of(model))
    check_lengths(model, [ids])
    rows_at_once = max(1, min(_ROWS, _TOKENS // len(ids)))
    baseline = _logprobs(model, [()] * rows_at_once, ids, token)[0]
    drops: list[float] = []
    tried = circuit.neurons[:most]
    for start in range(0, len(tried), rows_at_once):
        part = tried[start : start + rows_at_once]
        arms = [((Circuit((neuron,)), 0.0),) for neuron in part]
        # fill up with baselines: a row's rounding depends on its batch
        rows = [*arms, *([()] * (rows_at_once - len(part)))]
        found = _logprobs(model, rows, ids, token)
        drops += (baseline - found[: len(part)]).tolist()
        progress("Ablating neurons one by one", len(drops), len(tried))
    order = np.argsort(-np.abs(drops), kind="stable")[:top]
    chosen = [(circuit.neurons[i], drops[i]) for i in order]
    return [Cause(n, d, promoted_tokens(model, tokenizer, n)) for n, d in chosen]


def _logprobs(
    model: Any, arms: list[Any], ids: Sequence[int], token: int
) -> np.ndarray:
    """The token's log-probability after ``ids``, [arms] in float32."""
    cache = make_prompt_cache(model)
    rows = mx.array([list(ids)] * len(arms))
    with Edits(model, arms).installed():
        # in steps: only the last token's logits are needed
        for start in range(0, len(ids) - 1, _STEP):
            model(rows[:, start : min(start + _STEP, len(ids) - 1)], cache=cache)
            mx.eval([layer.state for layer in cache])
        logits = model(rows[:, -1:], cache=cache)[:, -1].astype(mx.float32)
    return np.array(logits[:, token] - mx.logsumexp(logits, axis=-1))


def output_direction(model: Any, layer: int, index: int) -> mx.array:
    """A neuron's column of ``down_proj``, [hidden] in float32.

    Of a quantized projection only the column's group is dequantized.
    """
    expert, index = ModelEntry(experts=experts_of(model)).expert_of(layer, index)
    projection = downs(model, layer)[-1 if expert is None else expert]
    if (held := group_of(projection)) is None:
        return _column(projection, index)
    width = projection_width(projection)
    rank, own = divmod(index, width)
    found = _column(projection, own)
    return ranks.gathered(found[:, None], held)[:, rank]


def projection_width(projection: Any) -> int:
    """How many columns a projection has."""
    columns = int(projection.weight.shape[-1])
    return columns * 32 // projection.bits if hasattr(projection, "bits") else columns


def _column(projection: Any, index: int) -> mx.array:
    if not hasattr(projection, "bits"):
        return projection.weight[:, index].astype(mx.float32)
    size = projection.group_size
    group = index // size
    words = size * projection.bits // 32
    columns = slice(group * words, (group + 1) * words), slice(group, group + 1)
    found = dequantized(projection, slice(None), *columns)
    return found[:, index % size].astype(mx.float32)


@dataclass(frozen=True)
class WrittenTokens(JsonFields):
    """The tokens that a neuron makes most and least probable, the strongest first."""

    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]


def written_tokens(
    model: Any, tokenizer: Any, neuron: Neuron, count: int = 5
) -> WrittenTokens:
    """What a neuron writes on the positive prompts.

    The column of ``down_proj`` goes through the final norm and the unembedding (the
    logit lens of one neuron), negated for a neuron that falls on the positive prompts.
    """
    family = family_of(model)
    direction = output_direction(model, neuron.layer, neuron.index)
    if neuron.delta < 0:
        direction = -direction
    factors = family.written(model, neuron.layer)
    if factors is not None:
        direction = direction * factors
    hidden = direction.astype(family.norm_weight(model).dtype)
    found = logits(model, hidden[None])[0].astype(mx.float32)
    ends = (np.array(mx.argsort(one)[:count]) for one in (-found, found))
    return WrittenTokens(
        *(tuple(tokenizer.decode([int(i)]) for i in end) for end in ends)
    )


def promoted_tokens(
    model: Any, tokenizer: Any, neuron: Neuron, count: int = 5
) -> tuple[str, ...]:
    """The tokens that a neuron promotes; see :func:`written_tokens`."""
    return written_tokens(model, tokenizer, neuron, count).promotes
