"""Nemotron-H: each layer is one block: Mamba, attention, an MLP or experts."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from cna_mlx.models.experts import ExpertsBlock
from cna_mlx.models.family import Family
from cna_mlx.models.mlp import MLPBlock, NoNeurons, kernels


class SquaredReluMLP(MLPBlock):
    """``down(relu(up(x)) ** 2)``: nothing gates it."""

    kind = "relu squared, not gated"
    projections = ("up_proj", "down_proj")
    kernels = kernels(nn.relu2)

    def parts(self, x: mx.array) -> tuple[mx.array, ...]:
        """Return the up-projection's output, [..., d_ff]."""
        return (self.up_proj(x),)


class NemotronExpertsBlock(ExpertsBlock):
    """Experts of that kind, and a shared one, added whole."""

    kind = "experts, relu squared, not gated"
    kernels = SquaredReluMLP.kernels
    shared = "shared_experts"
    expert_projections = ("fc1", "fc2")
    shared_block = SquaredReluMLP

    @classmethod
    def reads(cls, mlp: Any) -> bool:
        """Not where experts read and write a narrower stream of their own."""
        return "fc2_latent_proj" not in mlp


FAMILIES = (
    Family(
        "Nemotron-H (dense and mixtures)",
        "nemotron_h",
        {
            "NemotronHMamba2Mixer": NoNeurons,
            "NemotronHAttention": NoNeurons,
            "NemotronHMLP": SquaredReluMLP,
            "NemotronHMoE": NemotronExpertsBlock,
        },
        mlp="mixer",
        body="backbone",
        table="embeddings",
        norm="norm_f",
        activations=("relu2",),
        reads_rope=True,  # it has no positions
    ),
)
