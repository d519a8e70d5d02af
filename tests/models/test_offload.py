"""Weights that stay on the disk: the same circuit, a fraction of the memory."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY, Outcome
from marks import slow
from mlx.utils import tree_flatten, tree_unflatten
from texts import missing

from cna_mlx import load
from cna_mlx.discovery.activations import _Layer, last_activations
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import ModelError
from cna_mlx.models.families import family_of, widths
from cna_mlx.models.family import text_of
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.memory import machine as memory
from cna_mlx.models.memory.forecast import Shape
from cna_mlx.models.memory.machine import Machine, part_bytes
from cna_mlx.models.memory.plan import Plan, check_fits
from cna_mlx.models.memory.rates import Rates, disk_rate, measure_rates
from cna_mlx.models.offload.rows import Rows
from cna_mlx.models.offload.streaming import from_disk, is_streamed, read_whole, turns
from cna_mlx.prompts import PromptSet

POSITIVE = ["one red stone", "two red birds", "three red doors", "four red hats"]
NEGATIVE = ["one blue stone", "two blue birds", "three blue doors", "four blue hats"]
CONTRAST = PromptSet.from_prompts(POSITIVE, NEGATIVE)
SHAPE = Shape(80, 8192, 28672, 64, 8, 128)
MACHINE = Machine(24 * 10**9, 16 * 10**9)


def saved(model: Any, directory: Path, shards: int = 1) -> list[str]:
    """Write the weights as a checkpoint of several files; the files' names."""
    directory.mkdir(exist_ok=True)
    weights = sorted(tree_flatten(model.parameters()))
    names = [
        f"model-{n + 1:05}-of-{shards:05}.safetensors"
        if shards > 1
        else "model.safetensors"
        for n in range(shards)
    ]
    for number, name in enumerate(names):
        part = dict(weights[number::shards])  # a layer's arrays lie in several files
        mx.save_safetensors(str(directory / name), part, metadata={"format": "mlx"})
    return names


def on_disk(
    kind_or_build: Callable[[], Any],
    directory: Path,
    shards: int = 1,
    rows: Path | None = None,
) -> Any:
    """The same model with its weights on the disk; rows are read from there too."""
    model = kind_or_build()
    names = saved(model, directory, shards)

    def read() -> Any:
        lazy = kind_or_build()
        weights: dict[str, mx.array] = {}
        for name in names:
            weights.update(mx.load(str(directory / name)))
        lazy.update(tree_unflatten(list(weights.items())))
        return lazy

    return from_disk(read, Rows(rows or directory))


@pytest.mark.parametrize(
    "rank", ["delta", "residual", slow("normalized"), slow("weighted")]
)
def test_the_same_circuit_to_the_neuron(
    kind: Any, model: Any, tokenizer: Any, tmp_path: Path, rank: Any
) -> None:
    streamed = on_disk(kind.make, tmp_path, shards=2)
    selection = Selection(0.1, rank, universal=False)
    found = [
        run_discovery(one, tokenizer, CONTRAST, selection) for one in (model, streamed)
    ]
    whole, other = (one.circuit for one in found)
    assert other.neurons == whole.neurons
    assert other.moments == whole.moments
    assert other.model == whole.model
    assert found[0].held_out == found[1].held_out


def test_rows_of_the_embedding_are_read_as_the_module_would(
    kind: Any, model: Any, tmp_path: Path
) -> None:
    streamed = on_disk(kind.make, tmp_path, shards=3)
    family = family_of(model)
    assert read_whole(streamed) == 0
    given = mx.array([[5, 0, 7], [7, 7, 1]])
    expected = family.embedding(model)(given)
    with turns(streamed) as weights, weights.embedding([0, 1, 5, 7]) as embed:
        found = embed(given)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(
        np.array(found.astype(mx.float32)), np.array(expected.astype(mx.float32))
    )


@pytest.mark.parametrize("change", ["dtype", "shape", "name"])
def test_an_embedding_that_is_stored_otherwise_is_read_whole(
    build: Any, ids: list[list[int]], tmp_path: Path, change: str
) -> None:
    """As where a loader changes what it finds in the files."""
    whole = build("llama")
    name, table = "model.embed_tokens.weight", whole.model.embed_tokens.weight
    other = {
        "dtype": {name: table.astype(mx.float16)},
        "shape": {name: table[1:]},
        "name": {"embed_tokens.weight": table},
    }
    (tmp_path / "other").mkdir()
    mx.save_safetensors(str(tmp_path / "other" / "model.safetensors"), other[change])
    streamed = on_disk(lambda: build("llama"), tmp_path, rows=tmp_path / "other")
    assert read_whole(streamed) == table.nbytes
    assert fingerprint(streamed) == fingerprint(whole)
    expected = last_activations(whole, ids)
    for (_, found), (_, one) in zip(
        last_activations(streamed, ids), expected, strict=True
    ):
        np.testing.assert_array_equal(np.array(found), np.array(one))


