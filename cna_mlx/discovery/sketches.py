"""A small sketch of each matrix of a model, to compare it with another model later."""

from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.weight_norms import dequantized
from cna_mlx.models.experts import of_expert
from cna_mlx.models.families import family_of

_COMBINATIONS, _ROWS = 8, 512


def sketches(model: Any) -> dict[tuple[int | None, str], np.ndarray]:
    """A sketch of each matrix in the layers, and of those before and after them.

    Reads all of them once. The layer of the embedding and the unembedding is None.
    """
    family = family_of(model)
    ends = {"embedding": family.embedding(model)}
    if (head := family.unembedding(model)) is not ends["embedding"]:
        ends["unembedding"] = head
    found: dict[tuple[int | None, str], np.ndarray] = {
        (None, name): _sketch(module) for name, module in ends.items()
    }
    for number, layer in enumerate(family.layers(model)):
        for name, module in layer.named_modules():
            if "weight" in module and module.weight.ndim > 1:
                found[number, name] = _sketch(module)
    return found


def _sketch(module: Any) -> np.ndarray:
    """Random combinations of a matrix's rows, the same ones for each matrix."""
    count = getattr(module, "num_experts", 0)
    parts = [of_expert(module, expert) for expert in range(count)] or [module]
    total, seed = mx.array(0.0), 0
    for part in parts:
        for start in range(0, len(part.weight), _ROWS):
            rows = dequantized(part, slice(start, start + _ROWS)).astype(mx.float32)
            shape, key = (_COMBINATIONS, len(rows)), mx.random.key(seed)
            drawn = mx.random.normal(shape, key=key)
            total = total + drawn @ rows.reshape(len(rows), -1)
            seed += 1
            mx.eval(total)
    return np.array(total)
