"""How much each neuron writes: the norms of ``down_proj``'s columns."""

from typing import Any

import mlx.core as mx

# A whole projection in float32 would be twice as large as a 4-bit layer of a 70B.
_ROWS = 512


def column_norms(mlp: Any) -> mx.array:
    """The norm of each neuron's column of ``down_proj``, [d_ff] in float32.

    Args:
        mlp: a layer's MLP block.
    """
    projection = mlp.down_proj
    squares = mx.zeros((mlp.gate_proj.weight.shape[0],))
    for start in range(0, projection.weight.shape[0], _ROWS):
        rows = _rows(projection, slice(start, start + _ROWS)).astype(mx.float32)
        squares = squares + rows.square().sum(axis=0)
        mx.eval(squares)
    return mx.sqrt(squares)


def _rows(projection: Any, rows: slice) -> mx.array:
    weight = projection.weight[rows]
    if not hasattr(projection, "bits"):
        return weight
    biases = projection.get("biases")
    return mx.dequantize(
        weight,
        projection.scales[rows],
        None if biases is None else biases[rows],
        group_size=projection.group_size,
        bits=projection.bits,
        mode=projection.mode,
    )
