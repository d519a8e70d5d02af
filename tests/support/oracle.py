"""Models whose weights follow from their names: see tests/data/oracle/README.md."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from paths import DATA, PARITY
from safetensors.numpy import save_file

ORACLE = DATA / "oracle"
#: Token ids: a short prompt, and one that is longer than the windows.
PROMPTS = [
    [5, 99, 12, 44, 9],
    [(37 * n * n + 11 * n + 7) % 120 + 4 for n in range(90)],
]


def weight(name: str, shape: list[int]) -> np.ndarray:
    """A parameter's values: large enough for every layer to matter."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("_blocks"):  # mxfp4: two numbers in a byte
        return random.randint(0, 256, shape, np.uint8)
    if name.endswith("_scales"):  # of 32 numbers: 2 ** (value - 127)
        return random.randint(122, 125, shape, np.uint8)
    values = random.standard_normal(shape).astype(np.float32)
    if "norm" in name or "scalar" in name:
        return 1 + np.float32(0.1) * values
    scale = 1.5 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.2
    return values * np.float32(scale)


def weights_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The parameters of these names and shapes."""
    return {name: weight(name, shape) for name, shape in shapes.items()}


def write_model(
    directory: Path, config: dict[str, Any], weights: dict[str, np.ndarray]
) -> None:
    """Write a model in Hugging Face format, with a tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PARITY / "llama_rope3" / name, directory)
