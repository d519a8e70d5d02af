"""Llama, and the families whose MLP is Llama's SwiGLU."""

from cna_mlx.models.family import Family
from cna_mlx.models.mlp import GatedMLP


class LlamaMLP(GatedMLP):
    """Llama's block: ``down(silu(gate(x)) * up(x))``, with or without biases."""


_MLP = {"MLP": LlamaMLP}
_POST = "post_feedforward_layernorm"
FAMILIES = (
    Family("Llama (and Mistral, SmolLM)", "llama", _MLP),
    Family("SmolLM3", "smollm3", {"llama.MLP": LlamaMLP}),
    Family("Ministral 3", "ministral3", _MLP, reads_rope=True),
    Family("OLMo 2", "olmo2", _MLP, _POST),
    Family("OLMo 3", "olmo3", {"Olmo3MLP": LlamaMLP}, _POST, scales_full_only=True),
    Family("Granite 3", "granite", _MLP),
    Family("Seed-OSS", "seed_oss", _MLP),
    Family("EXAONE 4", "exaone4", _MLP, _POST),
    Family("ERNIE 4.5", "ernie4_5", _MLP),
    Family("Hunyuan dense", "hunyuan_v1_dense", _MLP),
    Family("MiMo", "mimo", _MLP),
    Family("Command R7B", "cohere2", _MLP),
    Family("InternLM3", "internlm3", _MLP),
    Family("MiniCPM", "minicpm", _MLP),
    Family("StableLM", "stablelm", _MLP),
)
