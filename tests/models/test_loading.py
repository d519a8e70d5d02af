"""Loading: what is read, what is refused, and with which words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hub import COMMIT, serving
from texts import missing

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError, ModelError, UnsupportedModelError
from cna_mlx.models.families import installed, supported
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.loading import load, source_of
from cna_mlx.models.memory import machine as memory
from cna_mlx.steering.interventions import steered

MODELS = ["llama_rope3", "qwen2_bias", "qwen3"]


@pytest.fixture
def copy(parity: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a parity model, its config changed: None takes a key away."""

    def make(name: str = "llama_rope3", **changes: Any) -> Path:
        path = tmp_path / "model"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(parity / name, path)
        config = json.loads((path / "config.json").read_text()) | changes
        config = {key: value for key, value in config.items() if value is not None}
        (path / "config.json").write_text(json.dumps(config))
        return path

    return make


def logits(path: Path) -> np.ndarray:
    model, _ = load(str(path))
    # long enough for every frequency of the rotation to matter
    return np.array(model(mx.array([[(7 * i) % 512 for i in range(200)]])))


def refusal(path: Path | str, kind: type[CnaError] = ModelError) -> str:
    """The one line that a load ends with."""
    with pytest.raises(kind) as caught:
        load(str(path))
    message = str(caught.value)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 2
    assert "\n" not in message
    assert str(path) in message
    return message


# --- what config.json says ------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("keeps_theta", [False, True])
def test_rope_parameters_are_mapped(
    copy: Callable[..., Path], name: str, keeps_theta: bool
) -> None:
    """As transformers 5 writes them; mlx-lm's Llama and Qwen2 do not read the key."""
    path = copy(name)
    config = json.loads((path / "config.json").read_text())
    expected = logits(path)
    theta = config["rope_theta"]
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    path = copy(
        name,
        rope_parameters={"rope_theta": theta, **scaling},
        rope_theta=theta if keeps_theta else None,
        rope_scaling=None,
    )
    np.testing.assert_array_equal(logits(path), expected)
    path = copy(
        name,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        rope_theta=None,
        rope_scaling=None,
    )
    assert np.abs(logits(path) - expected).max() > 0.01  # the setting does matter


def test_rope_parameters_of_each_kind_of_layer(copy: Callable[..., Path]) -> None:
    config = json.loads((copy() / "config.json").read_text())
    one = {"rope_theta": 500000.0, **config["rope_scaling"]}
    expected = logits(copy())
    same = {"full_attention": one, "sliding_attention": one}
    changes = {"rope_theta": None, "rope_scaling": None}
    np.testing.assert_array_equal(
        logits(copy(rope_parameters=same, **changes)), expected
    )
    other = same | {"sliding_attention": one | {"rope_theta": 1.0}}
    message = refusal(copy(rope_parameters=other, **changes))
    assert missing(message, "rope_parameters", "layers") == []


@pytest.mark.parametrize("name", ["llama_rope3", "qwen2_bias"])
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"rope_type": "default"}, "rope_theta"),
        ({"rope_theta": "high", "rope_type": "default"}, "rope_theta"),
        ({"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2}, "'dynamic'"),
        ({"rope_theta": 1e4, "rope_type": "longrope"}, "'longrope'"),
        ({"rope_theta": 1e4, "rope_type": "linear"}, "no factor"),
        ({"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (
            {"rope_theta": 1e4, "rope_type": "llama3", "factor": 2, "mystery": 1},
            "'mystery'",
        ),
        ([1, 2], "object"),
        ("default", "object"),
    ],
)
def test_rope_parameters_that_cannot_be_mapped(
    copy: Callable[..., Path], name: str, parameters: Any, said: str
) -> None:
    changes = {"rope_theta": None, "rope_scaling": None}
    message = refusal(copy(name, rope_parameters=parameters, **changes))
    assert "rope_parameters" in message
    assert said in message


def test_rope_settings_that_disagree(copy: Callable[..., Path]) -> None:
    parameters = {"rope_theta": 500000.0, "rope_type": "default"}
    assert "disagree" in refusal(copy(rope_parameters=parameters))
    parameters["rope_theta"] = 1e4
    assert "500000" in refusal(copy(rope_parameters=parameters, rope_scaling=None))


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "relu"])
def test_other_activations_are_refused(
    copy: Callable[..., Path], activation: str
) -> None:
    message = refusal(copy(hidden_act=activation))
    assert f"hidden_act {activation!r}" in message


