"""Weights as others store them: read, or refused by the name of what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from texts import missing

from cna_mlx.errors import ModelError
from cna_mlx.models.loading import load
from cna_mlx.models.offload.rows import tensors_of
from cna_mlx.models.weight_files import foreign_quantization

Copy = Callable[..., Path]
GATE = "model.layers.1.mlp.gate_proj"


@pytest.fixture
def copy(parity: Path, tmp_path: Path) -> Copy:
    """A copy of a parity model with further keys in its config."""

    def make(**changes: Any) -> Path:
        path = tmp_path / "model"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(parity / "llama_rope3", path)
        config = json.loads((path / "config.json").read_text()) | changes
        (path / "config.json").write_text(json.dumps(config))
        return path

    return make


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert "remove" not in message
    return message


def logits(path: Path) -> np.ndarray:
    return np.array(load(str(path))[0](mx.array([[3, 1, 4, 1, 5]])))


def weights_of(path: Path) -> dict[str, mx.array]:
    return dict(mx.load(str(path / "model.safetensors")))


def write(path: Path, weights: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(path / "model.safetensors"), weights)


def retyped(path: Path, name: str, dtype: str) -> None:
    """Say in the header that a tensor is of another type, of one byte a value."""
    file = path / "model.safetensors"
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    start, end = header[name]["data_offsets"]
    rows, columns = header[name]["shape"]
    size = (end - start) // (rows * columns)
    header[name] |= {"dtype": dtype, "shape": [rows, columns * size]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize(
    "method", ["awq", "gptq", "bitsandbytes", "fp8", "compressed-tensors", None]
)
def test_a_quantization_config_that_was_left_behind_is_ignored(
    copy: Copy, method: str | None
) -> None:
    expected = logits(copy())
    said = {"bits": 4, "group_size": 64} | ({"quant_method": method} if method else {})
    np.testing.assert_array_equal(logits(copy(quantization_config=said)), expected)


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("bitsandbytes", {"weight": mx.uint8, "weight.absmax": mx.float32}),
        ("bitsandbytes", {"weight": mx.int8, "SCB": mx.float32}),
        ("gptq", {"qweight": mx.int32, "scales": mx.float16, "g_idx": mx.int32}),
        ("hqq", {"W_q": mx.uint8, "scale": mx.float16}),
    ],
)
def test_a_foreign_quantization_is_named(
    copy: Copy, method: str, parts: dict[str, mx.Dtype], is_said: bool
) -> None:
    said = {"quantization_config": {"quant_method": method, "bits": 4}}
    path = copy(**said if is_said else {})
    weights = weights_of(path)
    del weights[f"{GATE}.weight"]
    for name, dtype in parts.items():
        weights[f"{GATE}.{name}"] = mx.zeros((8, 8), dtype)
    write(path, weights)
    message = refusal(path)
    named = method if is_said or method != "hqq" else "an unknown method"
    assert named in message.lower()
    assert missing(message, str(path), "quantized with", "mlx_lm.convert") == []
    assert message.count("cannot be read") == 1


@pytest.mark.parametrize("is_said", [True, False])
def test_fp8_is_named(copy: Copy, is_said: bool) -> None:
    said = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}}
    path = copy(**said if is_said else {})
    retyped(path, f"{GATE}.weight", "F8_E4M3")
    assert tensors_of(path / "model.safetensors")[f"{GATE}.weight"].dtype == "F8_E4M3"
    assert "quantized with fp8" in refusal(path)


@pytest.mark.parametrize(
    ("settings", "suffixes", "found"),
    [
        ({"quant_method": "gptq", "bits": 4}, ("qweight", "scales"), None),
        ({"quant_method": "gptq", "bits": 4}, ("qweight", "g_idx"), "gptq"),
        ({"quant_method": "awq", "bits": 8}, ("qweight", "scales"), "awq"),
        ({"quant_method": ["awq"]}, ("qweight",), "['awq']"),
        ({}, ("W_q",), "an unknown method"),
    ],
)
def test_what_mlx_lm_does_not_convert_is_known_before_a_load(
    copy: Copy, settings: dict[str, Any], suffixes: tuple[str, ...], found: str | None
) -> None:
    path = copy()
    parts = {f"{GATE}.{suffix}": mx.zeros((8, 8), mx.int32) for suffix in suffixes}
    write(path, weights_of(path) | parts)
    assert foreign_quantization(path, {"quantization_config": settings}) == found
    own = {"quantization": {"bits": 4}, "quantization_config": settings}
    assert foreign_quantization(path, own) is None


def shards(path: Path, count: int = 3) -> list[str]:
    """Split the weights into files with an index; the files' names."""
    weights = sorted(weights_of(path).items())
    (path / "model.safetensors").unlink()
    names = [f"model-{n + 1:05}-of-{count:05}.safetensors" for n in range(count)]
    index: dict[str, str] = {}
    for number, name in enumerate(names):
        part = dict(weights[number::count])
        mx.save_safetensors(str(path / name), part)
        index |= dict.fromkeys(part, name)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (path / "model.safetensors.index.json").write_text(text)
    return names


def test_a_missing_shard_is_named(copy: Copy) -> None:
    path = copy()
    expected = logits(path)
    names = shards(path)
    np.testing.assert_array_equal(logits(path), expected)
    (path / names[1]).unlink()
    assert missing(refusal(path), names[1], "index.json lists", "again") == []
    for name in names:
        (path / name).unlink(missing_ok=True)
    assert missing(refusal(path), names[0], "index.json lists", "again") == []


@pytest.mark.parametrize("size", [0, 5, 300, 20_000])
def test_a_file_that_is_cut_off_is_named(copy: Copy, size: int) -> None:
    path = copy()
    names = shards(path)
    file = path / names[2]
    file.write_bytes(file.read_bytes()[:size])
    assert missing(refusal(path), names[2], "cut off", "again") == []


def test_an_index_that_was_left_behind_is_ignored(copy: Copy) -> None:
    path = copy()
    expected = logits(path)
    text = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    (path / "model.safetensors.index.json").write_text(text)
    np.testing.assert_array_equal(logits(path), expected)


def test_weights_of_another_model_say_so(copy: Copy) -> None:
    path = copy()
    weights = weights_of(path)
    weights[f"{GATE}.weight"] = mx.zeros((3, 3))
    write(path, weights)
    assert missing(refusal(path), GATE, "of one model") == []
