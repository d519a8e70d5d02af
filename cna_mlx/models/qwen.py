"""Qwen's dense families."""

from cna_mlx.models.family import Family
from cna_mlx.models.mlp import GatedMLP


class QwenMLP(GatedMLP):
    """Qwen's block: the same gated form as Llama's, always without biases."""


FAMILIES = (
    Family("Qwen2 and Qwen2.5", "qwen2", {"MLP": QwenMLP}),
    Family("Qwen3", "qwen3", {"MLP": QwenMLP}),
    Family(
        "Qwen3.5 (dense)",
        "qwen3_5",
        {"qwen3_next.Qwen3NextMLP": QwenMLP},
        reads_rope=True,
    ),
)
