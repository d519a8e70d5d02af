"""Phi-3, Phi-4 and GLM-4: the gate and the up-projection are one matrix."""

from typing import Any

import mlx.core as mx

from cna_mlx.models.family import Family
from cna_mlx.models.mlp import GatedMLP, MLPBlock


class FusedMLP(MLPBlock):
    """SwiGLU whose gate and up-projection are the halves of one matrix's rows."""

    kind = "gated by silu, gate and up-projection in one"
    projections = ("gate_up_proj", "down_proj")
    kernels = GatedMLP.kernels

    @classmethod
    def width_of(cls, mlp: Any) -> int:
        """Half of the rows of the fused projection."""
        return super().width_of(mlp) // 2

    def parts(self, x: mx.array) -> tuple[mx.array, ...]:
        """Return the gate's and the up-projection's outputs, [..., d_ff] each."""
        gate, up = mx.split(self.gate_up_proj(x), 2, axis=-1)
        return gate, up


FAMILIES = (
    Family("Phi-3 and Phi-4", "phi3", {"MLP": FusedMLP}),
    Family("GLM-4", "glm4", {"Glm4MLP": FusedMLP}, "post_mlp_layernorm"),
)
