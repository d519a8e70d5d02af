"""Tell how a model's files store its weights, and why they cannot be read."""

import json
from pathlib import Path
from typing import Any

from cna_mlx.errors import ModelError
from cna_mlx.models.hub.errors import first_line
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.models.offload.rows import Tensor, tensors_of

_INDEX = "model.safetensors.index.json"
_AGAIN = "fetch or copy that file again"
# Types of weights that are not quantized, and of other buffers.
_PLAIN = {"F64", "F32", "F16", "BF16", "I64", "BOOL"}
# Methods of quantization that mlx-lm converts while it loads, at least some of them.
_CONVERTED = {
    "awq",
    "bitnet",
    "compressed-tensors",
    "gptq",
    "modelopt",
    "mxfp4",
    "mxfp8",
}
# Of these, only 4 bits in groups of neighbours.
_PACKED = ("awq", "gptq")
# What the names of a format's tensors end in.
_MARKS = {
    ".g_idx": "GPTQ",
    ".qweight": "GPTQ or AWQ",
    ".absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    "_scale_inv": "fp8",
    ".weight_packed": "compressed-tensors",
}


def quantization_changes(
    path: Path, config: dict[str, Any], name: str
) -> dict[str, Any]:
    """Entries to update a config with, so that mlx-lm reads the weights as they are.

    A ``quantization_config`` that was left behind by a merge or a conversion says
    nothing of plain weights.

    Raises:
        ModelError: MLX does not read weights that are quantized so.
    """
    if config.get("quantization"):  # MLX's own
        return {}
    if foreign := foreign_quantization(path, config):
        raise ModelError(f"{name}: {foreign_remedy(foreign)}")
    return {} if _format(path, config) else {"quantization_config": None}


def foreign_quantization(path: Path, config: dict[str, Any]) -> str | None:
    """The name of the weights' quantization if MLX does not read it, else None."""
    found = None if config.get("quantization") else _format(path, config)
    return None if found is None or _is_converted(path, _settings(config)) else found


def _is_converted(path: Path, settings: dict[str, Any]) -> bool:
    """Whether mlx-lm converts weights with these settings while it loads them."""
    method = str(settings.get("quant_method"))
    if method in _PACKED and settings.get("bits", 4) != 4:
        return False
    if method in _PACKED and any(name.endswith(".g_idx") for name in _tensors(path)):
        return False
    return method in _CONVERTED or (method == "fp8" and _is_mxfp8(settings))


def why_unreadable(path: Path, config: dict[str, Any], error: Exception) -> str:
    """Say why a model's weights cannot be read, and what to do about it."""
    files = sorted(path.glob("model*.safetensors"))
    broken = missing_file(path) or next(filter(None, map(_cut_off, files)), None)
    kind = None if config.get("quantization") else _format(path, config)
    if kind and not broken:
        return foreign_remedy(kind)
    one_model = f"{first_line(error)}; see that they and config.json are of one model"
    return f"the weights in {path} cannot be read: {broken or one_model}"


def foreign_remedy(kind: str) -> str:
    """Say that weights in a foreign quantization cannot be read, and what to do."""
    return (
        f"the weights are quantized with {kind}, which cannot be read here: convert "
        "the original model with mlx_lm.convert -q, or choose one in MLX's format"
    )


def _format(path: Path, config: dict[str, Any]) -> str | None:
    """The name of a foreign quantization; None for plain weights."""
    tensors = _tensors(path)
    if all(one.dtype in _PLAIN for one in tensors.values()):
        return None
    if method := _settings(config).get("quant_method"):
        return str(method)
    if any(one.dtype.startswith("F8") for one in tensors.values()):
        return "fp8"
    found = (kind for mark, kind in _MARKS.items() for n in tensors if n.endswith(mark))
    return next(found, "an unknown method")


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("quantization_config")
    return found if isinstance(found, dict) else {}


def _is_mxfp8(settings: dict[str, Any]) -> bool:
    block = settings.get("weight_block_size")
    return settings.get("scale_fmt") == "ue8m0" and block == [32, 32]


def _tensors(path: Path) -> dict[str, Tensor]:
    """All tensors by name; damaged files are left out."""
    found: dict[str, Tensor] = {}
    for file in sorted(path.glob("model*.safetensors")):
        found |= tensors_of(file)
    return found


def missing_file(path: Path) -> str | None:
    """What the index lists and the directory lacks, with the remedy."""
    try:
        listed = json.loads((path / _INDEX).read_text("utf-8"))["weight_map"].values()
        missing = sorted({name for name in listed if not (path / name).is_file()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return (
        f"{missing[0]} is missing, which {_INDEX} lists; {_AGAIN}" if missing else None
    )


def _cut_off(file: Path) -> str | None:
    """What a file lacks by its own header, with the remedy; None if it is whole."""
    size, tensors = file.stat().st_size, tensors_of(file)
    if not tensors:
        return f"{file.name} is cut off or is not a safetensors file; {_AGAIN}"
    whole = max(one.start + one.size for one in tensors.values())
    if size < whole:
        had = f"{gigabytes(size)} of {gigabytes(whole)}"
        return f"{file.name} is cut off: {had}; {_AGAIN}"
    return None
