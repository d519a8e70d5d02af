"""The embedded demo model as a mixture of experts that answers alike."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

DEMO = Path(__file__).parents[2] / "cna_mlx" / "demo" / "demo"
EXPERTS, CHOSEN = 4, 2


def write_demo_mixture(directory: Path) -> Path:
    """A Mixtral whose experts are all the demo's MLP, with a random router.

    Shares sum to 1, so it answers as the demo does, whatever the router chooses; each
    of the demo's neurons stands in every expert.
    """
    directory.mkdir()
    config: dict[str, Any] = json.loads((DEMO / "config.json").read_text("utf-8"))
    config |= {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": CHOSEN,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    for file in DEMO.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, directory)
    mx.save_safetensors(
        str(directory / "model.safetensors"), _weights(), {"format": "mlx"}
    )
    return directory


def _weights() -> dict[str, mx.array]:
    random, found = np.random.default_rng(0), {}
    for file in sorted(DEMO.glob("*.safetensors")):
        for name, array in mx.load(str(file)).items():
            array = array.astype(mx.float32)
            head, mlp, tail = name.partition(".mlp.")
            if not mlp:
                found[name] = array
                continue
            prefix = f"{head}.block_sparse_moe"
            shape = (EXPERTS, *array.shape)
            found[f"{prefix}.switch_mlp.{tail}"] = mx.broadcast_to(array, shape)
            if tail.startswith("gate_proj"):
                router = random.standard_normal((EXPERTS, array.shape[1]))
                found[f"{prefix}.gate.weight"] = mx.array(router.astype(np.float32))
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    return {name: mx.contiguous(array) for name, array in found.items()}
