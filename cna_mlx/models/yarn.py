"""Mend the frequencies of YaRN where mlx-lm rounds what the model does not."""

import math
from typing import Any

import mlx.core as mx

from cna_mlx.models.families import family_of
from cna_mlx.models.family import text_of


def mend(model: Any) -> None:
    """Give a model with ``"truncate": false`` the frequencies that it was trained with.

    So gpt-oss: mlx-lm rounds the bounds of the ramp between both kinds of frequencies
    to whole dimensions, as YaRN's first implementation did.
    """
    args = text_of(model).args
    scaling = getattr(args, "rope_scaling", None) or {}
    if scaling.get("truncate", True):
        return
    for layer in family_of(model).layers(model):
        rope = layer.self_attn.rope
        rope._freqs = _wavelengths(rope.dims, args.rope_theta, scaling)


def _wavelengths(dims: int, base: float, scaling: dict[str, Any]) -> mx.array:
    """YaRN's inverse frequencies, [dims / 2] (Peng et al., 2023, equation 22)."""
    factor = scaling["factor"]
    context = scaling["original_max_position_embeddings"]

    def dimension(rotations: float) -> float:
        turns = math.log(context / (rotations * 2 * math.pi))
        return dims * turns / (2 * math.log(base))

    low = max(dimension(scaling.get("beta_fast", 32)), 0)
    high = min(dimension(scaling.get("beta_slow", 1)), dims - 1)
    ramp = mx.clip((mx.arange(dims // 2) - low) / (high - low), 0, 1)
    plain = base ** (mx.arange(0, dims, 2) / dims)
    return 1 / ((1 - ramp) / plain + ramp / (factor * plain))
