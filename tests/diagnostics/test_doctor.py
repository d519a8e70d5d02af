"""`doctor`: every check can fail, and the screen can be shown to anybody."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from commandline import TINY, Outcome, make_screen, plain, sent
from marks import slow
from mlx.utils import tree_flatten
from texts import missing

import cna_mlx.diagnostics.device as device
import cna_mlx.diagnostics.facts as facts
import cna_mlx.diagnostics.invariants as laws
import cna_mlx.diagnostics.model as model_checks
import cna_mlx.diagnostics.parity as parity
import cna_mlx.diagnostics.rows as rows
import cna_mlx.diagnostics.storage as places
import cna_mlx.diagnostics.template as template
import cna_mlx.discovery.activations
import cna_mlx.models.mlp as gated
import cna_mlx.steering.interventions
from cna_mlx import Circuit, load
from cna_mlx.diagnostics import Check, Fact, Item
from cna_mlx.diagnostics.results import anonymous, checked, secrets_of
from cna_mlx.discovery.cache import Store
from cna_mlx.errors import NonFiniteError
from cna_mlx.models import forward
from cna_mlx.models.family import text_of
from cna_mlx.models.memory.loaded import parameter_bytes
from cna_mlx.models.memory.machine import Machine
from cna_mlx.models.memory.shape import Shape
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.ui.doctor import fact_text, item_lines, summary_line
from cna_mlx.util import environment
from cna_mlx.util.environment import attempt

Run = Callable[..., Outcome]
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def figures() -> parity.Figures:
    return parity.stored("demo")


@pytest.fixture(scope="module")
def measured(demo: tuple[Any, Any], figures: parity.Figures) -> parity.Figures:
    prompts = list(dict.fromkeys(line.prompt for line in figures.lines))
    return parity.measure(*demo, prompts, figures)


def checks(items: Any) -> dict[str, Check]:
    return {item.name: item for item in items if isinstance(item, Check)}


def values(items: Any) -> dict[str, Any]:
    return {item.name: item.value for item in items if isinstance(item, Fact)}


def assert_failed(check: Check, *words: str) -> None:
    assert check.status == "failed", check
    assert check.remedy
    for word in words:
        assert word in check.detail


# --------------------------------------------------------------- stored figures


@pytest.mark.parametrize("name", ["demo", slow("demo-base")])
def test_the_embedded_models_give_the_stored_figures(name: str) -> None:
    tolerance = device.float32_tolerance()
    check = parity.check_parity(*load(name), parity.stored(name), tolerance)
    assert check.status == "ok", check
    assert "8 answers" in check.detail


def test_the_stored_figures_are_small_and_firm(figures: parity.Figures) -> None:
    path = Path(parity.__file__).parents[1] / "demo" / "figures.json"
    assert path.stat().st_size < 10_000
    assert parity.Figures.from_dict(asdict(figures)) == figures
    # rounding decides hardly any token, even in reduced precision
    gaps = [gap for line in figures.lines for gap in line.gaps]
    assert min(gaps) > 0.1
    assert {line.multiplier for line in figures.lines} == {0.0, 1.0}


def _changed(figures: parity.Figures, **changes: Any) -> parity.Figures:
    return replace(figures, lines=(replace(figures.lines[0], **changes),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"top": ((43, 11.919 * 1.001),)}, "logits by 1.0e-03"),
        ({"top": ((43, float("nan")),)}, "logits by nan"),
        ({"greedy": [1, 2, 3]}, "answer at m = 1"),
        ({"greedy": []}, "answer at m = 1"),
        ({"ids": [1, 2, 3]}, "tokenized"),
    ],
)
def test_a_changed_answer_is_noticed(
    change: dict[str, Any], words: str, figures: parity.Figures
) -> None:
    stored = _changed(figures, top=((43, 11.919),))
    assert parity.compare_figures(stored, stored, 1e-4).status == "ok"
    found = _changed(figures, **{"top": ((43, 11.919),), **change})
    assert_failed(parity.compare_figures(stored, found, 1e-4), words)


def test_a_changed_delta_is_noticed(
    figures: parity.Figures, measured: parity.Figures
) -> None:
    layer, index, delta = figures.neurons[3]
    for other in (delta * 1.001, float("nan")):
        neurons = list(figures.neurons)
        neurons[3] = (layer, index, other)
        stored = replace(figures, neurons=tuple(neurons))
        assert_failed(parity.compare_figures(stored, measured, 1e-4), "deltas differ")


def test_a_missing_neuron_is_noticed_but_not_at_the_edge(
    figures: parity.Figures, measured: parity.Figures
) -> None:
    gone = replace(measured, neurons=measured.neurons[1:])
    check = parity.compare_figures(figures, gone, 1e-4)
    assert_failed(check, "neuron 326 of layer 5")
    last = replace(measured, neurons=measured.neurons[:-1])
    assert parity.compare_figures(figures, last, 1e-4).status == "ok"


def test_a_token_that_rounding_decides_may_differ(figures: parity.Figures) -> None:
    line = figures.lines[0]
    gaps = (5.0, 0.001, *line.gaps[2:])
    stored = replace(figures, lines=(replace(line, gaps=gaps),))
    other = [line.greedy[0], 7, 7]
    found = replace(stored, lines=(replace(line, greedy=other),))
    assert parity.compare_figures(stored, found, 1e-4).status == "ok"
    assert parity.compare_figures(stored, found, 1e-6).status == "failed"


def test_other_weights_are_noticed(demo_base: Any, figures: parity.Figures) -> None:
    check = parity.check_parity(*demo_base, figures, 1e-4)
    assert_failed(check, "weights")


@pytest.mark.slow
def test_reduced_precision_is_told_from_a_fault(
    demo: tuple[Any, Any], figures: parity.Figures, monkeypatch: Patch
) -> None:
    """Matrix units with 10 bits of mantissa pass, at the tolerance that is theirs."""

    def cut(array: mx.array) -> mx.array:
        ten_bits = mx.array(0xFFFFE000, mx.uint32)
        return (array.view(mx.uint32) & ten_bits).view(mx.float32)

    monkeypatch.setattr(
        nn.Linear, "__call__", lambda self, x: cut(x) @ cut(self.weight).T
    )
    strict = parity.check_parity(*demo, figures, device._TOLERANCE_FULL)
    assert_failed(strict, "deltas differ")
    reduced = parity.check_parity(*demo, figures, device._TOLERANCE_REDUCED)
    assert reduced.status == "ok", reduced


# ------------------------------------------------------------------------ laws

LAWS = ("identity at m = 1", "rows of a batch", "padded prompts", "steering twice")


@pytest.fixture
def law(llama: Any, circuit: Circuit, ids: list[list[int]]) -> Callable[..., Check]:
    """One law on a tiny model."""

    def check(name: str) -> Check:
        found = checks(laws.law_items("it", llama, ids, circuit, 1e-4))
        assert list(found) == [f"it: {one}" for one in LAWS]
        return found[f"it: {name}"]

    return check


@pytest.mark.parametrize(
    ("family", "precision"),
    [("llama-sliding", "float32"), ("qwen2", "bfloat16"), ("qwen3", "4-bit")],
)
def test_the_laws_hold(
    family: str, precision: str, build: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    tolerance = 1e-4 if precision == "float32" else 0.1
    items = laws.law_items("it", build(family, precision), ids, circuit, tolerance)
    for check in checks(items).values():
        assert check.status == "ok", check


def test_a_block_that_is_off_by_one_bit(law: Any, monkeypatch: Patch) -> None:
    kernels = gated.GatedMLP.kernels
    exact = kernels.plain

    def off(gate: mx.array, up: mx.array) -> mx.array:
        bits = exact(gate, up).view(mx.uint32)
        return (bits + 1).view(mx.float32)

    monkeypatch.setattr(gated.GatedMLP, "kernels", kernels._replace(plain=off))
    assert_failed(law(LAWS[0]), "an idle block: logits differ by")


def test_steering_that_does_nothing(law: Any, monkeypatch: Patch) -> None:
    monkeypatch.setattr(gated.GatedMLP, "set_edit", lambda self, *edit: None)
    assert_failed(law(LAWS[0]), "scaling 48 neurons by 0 does nothing")
    assert_failed(law(LAWS[1]), "the row of m = 0 equals")


def test_a_block_that_is_left_behind(
    build: Any, circuit: Circuit, ids: list[list[int]], monkeypatch: Patch
) -> None:
    @contextmanager
    def forever(model: Any, layers: list[int], _: Any) -> Iterator[Any]:
        for layer in layers:
            own = model.model.layers[layer]
            own.mlp = gated.GatedMLP(own.mlp)
        yield {layer: model.model.layers[layer].mlp for layer in layers}

    monkeypatch.setattr(cna_mlx.steering.interventions, "installed", forever)
    check = laws.identity(build("llama"), ids[0], circuit)
    assert_failed(check, "left behind")


def test_a_device_that_does_not_repeat_itself(
    build: Any, circuit: Circuit, ids: list[list[int]], monkeypatch: Patch
) -> None:
    model = build("llama")
    exact = type(model).__call__

    def noisy(self: Any, *inputs: Any, **options: Any) -> mx.array:
        found = exact(self, *inputs, **options)
        return found + 1e-3 * mx.random.normal(found.shape)

    monkeypatch.setattr(type(model), "__call__", noisy)
    check = laws.identity(model, ids[0], circuit)
    assert check.status == "warning"
    assert "passes" in check.detail


def test_rows_that_are_mixed_up(law: Any, monkeypatch: Patch) -> None:
    kernels = gated.GatedMLP.kernels
    exact = kernels.scaled

    def mixed(scale: mx.array, *parts: mx.array) -> mx.array:
        return exact(scale[::-1] if scale.ndim > 2 else scale, *parts)

    monkeypatch.setattr(gated.GatedMLP, "kernels", kernels._replace(scaled=mixed))
    assert_failed(law(LAWS[1]), "the row of m = ")


def test_padding_that_is_seen(law: Any, monkeypatch: Patch) -> None:

    filled = forward._Recorder.filled

    def all_see_all(self: Any, change: Any) -> Any:
        others, named = filled(self, change)
        return [None if one == "causal" else one for one in others], named

    monkeypatch.setattr(forward._Recorder, "filled", all_see_all)
    assert_failed(law(LAWS[2]), "activations differ by")


def test_contexts_that_do_not_multiply(law: Any, monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        cna_mlx.steering.interventions,
        "_compose",
        lambda outer, scale, shift: (scale, shift),
    )
    assert_failed(law(LAWS[3]), "0.5 within 0.25")


# ---------------------------------------------------------------------- device


def test_the_arithmetic_of_this_device() -> None:
    found = checks(device.matmul_items())
    assert list(found) == [
        "float32 matmul",
        "bfloat16 matmul",
        "float16 matmul",
        "4-bit g64 matmul",
        "4-bit g32 matmul",
        "attention, heads of 64",
        "attention, heads of 128",
    ]
    assert {check.status for check in found.values()} == {"ok"}


@pytest.mark.parametrize("rows", device.ROWS)
@pytest.mark.parametrize("group", [64, 32])
def test_a_quantized_kernel_that_is_wrong(
    rows: int, group: int, monkeypatch: Patch
) -> None:
    """One output of all, for one number of rows and one size of groups."""
    exact = mx.quantized_matmul

    def wrong(x: mx.array, *weights: mx.array, **options: Any) -> mx.array:
        found = exact(x, *weights, **options)
        if x.shape[0] == rows and options["group_size"] == group:
            found[:, 7] = 100.0
        return found

    monkeypatch.setattr(mx, "quantized_matmul", wrong)
    name = f"4-bit g{group} matmul"
    found = checks(device.matmul_items())
    assert [one for one, check in found.items() if check.status == "failed"] == [name]
    assert_failed(found[name], "relative error")


@pytest.mark.parametrize("queries", [1, 9])
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_an_attention_kernel_that_is_wrong(
    size: int, queries: int, dtype: mx.Dtype, monkeypatch: Patch
) -> None:
    exact = mx.fast.scaled_dot_product_attention

    def wrong(q: mx.array, *rest: mx.array, **options: Any) -> mx.array:
        found = exact(q, *rest, **options)
        if q.shape[2:] == (queries, size) and q.dtype == dtype:
            found[:, 3] = found[:, 3] * 1.1
        return found

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", wrong)
    found = checks(device.matmul_items())
    name = f"attention, heads of {size}"
    assert [one for one, check in found.items() if check.status == "failed"] == [name]
    assert_failed(found[name], "relative error", device.dtype_name(dtype))


def test_attention_sees_no_later_token(monkeypatch: Patch) -> None:
    exact = mx.fast.scaled_dot_product_attention
    monkeypatch.setattr(
        mx.fast,
        "scaled_dot_product_attention",
        lambda *arrays, scale, mask: exact(*arrays, scale=scale),
    )
    assert_failed(checks(device.matmul_items())["attention, heads of 64"], "error")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("change", [1.02, float("nan")])
def test_a_matmul_that_is_wrong(dtype: str, change: float, monkeypatch: Patch) -> None:
    exact = device._relative

    def wrong(found: mx.array, expected: Any) -> float:
        if str(found.dtype) == f"mlx.core.{dtype}":
            found = found * change
        return exact(found, expected)

    monkeypatch.setattr(device, "_relative", wrong)
    found = checks(device.matmul_items())
    assert_failed(found[f"{dtype} matmul"], "relative error")
    others = {"float32", "float16", "bfloat16"} - {dtype}
    assert all(found[f"{one} matmul"].status == "ok" for one in others)


def test_a_check_that_raises_an_exception(monkeypatch: Patch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("[metal::load] no kernel\nand a trace")

    monkeypatch.setattr(mx, "quantize", broken)
    found = checks(device.matmul_items())
    assert found["float32 matmul"].status == "ok"
    assert_failed(found["4-bit g32 matmul"], "RuntimeError: [metal::load] no kernel")
    assert "trace" not in found["4-bit g32 matmul"].detail


def test_reduced_float32_is_said_and_allowed_for(monkeypatch: Patch) -> None:
    assert device.float32_tolerance() in (1e-4, 4e-3)
    monkeypatch.setattr(device, "matmul_error", lambda dtype: 7e-4)
    check = checks(device.matmul_items())["float32 matmul"]
    assert check.status == "ok"
    assert "MLX_ENABLE_TF32=0" in check.detail
    assert device.float32_tolerance() == 4e-3


def test_numpy_dequantizes_as_the_definition_says() -> None:
    weights = mx.random.normal((4, 128), key=mx.random.key(0))
    for group in (32, 64):
        packed, scales, biases = mx.quantize(weights, group_size=group, bits=4)
        expected = mx.dequantize(packed, scales, biases, group_size=group, bits=4)
        found = device.dequantized(packed, scales, biases, group)
        np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_numpy_unpacks_every_number_of_bits(bits: int) -> None:
    weights = mx.random.normal((4, 128), key=mx.random.key(0))
    packed, scales, biases = mx.quantize(weights, group_size=64, bits=bits)
    expected = mx.dequantize(packed, scales, biases, group_size=64, bits=bits)
    found = device.dequantized(packed, scales, biases, 64, bits)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


def test_bandwidth(monkeypatch: Patch) -> None:
    monkeypatch.setattr(device, "machine", lambda: Machine(1 << 28, 1 << 28))
    rate = device.bandwidth()
    assert 0.01 < rate < 1e5
    assert device.bandwidth_fact(rate).key == "bandwidth_gb_per_second"
    assert " 89 tokens/s" in device.bandwidth_fact(400.0).remark
    assert " 0.9 tokens/s" in device.bandwidth_fact(4.0).remark
    assert device.bandwidth_fact(None).remark == ""


# --------------------------------------------------------------------- a model


def test_a_model_in_order(demo: tuple[Any, Any], tmp_path: Path) -> None:
    model, tokenizer = demo
    store = Store(tmp_path)
    items: list[Item] = [
        *template.template_items(tokenizer),
        *model_checks.hooked_items(model, store),
        *model_checks.numeric_items(model, tokenizer, 1e-4),
        *model_checks.speed_items(model, tokenizer, 100.0),
    ]
    assert {check.status for check in checks(items).values()} == {"ok"}
    found = values(items)
    assert found["layers"] == 6
    assert found["neurons"] == 3072
    assert found["0.1% circuit"] == 3
    assert found["quantization"] == found["dtype"] == "float32"
    assert found["circuits kept"] == "none"
    assert found["chat template"] == "yes"
    assert found["KV cache per token"] == 2 * 6 * 128 * 4
    assert found["decoding"] > 1


def test_circuits_of_the_model_are_named(demo: tuple[Any, Any], tmp_path: Path) -> None:
    from cna_mlx.discovery.selection import Selection
    from cna_mlx.prompts import load_contrast
    from cna_mlx.prompts.chat_template import Rendering

    store = Store(tmp_path)
    selection = Selection(0.005, universal=False)
    store.find_or_discover(*demo, load_contrast("magic"), selection, Rendering())
    (tmp_path / "circuits" / f"{'0' * 32}.json").write_text("no circuit")
    assert values(model_checks.hooked_items(demo[0], store))["circuits kept"] == "magic"
    other = load("demo-base")[0]
    assert values(model_checks.hooked_items(other, store))["circuits kept"] == "none"


def test_a_nan_weight(build: Any, ids: list[list[int]]) -> None:
    model = build("llama")
    weight = model.model.layers[1].mlp.up_proj.weight
    weight[5, 5] = float("nan")
    check = model_checks.check_activations(model, ids[:3])
    assert_failed(check, "from layer 1 on")


@pytest.mark.parametrize(
    ("peak", "status"), [(100.0, "ok"), (30_000.0, "warning"), (90_000.0, "failed")]
)
def test_activations_near_the_end_of_fp16(
    peak: float, status: str, build: Any, ids: list[list[int]]
) -> None:
    model = build("llama")
    before = model_checks.check_activations(model, ids[:3])
    largest, _, layer = before.detail.partition("largest is ")[2].partition(", layer ")
    mlp = model.model.layers[int(layer)].mlp
    mlp.up_proj.weight = mlp.up_proj.weight * (peak / float(largest))
    mlp.down_proj.weight = mlp.down_proj.weight / (peak / float(largest))
    model.set_dtype(mx.float16)
    check = model_checks.check_activations(model, ids[:3])
    assert check.status == status, check
    assert (check.remedy is None) == (status == "ok")


def test_a_cache_that_forgets(
    build: Any, ids: list[list[int]], monkeypatch: Patch
) -> None:
    model = build("llama")
    assert model_checks.check_prefill(model, ids[4], 1e-4).status == "ok"
    exact = type(model).__call__
    monkeypatch.setattr(
        type(model), "__call__", lambda self, inputs, cache=None: exact(self, inputs)
    )
    assert_failed(model_checks.check_prefill(model, ids[4], 1e-4), "logits differ by")


PRODUCTS = [
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("4-bit", "4-bit g32"),
    ("mixed", "8-bit g32"),
]


@pytest.mark.parametrize(("precision", "named"), PRODUCTS)
def test_products_of_a_models_own_weights(
    build: Any, precision: str, named: str
) -> None:
    check = rows.check_products(build("llama", precision))
    assert check.status == "ok", check
    assert missing(check.detail, named, "1 to 64 rows") == []


@pytest.mark.parametrize("mode", ["mxfp4", "nvfp4", "mxfp8"])
def test_products_in_other_modes(build: Any, mode: str) -> None:
    model = build("llama", "bfloat16")
    nn.quantize(model, mode=mode)
    assert rows.check_products(model).status == "ok"


@pytest.mark.parametrize("count", [2, 5, 13])
def test_a_product_of_few_rows_that_is_wrong(
    build: Any, count: int, monkeypatch: Patch
) -> None:
    exact = mx.quantized_matmul

    def wrong(x: mx.array, *weights: mx.array, **options: Any) -> mx.array:
        found = exact(x, *weights, **options)
        return found * 1.2 if len(x) == count else found

    model = build("llama", "4-bit")
    monkeypatch.setattr(mx, "quantized_matmul", wrong)
    assert_failed(rows.check_products(model), "relative error")


def test_the_time_of_rows(build: Any, monkeypatch: Patch) -> None:
    seconds = iter([0.01, 0.011, 0.012, 0.02, 0.03, 0.04, 0.08])
    monkeypatch.setattr(device, "median_seconds", lambda work, limit: next(seconds))
    items = list(rows.time_items(build("llama"), [1, 2, 3]))
    assert values(items) == {
        "step of a row": 10.0,
        "step of 2 rows": 11.0,
        "step of 4 rows": 12.0,
        "step of 8 rows": 20.0,
        "step of 12 rows": 30.0,
        "step of 16 rows": 40.0,
        "step of 32 rows": 80.0,
    }
    assert [one.remark for one in items][:3] == ["", "1.10x one row", "1.20x one row"]


def test_steps_have_so_many_rows(build: Any, monkeypatch: Patch) -> None:
    shapes: list[tuple[int, ...]] = []

    def once(work: Any, limit: float) -> float:
        shapes.append(work()[0].shape)
        return 1.0

    monkeypatch.setattr(device, "median_seconds", once)
    list(rows.time_items(build("llama"), [1, 2, 3]))
    assert shapes == [(n, 1, 512) for n in (1, 2, 4, 8, 12, 16, 32)]


def test_a_disk_too_slow_for_the_watchdog() -> None:
    assert rows.check_reading(4 * 10**9, 10**9).status == "ok"
    slow_disk = rows.check_reading(4 * 10**9, 5 * 10**8)
    assert slow_disk.status == "warning"
    assert missing(slow_disk.detail, "4.0 GB", "8 s", "--stream") == []


@pytest.mark.parametrize("tied", [True, False])
def test_what_decoding_a_token_reads(build: Any, tied: bool) -> None:
    model = build("llama", tie_word_embeddings=tied)
    spared = 0 if tied else model.model.embed_tokens.weight.nbytes
    found = model_checks.bytes_per_token(model)
    assert found == parameter_bytes(model) - spared


@pytest.mark.parametrize("precision", ["float32", "4-bit-float32"])
def test_a_token_reads_the_experts_that_it_is_sent_to(
    build: Any, precision: str
) -> None:
    """Two of eight in two layers; the other layer's MLP is dense."""
    model = build("qwen3_moe", precision)
    experts = [
        array.nbytes
        for name, array in tree_flatten(model.parameters())
        if "switch_mlp" in name
    ]
    table = parameter_bytes(model.model.embed_tokens)
    read = parameter_bytes(model) - table - sum(experts) * 6 // 8
    assert model_checks.bytes_per_token(model) == read