def test_a_table_of_many_rows_is_not_held(
    build: Any, parity: Path, tmp_path: Path
) -> None:
    """32 layers and an embedding of the weight of eight: two layers, and few rows."""
    size = checkpoint(build, parity, tmp_path, 32, vocab_size=32_000)
    weights = sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    model, _ = load(str(tmp_path), stream="yes")
    gc.collect()  # the model that was saved
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _ in last_activations(model, [[31_999, 2, 3], [31_999, 4]]):
        pass
    fingerprint(model)
    peak = mx.get_peak_memory() - before
    assert 1.9 * size < peak < 2.2 * size
    assert peak < 0.08 * weights


def test_a_model_can_be_walked_again_and_again(
    build: Any, ids: list[list[int]], tmp_path: Path
) -> None:
    whole = build("llama")
    streamed = on_disk(lambda: build("llama"), tmp_path)
    expected = [np.array(a) for _, a in last_activations(whole, ids)]
    assert fingerprint(streamed) == fingerprint(whole)
    for _ in range(2):
        for (_, found), one in zip(
            last_activations(streamed, ids), expected, strict=True
        ):
            np.testing.assert_array_equal(np.array(found), one)


def test_nothing_is_held_after_a_walk_nor_after_a_part_of_one(
    parity: Path, ids: list[list[int]]
) -> None:
    before = mx.get_active_memory()
    model, _ = load(str(parity / "qwen3"), stream="yes")
    assert is_streamed(model)
    some = [prompt[:5] for prompt in ids]
    assert len([layer for layer, _ in last_activations(model, some)]) > 1
    fingerprint(model)
    assert mx.get_active_memory() - before < 1000
    walk = last_activations(model, some)
    next(walk)
    assert mx.get_active_memory() - before > 100_000
    walk.close()
    del walk
    assert mx.get_active_memory() - before < 1000