@pytest.mark.parametrize(
    "model_type",
    ["gemma", "gemma3n", "gpt2", "dbrx", "olmo", "nonsense", "base", "cache", "", 5],
)
def test_other_architectures_are_named(
    copy: Callable[..., Path], model_type: Any
) -> None:
    message = refusal(copy(model_type=model_type), UnsupportedModelError)
    assert f"model type {model_type!r}" in message
    for family in supported():
        assert family in message


def test_mistral_is_a_llama(copy: Callable[..., Path]) -> None:
    np.testing.assert_array_equal(logits(copy(model_type="mistral")), logits(copy()))


@pytest.mark.parametrize("value", [None, 0, -1, "x", [], {}, 2.5, 10**6])
def test_no_config_ends_in_another_error(copy: Callable[..., Path], value: Any) -> None:
    """A damaged config.json loads, or is refused in one line."""
    keys = json.loads((copy() / "config.json").read_text())
    refused = 0
    for key in keys:
        if (key, value) in (("num_hidden_layers", 10**6), ("vocab_size", 10**6)):
            continue  # allocates what it says
        path = copy(**{key: value})
        try:
            load(str(path))
        except ModelError as error:
            refused += 1
            line = str(error)
            if "\n" in line or str(path) not in line:
                pytest.fail(f"{key}={value!r}: {line}")
        except CnaError as error:
            pytest.fail(f"{key}={value!r}: {error!r}")
    assert refused


# --- what is on the disk --------------------------------------------------------------


def test_nothing_there(tmp_path: Path, parity: Path) -> None:
    assert "directory" in refusal(tmp_path / "none")
    assert "directory" in refusal("./none/here")
    assert "directory" in refusal("not a hub id")
    assert "file" in refusal(parity / "qwen3" / "config.json")
    assert "config.json" in refusal(tmp_path)
    assert "~nobody-has-this-name" in refusal("~nobody-has-this-name/model")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "5", '"x"', "{}", "\xff"])
def test_a_config_that_is_none(copy: Callable[..., Path], text: str) -> None:
    path = copy()
    (path / "config.json").write_bytes(text.encode("latin-1"))
    for generation in ("", '{"eos_token_id": 3}'):
        if generation:
            (path / "generation_config.json").write_text(generation)
        assert "config.json" in refusal(path)


def test_a_config_that_cannot_be_read(copy: Callable[..., Path]) -> None:
    path = copy()
    (path / "config.json").unlink()
    (path / "config.json").mkdir()
    assert "config.json" in refusal(path)


def test_no_weights(copy: Callable[..., Path]) -> None:
    path = copy()
    (path / "model.safetensors").rename(path / "consolidated.safetensors")
    message = refusal(path)
    assert "no model*.safetensors" in message
    assert "mlx_lm.convert" in message


FUSE = "mlx_lm.fuse --model org/base --adapter-path"
MERGE = "merge it into org/base with PEFT"


@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize(
    ("file", "base", "parts"),
    [
        ("Q4_K_M.gguf", None, ("GGUF", "mlx_lm.convert -q")),
        ("adapters.safetensors", "model", ("LoRA adapter", FUSE, "give NEW")),
        ("adapters.safetensors", None, ("LoRA adapter", "--model MODEL")),
        ("adapter_model.safetensors", "base_model_name_or_path", ("LoRA", MERGE)),
        ("adapter_model.bin", "base_model_name_or_path", ("LoRA", MERGE)),
        ("pytorch_model.bin", None, ("PyTorch", "save_pretrained")),
        ("pytorch_model-00001-of-00002.bin", None, ("PyTorch", "save_pretrained")),
    ],
)
def test_another_format_is_named_with_its_remedy(
    copy: Callable[..., Path],
    file: str,
    base: str | None,
    parts: tuple[str, ...],
    has_config: bool,
) -> None:
    path = copy()
    (path / "model.safetensors").rename(path / file)
    if base:
        (path / "adapter_config.json").write_text(json.dumps({base: "org/base"}))
    if not has_config:
        (path / "config.json").unlink()
    assert missing(refusal(path), file, *parts) == []


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert missing(refusal(file), "GGUF", "mlx_lm.convert") == []


@pytest.mark.parametrize("text", ["", "[]", '{"model": 5}', "[" * 10_000])
def test_damaged_settings_of_an_adapter_name_no_model(
    copy: Callable[..., Path], text: str
) -> None:
    path = copy()
    (path / "model.safetensors").rename(path / "adapters.safetensors")
    (path / "adapter_config.json").write_text(text)
    assert "--model MODEL" in refusal(path)


