"""List the models in the Hub's cache; makes no request and loads nothing."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.models.hub.client import COMMIT, is_complete
from cna_mlx.models.memory.machine import weight_bytes

# The model_type of a config.json that cna_mlx.models.families can read.
READABLE = (
    *("llama", "mistral", "smollm3", "ministral3", "olmo2", "olmo3", "granite"),
    *("seed_oss", "exaone4", "ernie4_5", "hunyuan_v1_dense", "mimo", "cohere2"),
    *("internlm3", "minicpm", "stablelm", "qwen2", "qwen3", "qwen3_5"),
    *("qwen2_moe", "qwen3_moe", "qwen3_next", "qwen3_5_moe", "mixtral", "gpt_oss"),
    *("glm4_moe", "gemma2", "gemma3", "gemma3_text", "gemma4", "gemma4_text", "phi3"),
    *("glm4", "nemotron_h"),
)
_FOLDER = "models--"


@dataclass(frozen=True)
class CachedModel:
    """A language model in the cache.

    Attributes:
        name: its hub id.
        bytes: of its weights.
        kind: the ``model_type`` of its config.json; of its text model in Mistral's
            wrapper; "... with experts" for Gemma 4 with experts beside its MLP, and
            "... with a latent" for Nemotron-H with experts of a narrower stream.
        bits: of a quantized weight; None for others.
        is_complete: whether all files are there.
        unreadable: why its weights cannot be loaded, and what to do; None if they can.
    """

    name: str
    bytes: int
    kind: str
    bits: int | None
    is_complete: bool
    unreadable: str | None = None

    @property
    def is_readable(self) -> bool:
        """Whether it is of an architecture that cna-mlx reads."""
        return self.kind in READABLE

    @property
    def is_loadable(self) -> bool:
        """Whether cna-mlx reads its architecture and its weights."""
        return self.is_readable and self.unreadable is None


def cached_names() -> list[str]:
    """The hub ids of all folders of models in the cache, sorted."""
    return sorted(_name(folder) for folder in _folders())


def cached_models() -> list[CachedModel]:
    """The language models in the cache, by name."""
    found = (_model(folder) for folder in _folders())
    return sorted((one for one in found if one), key=lambda one: one.name)


def _folders() -> Iterator[Path]:
    from huggingface_hub import constants

    with suppress(OSError):
        yield from Path(constants.HF_HUB_CACHE).glob(f"{_FOLDER}*")


def _name(folder: Path) -> str:
    return folder.name.removeprefix(_FOLDER).replace("--", "/", 1)


def _model(folder: Path) -> CachedModel | None:
    """The newest snapshot of a folder; None if it is not of a language model."""
    from cna_mlx.models.weight_files import foreign_quantization, foreign_remedy

    with suppress(OSError, ValueError, TypeError, AttributeError):
        path = _snapshot(folder)
        config: dict[str, Any] = json.loads((path / "config.json").read_text("utf-8"))
        foreign = foreign_quantization(path, config)
        return CachedModel(
            _name(folder),
            weight_bytes(path),
            _kind(config),
            _bits(config),
            is_complete(path),
            foreign and foreign_remedy(foreign),
        )
    return None


def _kind(config: dict[str, Any]) -> str:
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else {}
    kind = str(config.get("model_type", "unknown"))
    if kind == "mistral3":
        kind = str(text.get("model_type", kind))
    if (config | text).get("enable_moe_block"):
        return f"{kind} with experts"
    return f"{kind} with a latent" if (config | text).get("moe_latent_size") else kind


def _snapshot(folder: Path) -> Path:
    """The snapshot of the main branch, else any.

    Raises:
        ValueError: there is none.
    """
    places = [one for one in (folder / "snapshots").iterdir() if COMMIT.match(one.name)]
    with suppress(OSError):
        main = (folder / "refs" / "main").read_text("utf-8").strip()
        places.sort(key=lambda one: one.name == main)
    if not places:
        raise ValueError("no snapshot")
    return places[-1]


def _bits(config: dict[str, Any]) -> int | None:
    own = config.get("quantization")
    bits = own.get("bits") if isinstance(own, dict) else None
    return bits if isinstance(bits, int) else None
