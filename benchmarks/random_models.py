"""Make models of real shapes with random weights: full-size speeds without a download.

Speed depends on the shapes and bits of the weights, not on their values. A model has a
shape below, in 4 bits (groups of 64), bf16 or float32, and any number of layers: a few
layers of a 70B fit where the whole does not, and time grows by the layer. Packed words
of quantized weights are drawn directly, without a float32 copy. The tokenizer is the
embedded demo's: its 2,048 ids exist in every vocabulary. The answers are noise.
The last line is one JSON object.

    python benchmarks/random_models.py llama-8b --layers 4 -o ./random-8b
    cna-mlx bench ./random-8b
"""

import argparse
import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.utils import load_tokenizer

import cna_mlx

DEMO = Path(cna_mlx.__file__).parent / "demo" / "demo"
PRECISIONS = ("4-bit", "bfloat16", "float32")
_BITS, _GROUP = 4, 64
# Mean and deviation of integers drawn evenly from 0 to 15.
_MEAN, _DEVIATION = 7.5, 4.61
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
_LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
_QWEN = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
_SMOL = {"vocab_size": 49152, "rope_theta": 1e5, "max_position_embeddings": 8192}
_TIED = {"tie_word_embeddings": True}
_GEMMA = {
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "head_dim": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "rms_norm_eps": 1e-6,
}
_PHI = {**_LLAMA, "model_type": "phi3", "vocab_size": 200064}
_EXPERTS = {
    **_QWEN,
    "model_type": "qwen3_moe",
    "vocab_size": 151936,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
_OSS = {
    "model_type": "gpt_oss",
    "vocab_size": 201088,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 150000,
    "max_position_embeddings": 131072,
}


# Of one size, to compare the kinds of MLP: see docs/performance.md.
_ALIKE = (1024, 4096, 6, 16, 4)
_FEW = {"num_experts": 32, "moe_intermediate_size": 512}
_KIND = {
    **_TIED,
    "vocab_size": 8192,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 8192,
}
_SCAN = {
    "model_type": "nemotron_h",
    "mamba_num_heads": 16,
    "mamba_head_dim": 64,
    "ssm_state_size": 64,
    "conv_kernel": 4,
    "n_groups": 4,
    "layer_norm_epsilon": 1e-5,
    "use_conv_bias": True,
    "hybrid_override_pattern": f"M{6 * '*-'}",
    **dict.fromkeys(
        ("attention_bias", "mamba_proj_bias", "mlp_bias", "use_bias"), False
    ),
}


def _shape(common: dict[str, Any], *sizes: int, **more: Any) -> dict[str, Any]:
    return {**common, **dict(zip(_SIZES, sizes, strict=True)), **more}


#: The shapes of the published config.json files; and of one size, a kind of MLP each.
SHAPES = {
    "smollm2-135m": _shape(_LLAMA, 576, 1536, 30, 9, 3, **_SMOL, **_TIED),
    "llama-1b": _shape(_LLAMA, 2048, 8192, 16, 32, 8, head_dim=64, **_TIED),
    "llama-3b": _shape(_LLAMA, 3072, 8192, 28, 24, 8, head_dim=128, **_TIED),
    "llama-8b": _shape(_LLAMA, 4096, 14336, 32, 32, 8),
    "llama-70b": _shape(_LLAMA, 8192, 28672, 80, 64, 8),
    "qwen-1.5b": _shape(_QWEN, 1536, 8960, 28, 12, 2, vocab_size=151936, **_TIED),
    "qwen-7b": _shape(_QWEN, 3584, 18944, 28, 28, 4),
    "qwen-72b": _shape(_QWEN, 8192, 29568, 80, 64, 8),
    "gemma3-1b": _shape(_GEMMA, 1152, 6912, 26, 4, 1),
    "phi4-mini": _shape(_PHI, 3072, 8192, 32, 24, 8),
    "qwen3-30b-a3b": _shape(_EXPERTS, 2048, 6144, 48, 32, 4),
    "gpt-oss-20b": _shape(_OSS, 2880, 2880, 24, 64, 8),
    "kind-silu": _shape({**_LLAMA, **_KIND}, *_ALIKE),
    "kind-gelu": _shape({**_GEMMA, **_KIND}, *_ALIKE),
    "kind-fused": _shape({**_PHI, **_KIND}, *_ALIKE),
    "kind-squared": _shape({**_SCAN, **_KIND}, *_ALIKE),
    "kind-experts": _shape({**_EXPERTS, **_KIND, **_FEW}, *_ALIKE),
}


def make(
    name: str, precision: str = "4-bit", layers: int | None = None, seed: int = 0
) -> tuple[Any, dict[str, Any]]:
    """A model in memory and its configuration; ``layers`` is None for all layers."""
    config = dict(SHAPES[name])
    config["num_hidden_layers"] = layers or config["num_hidden_layers"]
    architecture = import_module(f"mlx_lm.models.{config['model_type']}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    dtype = mx.float32 if precision == "float32" else mx.bfloat16
    model.set_dtype(dtype)
    if precision == "4-bit":
        nn.quantize(model, group_size=_GROUP, bits=_BITS)
        config["quantization"] = {"group_size": _GROUP, "bits": _BITS}
    config["torch_dtype"] = str(dtype).removeprefix("mlx.core.")
    random = np.random.default_rng(seed)
    drawn = []
    for path, old in tree_flatten(model.parameters()):  # lazy: holds no memory yet
        drawn.append((path, new := _drawn(path, old, random)))
        mx.eval(new)
    model.update(tree_unflatten(drawn))
    model.eval()
    return model, config


def _drawn(path: str, old: mx.array, random: np.random.Generator) -> mx.array:
    if old.dtype == mx.uint32:
        return mx.array(random.integers(0, 2**32, old.shape, dtype=np.uint32))
    if path.endswith(("scales", "biases")):
        width = old.shape[-1] * _GROUP
        scale = 1 / (_DEVIATION * width**0.5)
        return mx.full(old.shape, scale if "scales" in path else -_MEAN * scale).astype(
            old.dtype
        )
    if "norm" in path:
        return mx.ones(old.shape, old.dtype)
    values = random.standard_normal(old.shape, dtype=np.float32)
    return mx.array(values * old.shape[-1] ** -0.5).astype(old.dtype)


def tokenizer() -> Any:
    """The embedded demo's tokenizer."""
    return load_tokenizer(DEMO, eos_token_ids=2)


def save(model: Any, config: dict[str, Any], directory: Path) -> int:
    """Write a model directory; returns the bytes of its weights."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(
        str(directory / "model.safetensors"), weights, metadata={"format": "mlx"}
    )
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    for file in DEMO.glob("tokenizer*.json"):
        shutil.copy(file, directory)
    return sum(array.nbytes for array in weights.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a model."""
    parser.add_argument(
        "--model", help="a directory or Hub id; default: random weights"
    )
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--layers", type=int, help="how many, if not all")


def chosen(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    """The model of the options, its tokenizer and its name."""
    if arguments.model:
        model, own = cna_mlx.load(arguments.model)
        return model, own, Path(arguments.model).name
    model, config = make(arguments.shape, arguments.precision, arguments.layers)
    layers = config["num_hidden_layers"]
    name = f"random {arguments.shape}, {arguments.precision}, {layers} layers"
    return model, tokenizer(), name


def main() -> None:
    """Make a model directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--precision", choices=PRECISIONS, default="4-bit")
    parser.add_argument("--layers", type=int, help="how many, if not all")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    model, config = make(arguments.shape, arguments.precision, arguments.layers)
    size = save(model, config, arguments.output)
    print(f"{size / 1e9:.2f} GB of random weights in {arguments.output}")
    result = {
        "shape": arguments.shape,
        "precision": arguments.precision,
        "layers": config["num_hidden_layers"],
        "weight_bytes": size,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
