"""The models in the Hub's cache, from directories as its client leaves them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome, make_screen, plain, sent
from huggingface_hub import constants
from texts import missing

from cna_mlx.errors import ModelError
from cna_mlx.models.families import _AROUND, _FAMILIES
from cna_mlx.models.hub.cached import READABLE, cached_models, cached_names
from cna_mlx.models.loading import load
from cna_mlx.models.memory.machine import Machine
from cna_mlx.ui.models import cached_view

Command = Callable[..., Outcome]


def add(cache: Path, name: str, commit: str, config: Any, size: int | None) -> Path:
    folder = cache / f"models--{name.replace('/', '--')}"
    place = folder / "snapshots" / (commit * 40)
    place.mkdir(parents=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (place / "config.json").write_text(text)
    (place / "tokenizer.json").write_text("{}")
    if size is not None:
        (place / "model.safetensors").write_bytes(b"x" * size)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    quantized = {"model_type": "llama", "quantization": {"bits": 4, "group_size": 64}}
    llama = add(tmp_path, "mlx-community/Llama-4bit", "a", quantized, 3000)
    add(tmp_path, "mlx-community/Llama-4bit", "b", quantized, 2000)
    (llama / "refs").mkdir()
    (llama / "refs" / "main").write_text("b" * 40 + "\n")
    add(tmp_path, "some/gemma", "c", {"model_type": "gemma3n"}, 10)
    add(tmp_path, "some/cut--off", "d", {"model_type": "qwen3"}, None)
    add(tmp_path, "some/broken", "e", "[[[", 10)
    add(tmp_path, "gpt2", "f", {}, 5)
    (tmp_path / "datasets--some--set").mkdir()
    (tmp_path / "models--empty--one" / "snapshots").mkdir(parents=True)
    return tmp_path


def test_what_is_cached(cache: Path) -> None:
    found = {one.name: one for one in cached_models()}
    assert list(found) == [
        "gpt2",
        "mlx-community/Llama-4bit",
        "some/cut--off",
        "some/gemma",
    ]
    llama = found["mlx-community/Llama-4bit"]
    assert (llama.bytes, llama.kind, llama.bits) == (2000, "llama", 4)
    assert llama.is_complete
    assert llama.is_readable
    assert not found["some/cut--off"].is_complete
    assert not found["some/gemma"].is_readable
    assert found["gpt2"].kind == "unknown"
    assert set(cached_names()) >= {*found, "some/broken", "empty/one"}


def test_the_readable_kinds_are_those_of_the_families() -> None:
    from mlx_lm.utils import MODEL_REMAPPING

    modules = {MODEL_REMAPPING.get(one, one) for one in READABLE}
    assert {_AROUND.get(one, one) for one in modules} == set(_FAMILIES)


MIXTURE = {"model_type": "qwen3_5_moe", "text_config": {"num_experts": 256}}
WRAPPED = {"model_type": "mistral3", "text_config": {"model_type": "mistral"}}
LATENT = {"model_type": "nemotron_h", "moe_latent_size": 1024}
BESIDE = {"model_type": "gemma4", "text_config": {"enable_moe_block": True}}


@pytest.mark.parametrize(
    ("config", "kind", "is_readable"),
    [
        (MIXTURE, "qwen3_5_moe", True),
        (WRAPPED, "mistral", True),
        (BESIDE, "gemma4 with experts", False),
        (LATENT, "nemotron_h with a latent", False),
        ({**LATENT, "moe_latent_size": None}, "nemotron_h", True),
        ({**BESIDE, "text_config": {"enable_moe_block": False}}, "gemma4", True),
        ({"model_type": "mistral3"}, "mistral3", False),
    ],
)
def test_mixtures_and_wrapped_models(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    kind: str,
    is_readable: bool,
) -> None:
    """Only weights that are loaded count: some repositories hold them twice."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = add(tmp_path, "some/model", "a", config, 3000)
    (folder / "snapshots" / ("a" * 40) / "consolidated.safetensors").write_bytes(b"xx")
    [found] = cached_models()
    assert (found.kind, found.is_readable) == (kind, is_readable)
    assert found.bytes == 3000


@pytest.mark.parametrize("width", [60, 80, 120])
def test_each_says_how_it_runs_here(width: int, cache: Path) -> None:
    screen = make_screen(width)
    machine = Machine(total=4000, usable=1500)
    screen.out.print(cached_view(screen, cached_models(), machine))
    text = plain(sent(screen.out))
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert re.search(r"Llama-4bit:?( size)? 2 kB,?( weights)? llama 4-bit", words)
    wanted = ("streamed", "another architecture", "incomplete", "some/cut--off")
    assert missing(words, *wanted) == []


def header(dtype: str) -> bytes:
    """A safetensors file of one matrix of one byte a value."""
    entry = {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, 4]}
    text = json.dumps({"model.layers.0.mlp.up_proj.weight": entry}).encode()
    return len(text).to_bytes(8, "little") + text + b"\0\0\0\0"


@pytest.mark.parametrize("width", [60, 80])
def test_a_foreign_quantization_cannot_be_loaded_and_says_why(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    fp8 = {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}
    for name, dtype in (("some/fp8", "F8_E4M3"), ("some/left-behind", "F16")):
        folder = add(tmp_path, name, "a", fp8, 0)
        weights = folder / "snapshots" / ("a" * 40) / "model.safetensors"
        weights.write_bytes(header(dtype))
    found = {one.name: one for one in cached_models()}
    assert found["some/left-behind"].is_loadable
    foreign = found["some/fp8"]
    assert foreign.is_complete
    assert not foreign.is_loadable
    screen = make_screen(width)
    screen.out.print(cached_view(screen, cached_models(), Machine(4000, 1500)))
    text = plain(sent(screen.out))
    assert max(map(len, text.splitlines())) <= width
    [snapshot] = (tmp_path / "models--some--fp8" / "snapshots").iterdir()
    with pytest.raises(ModelError, match="quantized with fp8") as caught:
        load(str(snapshot))
    said = str(caught.value).replace(str(snapshot), "some/fp8")
    assert missing(text, "cannot be loaded", said, "whole") == []
    listed = command("models", "--json").data["cached"]
    assert [(one["fits"], bool(one["unreadable"])) for one in listed] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize("text", ["[1]", '{"model_type": "llama", "quantization": 1}'])
def test_a_damaged_config_does_not_end_the_list(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    add(tmp_path, "some/damaged", "a", text, 10)
    add(tmp_path, "some/whole", "b", {"model_type": "llama"}, 10)
    assert "some/whole" in [one.name for one in cached_models()]


def test_models_lists_the_cache_and_its_notes_are_plain(
    cache: Path, command: Command
) -> None:
    done = command("models")
    assert "mlx-community/Llama-4bit" in done.out
    for word in ("null", "from memory"):
        assert word not in done.out + done.err
    names = [one["name"] for one in command("models", "--json").data["cached"]]
    assert "some/gemma" in names


def test_an_empty_cache_says_how_a_model_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert cached_models() == []
    assert "first use" in command("models").out
