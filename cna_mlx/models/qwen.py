"""Qwen's families, dense and mixtures."""

from cna_mlx.models.experts import ExpertsBlock, SharedExpertBlock
from cna_mlx.models.family import Family
from cna_mlx.models.mlp import GatedMLP


class QwenMLP(GatedMLP):
    """Qwen's block: the same gated form as Llama's, always without biases."""


_NEXT = {
    "qwen3_next.Qwen3NextMLP": QwenMLP,
    "qwen3_next.Qwen3NextSparseMoeBlock": SharedExpertBlock,
}
FAMILIES = (
    Family("Qwen2 and Qwen2.5", "qwen2", {"MLP": QwenMLP}),
    Family("Qwen3", "qwen3", {"MLP": QwenMLP}),
    Family("Qwen3.5 (dense and mixtures)", "qwen3_5", _NEXT, reads_rope=True),
    Family(
        "Qwen2 mixtures",
        "qwen2_moe",
        {"Qwen2MoeSparseMoeBlock": SharedExpertBlock},
    ),
    Family(
        "Qwen3 mixtures",
        "qwen3_moe",
        {"MLP": QwenMLP, "Qwen3MoeSparseMoeBlock": ExpertsBlock},
    ),
    Family("Qwen3-Next", "qwen3_next", _NEXT),
)
