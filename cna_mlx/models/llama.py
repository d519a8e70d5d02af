"""Llama's MLP block; also for models that mlx-lm maps to Llama (Mistral, SmolLM)."""

from typing import Any

import mlx.core as mx

from cna_mlx.models.mlp import GatedMLP
from cna_mlx.models.mlx_lm_internals import create_attention_mask


class LlamaMLP(GatedMLP):
    """Llama's block: ``down(silu(gate(x)) * up(x))``, with or without biases."""


def attention_mask(
    model: Any, layer: int, hidden: mx.array, cache: Any
) -> mx.array | str | None:
    """The mask of one layer, with Llama's sliding window where the layer has one.

    Args:
        hidden: [batch, length, hidden], the layer's input.
        cache: the layer's KV cache, or None.
    """
    if model.model.layers[layer].use_sliding:
        window = model.model.sliding_window
        return create_attention_mask(hidden, cache, window_size=window)
    return create_attention_mask(hidden, cache)


def slides(model: Any) -> bool:
    """Whether any layer has a sliding window."""
    return any(layer.use_sliding for layer in model.model.layers)
