"""Qwen's MLP block (Qwen 2, 2.5 and 3)."""

from typing import Any

import mlx.core as mx

from cna_mlx.models.mlp import GatedMLP
from cna_mlx.models.mlx_lm_internals import create_attention_mask


class QwenMLP(GatedMLP):
    """Qwen's block: the same gated form as Llama's, always without biases."""


def attention_mask(
    model: Any, layer: int, hidden: mx.array, cache: Any
) -> mx.array | str | None:
    """The causal mask, the same for every layer; see :mod:`cna_mlx.models.llama`."""
    return create_attention_mask(hidden, cache)


def slides(model: Any) -> bool:
    """False: mlx-lm's Qwen has no sliding window."""
    return False