@pytest.mark.parametrize("family", ["qwen3_5", "nemotron_h_moe"])
def test_a_recurrent_state_is_not_counted_by_the_token(build: Any, family: str) -> None:
    model = build(family)
    shape = Shape.of_config(vars(text_of(model).args), 4)
    assert model_checks.kv_bytes(model, [5, 7, 9]) == shape.kv_per_token


class Retold:
    """A tokenizer with another chat template."""

    def __init__(self, tokenizer: Any, chat_template: str | None) -> None:
        self._tokenizer, self.chat_template = tokenizer, chat_template
        self.has_chat_template = chat_template is not None

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        options.setdefault("chat_template", self.chat_template)
        return self._tokenizer.apply_chat_template(messages, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


BODY = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
OPEN = "{% if add_generation_prompt %} answer:{% endif %}"


@pytest.mark.parametrize(
    ("text", "bos", "opening"),
    [
        (BODY + OPEN, "ok", "ok"),
        ("{{ bos_token }}" + BODY + OPEN, "ok", "ok"),
        ("{{ bos_token }}{{ bos_token }}" + BODY + OPEN, "warning", "ok"),
        (BODY, "ok", "warning"),
    ],
    ids=["none", "one", "two", "no opening"],
)
def test_templates(tokenizer: Any, text: str, bos: str, opening: str) -> None:
    assert tokenizer.bos_token_id is not None
    found = checks(template.template_items(Retold(tokenizer, text)))
    assert found["BOS"].status == bos
    assert found["generation prompt"].status == opening
    for check in found.values():
        assert (check.remedy is None) == (check.status == "ok")


class Lossy(Retold):
    """A tokenizer that loses accents."""

    def decode(self, ids: Any) -> str:
        return str(self._tokenizer.decode(ids)).replace("\u00eb", "e")


def test_a_text_that_does_not_come_back(tokenizers: dict[str, Any]) -> None:
    for name, tokenizer in tokenizers.items():
        assert template.check_round_trip(tokenizer).status == "ok", name
    check = template.check_round_trip(Lossy(tokenizers["llama"], None))
    assert check.status == "warning"
    assert missing(check.detail, "Zo\u00eb", "Zoe") == []


def test_the_generation_prompt_is_the_one_in_use(tokenizers: dict[str, Any]) -> None:
    """Qwen3's template opens a thought unless it is told not to think."""
    tokenizer = tokenizers["qwen3"]
    ids = render_prompt(tokenizer, "What is a neuron?")
    used = tokenizer.decode(ids).rpartition("assistant")[2]
    assert "</think>" in used
    check = template.check_generation_prompt(tokenizer)
    assert repr(used)[1:-1] in check.detail


def test_what_templates_do_by_themselves(tokenizers: dict[str, Any]) -> None:
    qwen2 = values(template.template_items(tokenizers["qwen2"]))
    assert "You are" in qwen2["system prompt"]
    assert qwen2["thinking"] == "not supported"
    qwen3 = values(template.template_items(tokenizers["qwen3"]))
    assert qwen3["thinking"] == "supported (--thinking)"
    bare = list(template.template_items(Retold(tokenizers["llama"], None)))
    assert values(bare) == {"chat template": "none"}


# ----------------------------------------------------------------------- facts


def test_versions_that_do_not_go_together() -> None:
    found = {"mlx": "0.31.0", "rich": "15.0.0"}
    needed = ["mlx>=0.32; sys_platform == 'nowhere'", "rich>=14.0", "absent>=1"]
    assert facts.check_versions(found, needed, {"mlx-metal": "0.31.0"}).status == "ok"
    old = facts.check_versions(found, ["mlx>=0.32", "rich>=16"], {})
    assert_failed(old, "mlx 0.31.0, needed >=0.32", "rich 15.0.0")
    torn = facts.check_versions(found, [], {"mlx-metal": "0.30.1"})
    assert_failed(torn, "mlx-metal 0.30.1")
    assert facts.check_versions({"mlx": "unknown"}, ["mlx>=1"], {}).status == "ok"


@pytest.mark.parametrize(
    ("arguments", "name", "status"),
    [
        (("gpu", True, False, "Darwin"), "Metal", "ok"),
        (("gpu", False, True, "Linux"), "CUDA", "ok"),
        (("cpu", False, False, "Linux"), "CPU", "ok"),
        (("cpu", False, False, "Darwin"), "CPU", "warning"),
        (("cpu", True, False, "Darwin"), "CPU", "warning"),
        ((None, False, False, "Linux"), "CPU", "ok"),
    ],
)
def test_backends(arguments: Any, name: str, status: str) -> None:
    assert environment.backend(*arguments[:3]) == name
    check = facts.check_backend(*arguments)
    assert check.status == status
    assert (check.remedy is None) == (status == "ok")


@pytest.mark.parametrize(
    ("platform", "system", "status", "word"),
    [
        ("macosx_15_0_arm64", "15.5", "ok", "macOS 15"),
        ("macosx_14_0_arm64", "15.5", "ok", "macOS 14"),
        ("macosx_15_0_arm64", "26.2", "warning", "neural"),
        ("macosx_26_0_arm64", "26.2", "ok", "macOS 26"),
        ("macosx_26_0_arm64", "26.1", "warning", "26.2"),
        ("macosx_26_0_arm64", "15.5", "failed", "loaded"),
        ("manylinux_2_35_x86_64", "26.2", "ok", "not checked"),
        (None, None, "ok", "not checked"),
    ],
)
def test_the_wheel_of_mlx(
    platform: str | None, system: str | None, status: str, word: str
) -> None:
    check = facts.check_wheel(platform, system)
    assert check.status == status
    assert word in check.detail
    assert (check.remedy is None) == (status == "ok")


def test_the_memory_of_a_mac(monkeypatch: Patch) -> None:
    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(facts, "_wired_limit_mb", lambda: 49152)
    info = {"max_recommended_working_set_size": 51 << 30, "max_buffer_length": 38 << 30}
    found = {fact.key: fact for fact in facts.memory_items(info)}
    assert found["working_set_bytes"].value == 51 << 30
    assert found["largest_buffer_bytes"].value == 38 << 30
    assert fact_text(found["wired_limit_bytes"]) == "51.5 GB"
    assert facts.wired_limit(0).value == "system default"
    assert fact_text(facts.wired_limit(None)) == "unknown"


def test_what_cannot_be_known_is_unknown(monkeypatch: Patch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise OSError("not here")

    for where, name in (
        (mx, "device_info"),
        (mx, "default_device"),
        (facts, "machine"),
        (facts, "_open_files"),
        (facts, "_wired_limit_mb"),
        (facts, "mlx_parts"),
        (facts, "requires"),
    ):
        monkeypatch.setattr(where, name, broken)
    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    found = values([*facts.device_items(), *facts.version_items()])
    unknown = {"device", "memory", "usable memory", "wired limit", "open files"}
    assert {name for name, value in found.items() if value is None} == unknown


def test_disk_and_caches(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    blobs = hub / "models--one--two" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a").write_bytes(b"x" * 1000)
    found = list(places.disk_items(Store(tmp_path / "none" / "yet"), hub))
    assert values(found)["circuits"] == 0
    assert values(found)["size of models"] == 1000
    assert checks(found)["cache"].status == "ok"
    assert not (tmp_path / "none").exists()
    assert places.hub_bytes(hub, seconds=-1.0) is None
    assert places.check_room(10**12).status == "ok"
    little = places.check_room(2 * 10**9)
    assert (little.status, bool(little.remedy)) == ("warning", True)
    file = tmp_path / "file"
    file.write_text("")
    check = places.check_cache(file / "cna-mlx")
    assert (check.status, bool(check.remedy)) == ("warning", True)


# ------------------------------------------------------------------------- Hub


@contextmanager
def server(status: int, body: bytes, kind: str) -> Iterator[tuple[str, list[Any]]]:
    """A Hub on the loopback; its address, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("status", "kind", "hub", "token"),
    [
        (200, JSON, "ok", "ok"),
        (401, JSON, "ok", "warning"),
        (403, JSON, "ok", "warning"),
        (429, "text/html", "ok", "warning"),
        (503, "text/html", "warning", "warning"),
        (200, "text/html", "warning", "warning"),  # a hotel's login page
    ],
)
def test_what_the_hub_says(status: int, kind: str, hub: str, token: str) -> None:
    with server(status, b'{"name": "alice"}', kind) as (address, asked):
        items = list(places.hub_items(address, "hf_secret", False))
    assert asked == [("/api/whoami-v2", "Bearer hf_secret")]
    found = checks(items)
    assert (found["Hub"].status, found["token"].status) == (hub, token)
    for check in found.values():
        assert (check.remedy is None) == (check.status == "ok")
    assert "secret" not in repr(items)
    assert "alice" not in repr(items)


def test_without_a_token_nobody_is_named() -> None:
    with server(401, b"{}", JSON) as (address, asked):
        items = list(places.hub_items(address, None, False))
    assert asked == [("/api/whoami-v2", None)]
    assert checks(items).keys() == {"Hub"}
    assert checks(items)["Hub"].status == "ok"


def test_a_hub_that_cannot_be_reached() -> None:
    with server(200, b"", JSON) as (address, _):
        pass  # nobody listens there any more
    items = list(places.hub_items(address, "hf_secret", False))
    assert checks(items).keys() == {"Hub"}
    assert checks(items)["Hub"].status == "warning"
    assert "reached" in checks(items)["Hub"].detail


def test_a_hub_that_never_answers(monkeypatch: Patch) -> None:
    monkeypatch.setattr(places, "_HUB_SECONDS", 0.05)
    forever = threading.Event()

    def ask(address: str, token: str | None) -> places.HubReply:
        forever.wait(60)
        return places.HubReply(200, True)

    items = list(places.hub_items("https://hub", None, False, ask))
    forever.set()
    assert checks(items)["Hub"].status == "warning"
    assert "time" in checks(items)["Hub"].detail


def test_offline_asks_nobody() -> None:
    def ask(address: str, token: str | None) -> places.HubReply:
        raise AssertionError("asked")

    items = list(places.hub_items("https://u:p@hub.example/x", "t", True, ask))
    assert values(items)["endpoint"] == "https://hub.example/x"
    assert "HF_HUB_OFFLINE" in checks(items)["Hub"].detail


# ------------------------------------------------------------------ the screen

ITEMS: list[Item] = [
    Fact("memory", 25_300_000_000, "bytes", "a remark that does not fit in a line"),
    Fact("size of cache", 1234, "bytes"),
    Fact("redraws", False),
    Fact("neurons", 46080),
    Fact("bandwidth", 3.14, "GB/s"),
    Fact("thing", None),
    Fact("system prompt", "Sch\u00f6n\x1b[31m\nund gut " * 6),
    Check("float32 matmul", "ok", "relative error 2.1e-07, 3e-03 allowed"),
    Check("demo-base: identity at m = 1", "failed", "it differs " * 9, "upgrade " * 9),
    Check("Hub", "warning", "cannot be reached", "check the network"),
]


def shown(width: int, **options: Any) -> str:
    screen = make_screen(width, **options)
    for item in ITEMS:
        screen.out.print(item_lines(screen, item), soft_wrap=not screen.out.is_terminal)
    return sent(screen.out)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_screen_fits(width: int, encoding: str) -> None:
    text = plain(shown(width, encoding=encoding))
    assert max(map(len, text.splitlines())) <= width
    whole = " ".join(text.split())
    assert "memory 25.3 GB (a remark that does not fit in a line)" in whole
    assert "size of cache 1 kB" in whole
    assert "redraws no" in whole
    assert "neurons 46,080" in whole
    assert "bandwidth 3.1 GB/s" in whole
    assert "thing unknown" in whole
    assert "FAILED demo-base: identity at m = 1 it differs" in whole
    assert "remedy: upgrade upgrade" in whole
    assert "warning Hub cannot be reached remedy: check the network" in whole
    assert r"\x1b[31m" in text
    assert text.isascii() == (encoding == "ascii")


def test_a_pipe_gets_whole_lines_without_colour() -> None:
    text = shown(60, terminal=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) == len(ITEMS) + 2  # two remedies
    assert any("it differs it differs it differs" in line for line in lines)
    assert shown(80, color=False) == plain(shown(80, color=False))


def test_the_last_line_counts() -> None:
    found = [item for item in ITEMS if isinstance(item, Check)]
    line = str(summary_line(found, 4.6))
    assert missing(line, "1 ok", "1 warning", "1 failed", "5 s") == []


# --------------------------------------------------------------------- secrets


def test_secrets_are_covered_wherever_they_stand() -> None:
    secrets = secrets_of(Path("/home/alice"), "alice", "hf_abc.d")
    items = [
        Fact("cache", "/home/alice/.cache"),
        Fact("home", "/home/alice"),
        Fact("other", "/home/alice2/x and /Volumes/alice/models"),
        Check("a", "failed", "no /home/alice/x: hf_abc.d", "see /home/alice."),
        Fact("count", 3),
    ]
    found = list(anonymous(items, secrets))
    assert values(found) == {
        "cache": "~/.cache",
        "home": "~",
        "other": "/home/alice2/x and /Volumes/<user>/models",
        "count": 3,
    }
    assert checks(found)["a"].detail == "no ~/x: <token>"
    assert "alice" not in repr(checks(found))
    assert secrets_of(Path("/"), None, None) == {}


def test_exceptions_become_failed_checks() -> None:
    def nan() -> Check:
        raise NonFiniteError(3, 0)

    check = checked("it", nan)
    assert_failed(check, "layer 3", "NaN")
    assert "bf16 or float32" in str(check.remedy)
    assert attempt(lambda: 1 // 0) is None
    with pytest.raises(KeyboardInterrupt):
        checked("it", lambda: (_ for _ in ()).throw(KeyboardInterrupt))


# ----------------------------------------------------------------- the command


@pytest.fixture
def doctor(command: Run, monkeypatch: Patch, tmp_path: Path) -> Iterator[Run]:
    """The command, as somebody called alice, with a Hub on the loopback."""
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.setenv("CNA_MLX_CACHE", str(home / "store"))
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(device, "bandwidth", lambda: 100.0)
    with server(401, b'{"name": "alice"}', JSON) as (address, _):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        yield lambda *words: command("doctor", *words)


@pytest.mark.slow
def test_the_whole_screen(doctor: Run) -> None:
    done = doctor(TINY)
    assert done.code == 0, done.out
    titles = [line for line in done.out.splitlines() if line and line[0] != " "]
    assert titles[:-1] == [
        "versions",
        "machine",
        "disk",
        "Hub",
        "terminal",
        "device",
        "demo",
        "demo-base",
        "model",
        "model template",
        "model numerics",
    ]
    assert " 0 failed in " in titles[-1]
    assert "401" in done.out
    for secret in ("alice", "verysecret", str(Path.home())):
        assert secret not in done.out + done.err
    assert "~/store" in done.out


def test_json(doctor: Run) -> None:
    done = doctor("--json")
    assert done.code == 0
    data = done.data
    assert data.keys() == {"schema_version", "complete", "seconds", "facts", "checks"}
    assert data["complete"] is True
    assert data["facts"]["versions"].keys() >= {"python", "mlx", "mlx_lm", "click"}
    assert data["facts"]["machine"]["memory_bytes"] > 10**8
    assert data["facts"]["device"] == {"bandwidth_gb_per_second": 100.0}
    names = [check["name"] for check in data["checks"]]
    assert len(set(names)) == len(names)
    for check in data["checks"]:
        assert check.keys() == {"name", "status", "detail", "remedy"}
        assert check["status"] in ("ok", "warning", "failed")
        assert (check["remedy"] is None) == (check["status"] == "ok")
    assert "alice" not in done.out
    assert "verysecret" not in done.out


def test_a_failed_check_is_exit_code_1_and_the_rest_goes_on(
    doctor: Run, monkeypatch: Patch
) -> None:
    def broken(name: str) -> Any:
        raise OSError(f"{Path.home()}/figures.json is gone")

    monkeypatch.setattr(parity, "stored", broken)
    monkeypatch.setattr(facts, "device_items", lambda: iter([1 // 0]))
    done = doctor("--json")
    assert done.code == 1
    failed = {c["name"]: c for c in done.data["checks"] if c["status"] == "failed"}
    assert failed.keys() == {"machine", "demo", "demo-base"}
    assert failed["demo"]["detail"] == "OSError: ~/figures.json is gone"
    assert done.data["complete"] is True
    assert "machine, demo, demo-base" in done.err


def test_a_model_that_cannot_be_loaded(
    doctor: Run, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("cna_mlx.diagnostics.doctor.DEMO_NAMES", ())
    done = doctor(str(tmp_path / "nothing"))
    assert done.code == 2
    assert "4-bit g32 matmul" in done.out
    assert done.err.splitlines()[-1].startswith("cna-mlx: ")


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_keeps_what_was_found(
    as_json: bool, doctor: Run, monkeypatch: Patch
) -> None:
    def pressed() -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "bandwidth", pressed)
    done = doctor(*(["--json"] if as_json else []))
    assert done.code == 130
    assert done.err.endswith("cna-mlx: interrupted\n")
    if as_json:
        assert done.data["complete"] is False
        assert done.data["checks"][-1]["name"] == "attention, heads of 128"
    else:
        assert "attention, heads of 128" in done.out.splitlines()[-1]


# ----------------------------------------------------------------- clear-cache


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: Patch) -> tuple[Path, list[Path]]:
    """A store with four files, and other files in the same folders."""
    store = tmp_path / "home" / "alice" / "store"
    for kind in ("circuits", "universal"):
        (store / kind).mkdir(parents=True)
    own = [
        store / "circuits" / f"{'a' * 32}.json",
        store / "circuits" / f"{'b' * 32}.json",
        store / "universal" / f"{'c' * 32}.json",
        store / "circuits" / f".{'a' * 32}.json.x8d_1z",  # a write that was killed
    ]
    strangers = [
        store / "notes.txt",
        store / "circuits" / "mine.json",
        store / "circuits" / f"{'A' * 32}.json",
        store / "runs" / f"{'a' * 32}.json",
        store / "circuits" / f"{'d' * 32}.json" / "inside",
        tmp_path / "elsewhere" / f"{'e' * 32}.json",
    ]
    for path in (*own, *strangers):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    link = store / "circuits" / f"{'f' * 32}.json"
    link.symlink_to(strangers[-1])
    return store, [*strangers, link]


def test_clearing_leaves_what_is_not_the_stores(
    doctor: Run, kept: tuple[Path, list[Path]]
) -> None:
    store, strangers = kept
    done = doctor("--clear-cache")
    assert (done.code, done.err) == (0, "")
    assert missing(done.out, "4 files", "20 bytes", "~/store") == []
    left = {path for path in store.rglob("*") if not path.is_dir()}
    assert left == {path for path in strangers if store in path.parents}
    assert all(path.read_text() == "12345" for path in strangers)
    assert doctor("--clear-cache", "--json").data == {
        "schema_version": 1,
        "removed_files": 0,
        "removed_bytes": 0,
    }


def test_clearing_follows_no_link(doctor: Run, tmp_path: Path) -> None:
    store = tmp_path / "home" / "alice" / "store"
    store.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / f"{'a' * 32}.json"
    file.write_text("12345")
    (store / "circuits").symlink_to(elsewhere)
    assert "0 files" in doctor("--clear-cache").out
    assert file.exists()


def test_clearing_removes_what_a_discovery_kept(
    tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    """The names are the store's own: a change of them must not escape."""
    from cna_mlx.discovery.selection import Selection
    from cna_mlx.prompts import PromptSet
    from cna_mlx.prompts.chat_template import Rendering

    one, two = (PromptSet.from_prompts([a, "b"], ["c", "d"]) for a in "xy")
    store = Store(tmp_path)
    store.find_or_discover(*tiny, one, Selection(0.05), Rendering(), bank=[two])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    kinds = {path.parent.name for path in files}
    assert kinds == {"averages", "circuits", "universal"}
    size = sum(path.stat().st_size for path in files)
    assert store.clear() == (len(files), size)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