@pytest.mark.parametrize("size", [0, 4, 100, 5000, 400_000])
def test_cut_off_weights(copy: Callable[..., Path], size: int) -> None:
    weights = copy() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert "cannot be read" in refusal(weights.parent)


def test_missing_and_misshapen_weights(copy: Callable[..., Path]) -> None:
    path = copy()
    weights = dict(mx.load(str(path / "model.safetensors")))
    some = sorted(weights)[3]
    for changed in (
        {name: w for name, w in weights.items() if name != some},
        weights | {some: weights[some].flatten()[:5]},
        weights | {"model.layers.9.extra": mx.zeros(3)},
    ):
        path = copy()
        mx.save_safetensors(str(path / "model.safetensors"), changed)
        assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"version": "1.0"}'])
def test_no_usable_tokenizer(copy: Callable[..., Path], text: str | None) -> None:
    path = copy()
    (path / "tokenizer.json").unlink()
    if text is not None:
        (path / "tokenizer.json").write_text(text)
    assert "no usable tokenizer" in refusal(path)


def test_too_large_for_this_machine(
    copy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy()
    small = memory.Machine(64_000_000_000, 800_000)
    monkeypatch.setattr(memory, "machine", lambda: small)
    message = refusal(path)
    assert "825 kB" in message  # what it needs
    assert "64.0 GB" in message  # what there is
    monkeypatch.setattr(memory, "machine", lambda: memory.Machine(10**9, 10**9))
    load(str(path))


def test_this_machine_has_memory() -> None:
    found = memory.machine()
    assert 10**8 < found.usable <= found.total


def test_the_source_is_remembered(copy: Callable[..., Path]) -> None:
    path = copy()
    model, tokenizer = load(str(path))
    source = source_of(model)
    assert source is not None
    assert source.name == str(path)
    assert source.revision is None
    assert source.config["model_type"] == "llama"
    assert tokenizer.eos_token_ids == {4}


# --- which weights are these? ---------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_has_the_same_fingerprint(
    copy: Callable[..., Path], parity: Path, name: str
) -> None:
    one, _ = load(str(parity / name))
    two, _ = load(str(copy(name)))
    assert fingerprint(one) == fingerprint(two)
    assert len(fingerprint(one)) == 64


