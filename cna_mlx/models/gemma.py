"""Gemma 2, 3 and 4: gated by gelu, with norms before and after the MLP."""

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.models.family import Family
from cna_mlx.models.mlp import GatedMLP, kernels


def _geglu(gate: mx.array, up: mx.array) -> mx.array:
    return nn.gelu_approx(gate) * up


class GemmaMLP(GatedMLP):
    """``down(gelu(gate(x)) * up(x))``, with the tanh approximation of gelu."""

    kind = "gated by gelu"
    kernels = kernels(_geglu)


class Gemma4MLP(GemmaMLP):
    """The same; mlx-lm compiles its activation. Some layers are twice as wide."""

    kernels = kernels(_geglu, mx.compile(_geglu, shapeless=True))


_POST = "post_feedforward_layernorm"
_GELU = ("gelu_pytorch_tanh", "gelu_tanh")
FAMILIES = (
    Family(
        "Gemma 2",
        "gemma2",
        {"MLP": GemmaMLP},
        _POST,
        activations=_GELU,
        wide_masks=True,
    ),
    Family("Gemma 3", "gemma3_text", {"MLP": GemmaMLP}, _POST, activations=_GELU),
    Family(
        "Gemma 4 (dense)",
        "gemma4_text",
        {"MLP": Gemma4MLP},
        _POST,
        outputs=3,  # also the keys and values, which later layers share
        activations=_GELU,
        reads_rope=True,
    ),
)