def checkpoint(
    build: Any, parity: Path, directory: Path, layers: int, vocab_size: int = 512
) -> int:
    """A model directory of random weights, 4 MB a layer; the bytes of a layer."""
    changes = {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": layers,
        "vocab_size": vocab_size,
    }
    model = build("llama", **changes)
    saved(model, directory)
    source = parity / "llama_rope3"
    for file in source.glob("tokenizer*"):
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text())
    for key in ("rope_parameters", "rope_scaling", "head_dim", "layer_types"):
        config.pop(key, None)
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0}
    tied = {"tie_word_embeddings": True, "dtype": "float32", "torch_dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config | changes | more | tied))
    layer = tree_flatten(model.model.layers[0].parameters())
    return sum(array.nbytes for _, array in layer)


def test_two_layers_are_held_at_most(build: Any, parity: Path, tmp_path: Path) -> None:
    """However many there are: the peak of 16 layers is that of 4."""
    peaks = []
    for layers in (4, 16):
        directory = tmp_path / str(layers)
        size = checkpoint(build, parity, directory, layers)
        model, _ = load(str(directory), stream="yes")
        gc.collect()  # the model that was saved
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        walk = last_activations(model, [[1, 2, 3], [1, 4]])
        assert len([layer for layer, _ in walk]) == layers
        peaks.append(mx.get_peak_memory() - before)
        assert 1.9 * size < peaks[-1] < 2.2 * size
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_a_layer_is_read_before_its_arithmetic_is_submitted(
    build: Any,
    ids: list[list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    """A command of a GPU that waits for the disk may be ended; and caches stay.

    A layer's experts are read with it, once.
    """
    streamed = on_disk(lambda: build(family), tmp_path)
    events: list[str] = []

    def recorded(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*arrays: Any) -> None:
            if arrays and isinstance(arrays[0], dict):
                events.append(name)
            real(*arrays)

        return call

    def forward(self: Any, *rest: Any) -> mx.array:
        events.append(f"compute {self.index}")
        return real_forward(self, *rest)

    real_forward = _Layer.forward_batch
    monkeypatch.setattr(_Layer, "forward_batch", forward)
    monkeypatch.setattr(mx, "eval", recorded("wait", mx.eval))
    monkeypatch.setattr(mx, "async_eval", recorded("read", mx.async_eval))
    monkeypatch.setattr(mx, "clear_cache", lambda: events.append("clear"))
    for _ in last_activations(streamed, ids[:1]):
        pass
    expected = ["read", "read", "wait", "compute 0"]
    expected += ["read", "read", "wait", "compute 1", "read", "wait", "compute 2"]
    walk = events[events.index("read") :]  # after the building of the lazy model
    assert walk == [*expected, "clear"]


@pytest.mark.parametrize(
    "family", ["qwen3_5_moe", slow("qwen3_moe"), slow("mixtral"), slow("gpt_oss")]
)
def test_a_saved_mixture_is_streamed(
    build: Any, parity: Path, ids: list[list[int]], tmp_path: Path, family: str
) -> None:
    """From its directory, with the type that its publisher gives it."""
    model = build(family)
    config = dict(vars(text_of(model).args))
    if family == "qwen3_5_moe":
        config = {"model_type": family, "text_config": config}
    saved(model, tmp_path, shards=2)
    source = parity / "llama_rope3"
    for file in source.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    plans: list[Plan] = []
    streamed, _ = load(str(tmp_path), stream="yes", planned=plans.append)
    whole, _ = load(str(tmp_path), stream="no")
    assert plans[0].shape.all_neurons == sum(widths(model))
    layers = [
        sum(a.nbytes for _, a in tree_flatten(layer.parameters()))
        for layer in family_of(model).layers(model)
    ]
    assert plans[0].layer == max(layers)
    assert is_streamed(streamed)
    some = [prompt[:5] for prompt in ids]
    walks = (last_activations(one, some) for one in (streamed, whole, model))
    for (_, one), (_, other), (_, made) in zip(*walks, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))
        np.testing.assert_array_equal(np.array(one), np.array(made))
    assert fingerprint(streamed) == fingerprint(whole)


@pytest.mark.parametrize("rank", ["delta", slow("weighted")])
def test_a_mixture_has_the_same_circuit(
    build: Any, tokenizer: Any, tmp_path: Path, rank: Any
) -> None:
    whole = build("qwen2_moe")
    streamed = on_disk(lambda: build("qwen2_moe"), tmp_path, shards=2)
    selection = Selection(0.1, rank, universal=False)
    one, other = (
        run_discovery(model, tokenizer, CONTRAST, selection).circuit
        for model in (whole, streamed)
    )
    assert other.neurons == one.neurons
    assert other.moments == one.moments
    assert other.model == one.model


def test_gauges_are_the_same(
    build: Any, tokenizer: Any, ids: list[list[int]], tmp_path: Path
) -> None:
    whole = build("qwen2")
    streamed = on_disk(lambda: build("qwen2"), tmp_path)
    circuit = run_discovery(
        whole, tokenizer, CONTRAST, Selection(0.1, universal=False)
    ).circuit
    np.testing.assert_array_equal(
        gauges(streamed, circuit, ids), gauges(whole, circuit, ids)
    )


SCRIPT = """
import json, resource, sys
import mlx.core as mx
from cna_mlx import load
from cna_mlx.discovery.activations import last_activations
mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
lines = open("/proc/self/status").read().splitlines()
used = next(int(one.split()[1]) * 1024 for one in lines if "VmData" in one)
directory, stream, cap = sys.argv[1], sys.argv[2], int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (used + cap, hard))
model, _ = load(directory, stream=stream)
print(sum(1 for _ in last_activations(model, [[1, 2, 3], [1, 4]])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts on Linux")
def test_a_model_larger_than_the_memory(
    build: Any, parity: Path, tmp_path: Path
) -> None:
    """Under a hard cap smaller than the weights the one works and the other cannot."""
    weights = 24 * checkpoint(build, parity, tmp_path, 24)
    codes = {}
    for stream in ("yes", "no"):
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), stream]
        found = subprocess.run(
            [*command, str(int(0.75 * weights))],
            capture_output=True,
            text=True,
            check=False,
            # OpenBLAS waits for ever for a buffer that the cap denies it
            env={**os.environ, "LD_PRELOAD": ""},
            timeout=300,
        )
        codes[stream] = (found.returncode, found.stdout.strip())
    assert codes["yes"] == (0, "24"), codes
    assert codes["no"][0] != 0


# -------------------------------------------------------------------- the plan


def test_the_parts_of_a_checkpoint(build: Any, tmp_path: Path) -> None:
    model = build("llama", "4-bit")
    saved(model, tmp_path, shards=3)
    layers = [
        sum(a.nbytes for _, a in tree_flatten(layer.parameters()))
        for layer in model.model.layers
    ]
    table = sum(
        a.nbytes for _, a in tree_flatten(model.model.embed_tokens.parameters())
    )
    assert part_bytes(tmp_path) == (max(layers), table)
    (tmp_path / "model-00001-of-00003.safetensors").write_bytes(b"\xff" * 20)
    assert part_bytes(tmp_path)[0] < max(layers)


def test_how_a_model_fits() -> None:
    plan = Plan("70b", 40 * 10**9, SHAPE, MACHINE, 481_000_000, 591_000_000)
    assert plan.fit == "streamed"
    assert plan.streamed < 2 * 10**9
    small = Machine(2 * 10**9, 10**9)
    assert Plan("70b", 40 * 10**9, SHAPE, small, 481_000_000).fit == "no"
    assert Plan("70b", 13 * 10**9, SHAPE, MACHINE).fit == "whole"


def test_a_discovery_counts_where_weights_alone_would_fit() -> None:
    """Weights that leave no room for the rest are streamed; chat arms do not count."""
    weights, layer = 774_000_000, 20_000_000
    shape = Shape(28, 3072, 8192, 24, 8, 128, 131072)
    whole = Plan("it", weights, shape, MACHINE, layer, arms=0)
    assert whole.needed > weights
    for share, fit in ((0.88, "whole"), (0.92, "streamed"), (1.1, "streamed")):
        usable = int(whole.needed / share)
        here = replace(whole, machine=Machine(2 * 10**9, usable))
        assert usable > weights
        assert here.fit == replace(here, arms=2).fit == fit
    # what does not fit streamed either is tried, if its weights fit
    assert replace(here, layer=weights).fit == "whole"


def test_the_reason_for_streaming_is_said() -> None:
    plan = Plan("it", 15 * 10**9, SHAPE, MACHINE, is_streamed=True, arms=0)
    assert "with them in memory a discovery needs" in str(plan)
    large = replace(plan, weights=40 * 10**9)
    assert "they do not fit into memory" in str(large)
    assert "(" not in str(replace(plan, weights=10**9))


@pytest.mark.parametrize(
    ("disk", "products", "decides"),
    [(2e9, 1e12, "the arithmetic"), (1e7, 1e15, "the disk")],
)
def test_the_slower_of_disk_and_arithmetic(
    disk: float, products: float, decides: str
) -> None:
    rates = Rates(disk, products)
    plan = Plan("70b", 40 * 10**9, SHAPE, MACHINE, is_streamed=True, rates=rates)
    reading, computing = plan.seconds
    assert reading == 40e9 / disk
    assert computing == pytest.approx(80 * 855_638_016 * 7747 / products)
    assert plan.duration is not None
    assert f"{decides} is the bottleneck" in plan.duration
    assert Plan("70b", 40 * 10**9, SHAPE, MACHINE).duration is None


def test_rates_are_measured(parity: Path) -> None:
    directory = parity / "qwen3"
    config = json.loads((directory / "config.json").read_text())
    for more in ({}, {"quantization": {"bits": 4, "group_size": 64}}):
        found = measure_rates(directory, config | more, 2)
        assert found.disk > 1e5
        assert found.products > 1e5
    assert disk_rate(directory / "model.safetensors") > 1e5


def test_what_does_not_fit_names_the_option() -> None:
    with pytest.raises(ModelError, match=r"discover and probe .*--stream"):
        check_fits("huge", 10**12, MACHINE)
    with pytest.raises(ModelError, match="disk") as caught:
        check_fits("huge", 10**12, MACHINE, is_streamed=True)
    assert "--stream" not in str(caught.value)


# ------------------------------------------------------------ the command line


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch, parity: Path) -> None:
    """A machine that holds a discovery of the tiny model, but not its weights."""
    real, weights = memory.weight_bytes, 10**10
    monkeypatch.setattr(
        memory, "weight_bytes", lambda path: weights if real(path) else 0
    )
    monkeypatch.setattr(memory, "machine", lambda: MACHINE_OF_8)


MACHINE_OF_8 = Machine(9 * 10**9, 8 * 10**9)


def test_streaming_is_the_default_where_weights_do_not_fit(
    command: Callable[..., Outcome],
    brief: list[str],
    selection: list[str],
    no_room: None,
) -> None:
    copy = str(Path(TINY)) + "/"  # another name: not the model that is loaded already
    found = command("discover", copy, *brief, "--json")
    assert found.code == 0, found.err
    assert missing(found.err, "on the disk", "not tried", "bottleneck") == []
    refused = command("discover", copy, *selection, "--no-stream")
    assert refused.code == 2
    assert "--stream" in refused.failure
    refused = command("diff", copy, "-p", "why?", *selection)
    assert refused.code == 2
    assert "discover and probe" in refused.failure


def test_the_option_gives_the_same_circuit_and_gauges(
    command: Callable[..., Outcome],
    selection: list[str],
    circuit_file: Path,
    tmp_path: Path,
) -> None:
    copy = str(Path(TINY)) + "/"
    whole = command("discover", TINY, *selection, "--json").data
    streamed = command("discover", copy, *selection, "--json", "--stream").data
    assert streamed["neurons"] == whole["neurons"]
    assert streamed["fingerprint"] == whole["fingerprint"]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one red stone\ntwo blue birds\n")
    gauge = ["--prompts", str(prompts), "--circuit", str(circuit_file), "--json"]
    expected = command("probe", TINY, *gauge).data
    assert (
        command("probe", copy, *gauge, "--stream").data["results"]
        == (expected["results"])
    )
