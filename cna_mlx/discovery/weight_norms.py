"""What each neuron writes: the norms and directions of ``down_proj``'s columns."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from cna_mlx.models.mlp import group_of
from cna_mlx.util import ranks

# A whole projection in float32 would be twice as large as a 4-bit layer of a 70B.
_ROWS = 512


def column_norms(downs: Sequence[Any], factors: mx.array | None = None) -> mx.array:
    """Return the norm of each neuron's column of ``down_proj``, [d_ff] in float32.

    Args:
        downs: the layer's down-projections; several if it has experts.
        factors: what a norm multiplies the MLP's output by, [hidden].
    """

    def squares(rows: mx.array, held: slice) -> mx.array:
        own = rows if factors is None else rows * factors[held, None]
        return own.square().sum(axis=0)

    return mx.sqrt(mx.concatenate([_of_all(down, squares) for down in downs]))


def columns_along(
    downs: Sequence[Any], factors: mx.array | None, direction: mx.array
) -> mx.array:
    """Return the part of each neuron's column along directions, [..., d_ff] in float32.

    Args:
        downs: the layer's down-projections; several if it has experts.
        factors: what a norm multiplies the MLP's output by, [hidden].
        direction: [..., hidden] in float32.
    """
    if factors is not None:
        direction = direction * factors

    def along(rows: mx.array, held: slice) -> mx.array:
        return direction[..., held] @ rows

    return mx.concatenate([_of_all(down, along) for down in downs], axis=-1)


def mean_row(projection: Any) -> mx.array:
    """Return the mean of a matrix's rows in float32, e.g. of all unembeddings."""
    count = projection.weight.shape[0]
    return _sum_rows(projection, lambda rows, _: rows.sum(axis=0)) / count


def _of_all(down: Any, part: Callable[[mx.array, slice], mx.array]) -> mx.array:
    """The sum over a down-projection's rows for the neurons of all ranks."""
    found: mx.array = ranks.gathered(_sum_rows(down, part), group_of(down))
    return found


def _sum_rows(projection: Any, part: Callable[[mx.array, slice], mx.array]) -> mx.array:
    """The sum of ``part`` over blocks of a weight's rows in float32."""
    total = mx.array(0.0)
    for start in range(0, projection.weight.shape[0], _ROWS):
        held = slice(start, start + _ROWS)
        total = total + part(dequantized(projection, held).astype(mx.float32), held)
        mx.eval(total)
    return total


def dequantized(
    projection: Any,
    rows: slice | mx.array,
    words: slice = slice(None),
    groups: slice = slice(None),
) -> mx.array:
    """Return rows of a projection's weight, of these packed words and their groups."""
    weight = projection.weight[rows, words]
    if not hasattr(projection, "bits"):
        return weight
    biases = projection.get("biases")
    return mx.dequantize(
        weight,
        projection.scales[rows, groups],
        None if biases is None else biases[rows, groups],
        group_size=projection.group_size,
        bits=projection.bits,
        mode=projection.mode,
        global_scale=projection.get("global_scale"),
    )