def test_shards_have_the_same_fingerprint(copy: Callable[..., Path]) -> None:
    path = copy()
    before = fingerprint(load(str(path))[0])
    weights = sorted(mx.load(str(path / "model.safetensors")).items())
    (path / "model.safetensors").unlink()
    for number, part in enumerate((weights[::2], weights[1::2]), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        mx.save_safetensors(str(path / name), dict(part))
    assert fingerprint(load(str(path))[0]) == before


def test_other_models_have_other_fingerprints(build: Any) -> None:
    precisions = ("float32", "bfloat16", "4-bit", "4-bit-float32", "mixed")
    models = [build("llama", precision) for precision in precisions]
    models += [build("llama", seed=1), build("qwen2"), build("llama-biases")]
    assert len({fingerprint(model) for model in models}) == len(models)
    assert fingerprint(build("llama", "4-bit")) == fingerprint(build("llama", "4-bit"))


@pytest.mark.parametrize("projection", ["gate_proj", "up_proj", "down_proj"])
@pytest.mark.parametrize("layer", [0, 2])
def test_a_change_in_any_mlp_is_seen(build: Any, layer: int, projection: str) -> None:
    model = build("llama")
    before = fingerprint(model)
    model.model.layers[layer].mlp[projection].weight *= 1.001
    assert fingerprint(model) != before


@pytest.mark.parametrize("family", ["llama", "llama-biases", "qwen3"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "4-bit", "mixed"])
def test_steering_keeps_the_fingerprint(
    build: Any, circuit: Circuit, family: str, precision: str
) -> None:
    model = build(family, precision)
    before = fingerprint(model), quantization(model)
    with steered(model, circuit, 0.0), steered(model, circuit, [1.0, 3.0]):
        assert (fingerprint(model), quantization(model)) == before
    with installed(model, [0, 1, 2]):
        assert (fingerprint(model), quantization(model)) == before


def test_quantization_in_words(build: Any) -> None:
    assert quantization(build("llama")) == "float32"
    assert quantization(build("llama", "bfloat16")) == "bfloat16"
    assert quantization(build("llama", "4-bit")) == "4-bit g32"
    assert quantization(build("llama", "mixed")) == "4-bit g32 + 8-bit g32"


# --- the Hub: its real client against a server of our own -----------------------------

CODE = "X-Error-Code"
REFUSALS: dict[str, dict[str, Any]] = {
    "private": {"refusal": (401, {CODE: "RepoNotFound"})},
    "gated": {"refusal": (403, {CODE: "GatedRepo"})},
    "gated-anonymous": {"refusal": (401, {CODE: "GatedRepo"})},
    "gated-files": {"file_refusal": (403, {CODE: "GatedRepo"})},
    "broken": {"refusal": (500, {})},
    "badtoken": {
        "refusal": (
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
        )
    },
    "cut": {"cut": True},
    "tiny": {},
}


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with serving() as local:
        for name, changes in REFUSALS.items():
            local.add(name, **changes)
        files = local.add("other-format").commits[COMMIT]
        del files["model.safetensors"]
        files = local.add("llama-cpp").commits[COMMIT]
        files["Q8/model.gguf"] = files.pop("model.safetensors")
        yield local.url


# The client may try again as often as it likes, but does not wait in between.
SCRIPT = """
import json, sys, time
time.sleep = lambda seconds: None
from cna_mlx.errors import CnaError
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import load, source_of
for name in sys.argv[1:]:
    try:
        model, tokenizer = load(*name.split("@"))
        source = source_of(model)
        found = [fingerprint(model), source.revision, source.name]
    except CnaError as error:
        found = [type(error).__name__, error.exit_code, str(error)]
    except BaseException as error:
        found = ["not ours", type(error).__module__, repr(error)]
    print("\\n" + json.dumps([name, found]))
"""


def run(endpoint: str, home: Path, *names: str, **variables: str) -> dict[str, Any]:
    """What loading each of the names comes to in a process of its own."""
    hidden = ("HF_", "HUGGING", "HTTP", "http", "ALL_PROXY", "all_proxy", "TRANSFORM")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), **variables}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=300,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return dict(json.loads(line) for line in lines)


REFUSED = {
    "org/missing": ("ModelError", 2, "no such repository on the Hub"),
    "org/private": ("ModelError", 2, "set HF_TOKEN"),
    "org/gated": ("ModelError", 2, "is gated: ask for access"),
    "org/gated-anonymous": ("ModelError", 2, "is gated: ask for access"),
    "org/gated-files": ("ModelError", 2, "is gated: ask for access"),
    "org/tiny@no-such-branch": ("ModelError", 2, "no revision 'no-such-branch'"),
    "org/other-format": ("ModelError", 2, "no model*.safetensors"),
    "org/llama-cpp": ("ModelError", 2, "model.gguf is in GGUF"),
    "org/broken": ("HubError", 1, "Hub"),
    "org/badtoken": ("HubError", 1, "check HF_TOKEN"),
    "org/cut": ("HubError", 1, "run the command again"),
    "-org/name": ("ModelError", 2, "not a hub id"),
    "org/na..me": ("ModelError", 2, "not a hub id"),
}


@pytest.fixture(scope="module")
def outcomes(hub: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("hub")
    found = run(hub, home, *REFUSED, "org/tiny", "org/tiny")
    closed = "http://127.0.0.1:9"  # discard: nobody listens
    found["closed"] = run(closed, home, "org/another", "org/tiny")
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_hub_refuses(outcomes: dict[str, Any], name: str) -> None:
    error, code, said = REFUSED[name]
    found = outcomes[name]
    assert found[:2] == [error, code], found
    assert said in found[2]
    assert "\n" not in found[2]
    assert name.partition("@")[0] in found[2]


def test_a_model_of_the_hub_is_the_same_model(
    outcomes: dict[str, Any], parity: Path
) -> None:
    model, _ = load(str(parity / "qwen2_bias"))
    assert outcomes["org/tiny"] == [fingerprint(model), COMMIT, "org/tiny"]


def test_a_hub_that_is_down(outcomes: dict[str, Any]) -> None:
    found = outcomes["closed"]
    assert found["org/another"][:2] == ["HubError", 1]
    assert "cannot be reached" in found["org/another"][2]
    assert "\n" not in found["org/another"][2]
    # what was fetched before is used
    assert found["org/tiny"] == outcomes["org/tiny"]
