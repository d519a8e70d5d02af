"""Name the format of a model's files where none is in MLX's."""

import shlex
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from cna_mlx.util.reading import LARGEST_SETTINGS, parse_json, read_file

_FUSE = (
    "{file} is a LoRA adapter, not a model: fuse it with mlx_lm.fuse --model {base} "
    "--adapter-path {place} --save-path NEW, and give NEW"
)
# mlx_lm.fuse does not read the second kind of adapter.
_FORMATS = {
    "*.gguf": "{file} is in GGUF, llama.cpp's format, which cannot be read here: give "
    "the model that it was made from, or convert that with mlx_lm.convert -q",
    "*adapters.safetensors": _FUSE,
    "adapter_model.*": "{file} is a LoRA adapter of PEFT, not a model: merge it into "
    "{base} with PEFT (merge_and_unload, save_pretrained), and give the result",
    "pytorch_model*.bin": "{file} is in PyTorch's format, which cannot be read here: "
    "load it with transformers and save it as safetensors (save_pretrained)",
}


def other_format(names: Iterable[str], directory: Path | None = None) -> str | None:
    """Say what format a model's files are in, and what to do.

    Args:
        names: of the files.
        directory: where they are; None if they are on the Hub.

    Returns:
        None if no file is of a format that is known here.
    """
    listed = sorted(names)
    for pattern, said in _FORMATS.items():
        if file := next((one for one in listed if fnmatch(one, pattern)), None):
            base = shlex.quote((directory and _base(directory)) or "MODEL")
            place = shlex.quote(str(directory or "DIRECTORY"))
            return said.format(file=file, base=base, place=place)
    return None


def _base(directory: Path) -> str | None:
    """The model that an adapter was trained on, if its settings say so."""
    try:
        file = directory / "adapter_config.json"
        settings = parse_json(read_file(file, LARGEST_SETTINGS))
        found = settings.get("base_model_name_or_path") or settings.get("model")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
