"""Tiny models with random weights, made in code."""

from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

LAYERS, HIDDEN, D_FF, VOCABULARY = 3, 64, 128, 512

# family: mlx-lm's module, and what its configuration says beyond the common part
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False},
    ),
    "llama-sliding": (
        "llama",
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "sliding_window": 8,
        },
    ),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"tie_word_embeddings": False, "head_dim": 32}),
}
_SLIDING = {
    "sliding_window": 8,
    "layer_types": ["sliding_attention"] * 2 + ["full_attention"],
}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16}
_HYBRID = {
    "head_dim": 16,
    "num_hidden_layers": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "full_attention_interval": 2,
}
_EXPERTS = {
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
}
_SHARED = {**_EXPERTS, "shared_expert_intermediate_size": 64}
_MAMBA = {
    "head_dim": 16,
    "attention_bias": False,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "mamba_proj_bias": False,
    "ssm_state_size": 16,
    "conv_kernel": 4,
    "n_groups": 2,
    "mlp_bias": False,
    "layer_norm_epsilon": 1e-5,
    "use_bias": False,
    "use_conv_bias": True,
}
# Mixtures of experts.
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_moe": ("qwen3_moe", {**_EXPERTS, "mlp_only_layers": [1]}),
    "qwen2_moe": ("qwen2_moe", _SHARED),
    "qwen3_5_moe": ("qwen3_5", {**_HYBRID, **_SHARED}),
    "qwen3_next": (
        "qwen3_next",
        {
            **_HYBRID,
            **_SHARED,
            "linear_conv_kernel_dim": 4,
            "partial_rotary_factor": 0.5,
        },
    ),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "gpt_oss": (
        "gpt_oss",
        {
            "head_dim": 16,
            "num_hidden_layers": 4,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "sliding_window": 8,
        },
    ),
    "glm4_moe": (
        "glm4_moe",
        {
            **_EXPERTS,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 1.5,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
            "rope_scaling": None,
        },
    ),
    "nemotron_h_moe": (
        "nemotron_h",
        {
            **_MAMBA,
            "hybrid_override_pattern": "ME*-E*",
            "moe_intermediate_size": 32,
            "moe_shared_expert_intermediate_size": 64,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.5,
        },
    ),
}
# The other families; tests/models/test_families.py has what all of them must do.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm3": ("smollm3", {"tie_word_embeddings": True}),
    "ministral3": (
        "ministral3",
        {
            **_SLIDING,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "llama_4_scaling_beta": 0.1,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "olmo2": ("olmo2", {"tie_word_embeddings": False}),
    "olmo3": ("olmo3", _SLIDING),
    "granite": (
        "granite",
        {
            "logits_scaling": 8.0,
            "attention_multiplier": 0.1,
            "embedding_multiplier": 1.5,
            "residual_multiplier": 0.22,
            "attention_bias": False,
            "mlp_bias": False,
        },
    ),
    "seed_oss": (
        "seed_oss",
        {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "exaone4": (
        "exaone4",
        {
            "head_dim": 16,
            "tie_word_embeddings": False,
            "rope_scaling": None,
            "sliding_window": 8,
            "sliding_window_pattern": "LLG",
        },
    ),
    "ernie4_5": (
        "ernie4_5",
        {"head_dim": 16, "use_bias": True, "tie_word_embeddings": True},
    ),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 16}),
    "mimo": ("mimo", {}),
    "cohere2": (
        "cohere2",
        {"head_dim": 16, "sliding_window": 8, "sliding_window_pattern": 3},
    ),
    "internlm3": ("internlm3", {"bias": False, "qkv_bias": True}),
    "minicpm": ("minicpm", {"dim_model_base": 32, "scale_depth": 1.4, "scale_emb": 12}),
    "stablelm": (
        "stablelm",
        {
            "layer_norm_eps": 1e-5,
            "use_qkv_bias": False,
            "partial_rotary_factor": 0.25,
            "use_parallel_residual": True,
        },
    ),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": (
        "gemma3_text",
        {**_GEMMA, "sliding_window": 8, "sliding_window_pattern": 3},
    ),
    "gemma4": (
        "gemma4_text",
        {
            "head_dim": 16,
            "global_head_dim": 32,
            "num_hidden_layers": 6,
            "num_key_value_heads": 1,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 32,
            "num_kv_shared_layers": 3,
            "sliding_window": 8,
            "sliding_window_pattern": 3,
        },
    ),
    "phi3": ("phi3", {"partial_rotary_factor": 0.75}),
    "glm4": (
        "glm4",
        {"head_dim": 16, "attention_bias": True, "partial_rotary_factor": 0.5},
    ),
    "qwen3_5": ("qwen3_5", _HYBRID),
    "nemotron_h": ("nemotron_h", {**_MAMBA, "hybrid_override_pattern": "M-M*-"}),
}
PRECISIONS = ("float32", "bfloat16", "4-bit")
#: Tied and untied embeddings, biases, a window, and every kind of arithmetic: these run
#: by default, the others with ``-m slow``.
FAST = (
    ("llama", "float32"),
    ("llama-biases", "float32"),
    ("llama-sliding", "float32"),
    ("qwen2", "bfloat16"),
    ("qwen3", "4-bit"),
)
KINDS = [
    *((family, precision) for family in FAMILIES for precision in PRECISIONS),
    ("llama", "mixed"),
    ("qwen2", "4-bit-float32"),
]


