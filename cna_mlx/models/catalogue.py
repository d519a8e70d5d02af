"""The paper's models and some of other families: shapes, hub ids and memory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from cna_mlx.models.hub.errors import hub_errors
from cna_mlx.models.memory.shape import Shape

# Affine quantization stores 32 bits of scale and bias for each group of 64 weights.
_OVERHEAD = 32 / 64
#: Keys of an entry's ``shape``, and those of config.json.
SHAPE = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "d_ff": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
}
_KINDS = ("mlx_instruct_4bit", "mlx_base_4bit", "hf_instruct", "hf_base")


@dataclass(frozen=True)
class Entry:
    """Models of one shape: instruct, and base if it is one of the paper's.

    Attributes:
        name: without organisation and suffix.
        shape: layers, hidden, d_ff, heads, kv_heads, head_dim, vocab, tied_embeddings,
            params_b; of mixtures also active_b, experts and experts_per_token.
        ids: hub ids by kind; None if unknown.
        sizes: what its memory is computed from.
    """

    name: str
    shape: dict[str, Any]
    ids: dict[str, str | None]
    sizes: Shape

    @property
    def neurons(self) -> int:
        """How many MLP neurons the model has, all experts' included."""
        return self.sizes.all_neurons

    @property
    def weights_4bit(self) -> int:
        """Bytes of the weights in 4 bits, estimated from the published shape."""
        return self.weights(4)

    def weights(self, bits: float) -> int:
        """Bytes of the weights, estimated from the published shape.

        Args:
            bits: of a weight: 4 and 8 are quantized in groups of 64, 16 is bf16.
        """
        return int(float(self.shape["params_b"]) * 1e9 * stored_bits(bits) / 8)

    @property
    def kv_per_token(self) -> int:
        """Bytes of the KV cache for a token of one arm, in 16 bits a value."""
        return self.sizes.kv_per_token


def stored_bits(bits: float) -> float:
    """The bits of a weight in a file, with its share of scales and biases."""
    return bits + _OVERHEAD if bits < 16 else bits


def caveat() -> str:
    """The source of the catalogue's facts, and how reliable they are."""
    return str(_data()["note"])


def entries() -> list[Entry]:
    """The paper's models, smallest Llama first."""
    return [_paper_entry(model) for model in _data()["models"]]


def others() -> list[Entry]:
    """Well-known models of other families and mixtures of experts."""
    return [_other_entry(model) for model in _data()["others"]]


def _paper_entry(model: dict[str, Any]) -> Entry:
    shape = {k: v for k, v in model.items() if k not in ("name", *_KINDS)}
    config = {theirs: shape[key] for key, theirs in SHAPE.items()}
    sizes = Shape.of_config({**config, "head_dim": shape["head_dim"]})
    ids = {kind: model[kind] for kind in _KINDS}
    return Entry(model["name"], shape, ids, sizes)


def _other_entry(model: dict[str, Any]) -> Entry:
    config = model["config"]
    sizes = Shape.of_config(config)
    shape = {key: getattr(sizes, key) for key in (*SHAPE, "head_dim")}
    shape |= {
        "vocab": config["vocab_size"],
        "tied_embeddings": config["tie_word_embeddings"],
        "params_b": model["params_b"],
    }
    if sizes.experts:
        shape |= {
            "active_b": model["active_b"],
            "experts": sizes.experts.count,
            "experts_per_token": sizes.experts.chosen,
        }
    ids = {kind: model[kind] for kind in _KINDS if kind in model}
    return Entry(model["name"], shape, ids, sizes)


def check(repository: str) -> str:
    """The state of a repository on the Hub: ``there``, ``gated`` or ``missing``.

    Raises:
        HubError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, errors

    with hub_errors(repository, None, "the Hub cannot be reached"):
        try:
            info = HfApi().model_info(repository, timeout=10)
        except errors.GatedRepoError:
            return "gated"
        except errors.RepositoryNotFoundError:
            return "missing"
    return "gated" if info.gated else "there"


def _data() -> dict[str, Any]:
    text = files("cna_mlx.models").joinpath("catalogue.json").read_text("utf-8")
    return dict(json.loads(text))


def shape_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a config.json that identify one of the paper's models."""
    return {key: config.get(key) for key in ("model_type", *SHAPE.values())}
