"""How much each neuron writes: the norms of ``down_proj``'s columns."""

from typing import Any

import mlx.core as mx

# A whole projection in float32 would be twice as large as a 4-bit layer of a 70B.
_ROWS = 512


def column_norms(mlp: Any) -> mx.array:
    """Return the norm of each neuron's column of ``down_proj``, [d_ff] in float32."""
    projection = mlp.down_proj
    squares = mx.zeros((mlp.gate_proj.weight.shape[0],))
    for start in range(0, projection.weight.shape[0], _ROWS):
        rows = dequantized(projection, slice(start, start + _ROWS)).astype(mx.float32)
        squares = squares + rows.square().sum(axis=0)
        mx.eval(squares)
    return mx.sqrt(squares)


def dequantized(
    projection: Any,
    rows: slice,
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
    )