def make_model(
    family: str = "llama", precision: str = "float32", seed: int = 0, **changes: Any
) -> Any:
    """A model of random weights: the same for the same arguments."""
    module, extra = (FAMILIES | OTHERS | MIXTURES)[family]
    config = {
        "model_type": module,
        "hidden_size": HIDDEN,
        "intermediate_size": D_FF,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        **extra,
        **changes,
    }
    architecture = import_module(f"mlx_lm.models.{module}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    random = np.random.default_rng(seed)
    weights = []
    for name, old in tree_flatten(model.parameters()):
        values = random.standard_normal(old.shape).astype(np.float32)
        if "norm" in name:
            values = 1 + 0.1 * values
        elif old.ndim > 1:  # large enough for every layer to matter
            values *= 1.5 / np.sqrt(old.shape[-1])
        else:
            values *= 0.2
        weights.append((name, mx.array(values)))
    model.update(tree_unflatten(weights))
    if precision != "float32" and not precision.endswith("float32"):
        model.set_dtype(mx.bfloat16)
    if "-bit" in precision:
        nn.quantize(model, group_size=32, bits=int(precision[0]))
    elif precision.startswith("mxfp4"):
        nn.quantize(model, group_size=32, bits=4, mode="mxfp4")
    elif precision == "mixed":
        nn.quantize(model, group_size=32, bits=4, class_predicate=_eight_bits_downward)
    mx.eval(model.parameters())
    model.eval()
    return model


def _eight_bits_downward(path: str, module: Any) -> Any:
    if not hasattr(module, "to_quantized"):
        return False
    if "down_proj" in path or "layers.0." in path:
        return {"group_size": 32, "bits": 8}
    return {"group_size": 32, "bits": 4}


@dataclass(frozen=True)
class Kind:
    """A family at a precision, with what the tests measure it by."""

    family: str
    precision: str

    @property
    def exact(self) -> bool:
        return self.precision.endswith("float32")

    @property
    def tolerance(self) -> float:
        """Of differences that rounding explains, relative to the largest value."""
        return 1e-5 if self.exact else 0.1

    def make(self, **changes: Any) -> Any:
        return make_model(self.family, self.precision, **changes)


class Ends:
    """A tokenizer that ends answers where the test wants it."""

    def __init__(self, tokenizer: Any, *ends: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_ids = set(ends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ends":
        return Ends(deepcopy(self._tokenizer, memo), *self.eos_token_ids)
