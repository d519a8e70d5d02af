"""What a model needs: the plan before a load, and the wired limit around the work."""

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from commandline import NEGATIVE, POSITIVE
from marks import slow
from texts import missing
from tiny_models import VOCABULARY

import cna_mlx
from cna_mlx.analysis.patching_run import patch_session
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import (
    groups,
    last_activations,
    shared_prefix,
)
from cna_mlx.discovery.attribution import ablate_each_neuron
from cna_mlx.discovery.diff_run import DiffRun
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError, ModelError, NonFiniteError, OutOfMemoryError
from cna_mlx.evaluation.kl import kl_from_baseline
from cna_mlx.models import catalogue
from cna_mlx.models.family import text_of
from cna_mlx.models.loading import load
from cna_mlx.models.memory.allocation import allocation_errors
from cna_mlx.models.memory.forecast import (
    BATCH_TOKENS,
    Shape,
    Workload,
    decoding_bytes,
    discovery_bytes,
    kept_bytes,
    steering_bytes,
)
from cna_mlx.models.memory.machine import Machine, wired
from cna_mlx.models.memory.plan import Plan, check_fits
from cna_mlx.models.memory.rates import Rates
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.search.shrink import shrink_session
from cna_mlx.search.stability import stability
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the wired limit, in order."""
    seen: list[str] = []
    recommended = {"max_recommended_working_set_size": 10**9, "memory_size": 2 * 10**9}

    def set_limit(limit: int) -> int:
        seen.append("set" if limit == 10**9 else "restored")
        return 7

    monkeypatch.setattr(mx, "device_info", lambda: recommended)
    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    return seen


def test_the_wired_limit_is_restored(limits: list[str]) -> None:
    with wired():
        assert limits == ["set"]
    assert limits == ["set", "restored"]
    with pytest.raises(KeyError), wired():
        raise KeyError
    assert limits == ["set", "restored"] * 2


def test_a_device_without_a_recommended_size_has_no_limit(
    limits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "device_info", dict)
    with wired():
        pass
    assert limits == []


def test_a_walk_is_wired(llama: Any, ids: list[list[int]], limits: list[str]) -> None:
    for _ in last_activations(llama, ids):
        assert limits == ["set"]
    assert limits == ["set", "restored"]


def test_a_walk_that_is_left_early_is_not_wired(
    llama: Any, ids: list[list[int]], limits: list[str]
) -> None:
    walk = last_activations(llama, ids)
    next(walk)
    walk.close()
    assert limits == ["set", "restored"]


def test_a_walk_that_fails_is_not_wired(
    build: Any, ids: list[list[int]], limits: list[str]
) -> None:
    model = build("llama")
    model.model.layers[1].mlp.gate_proj.weight *= float("nan")
    with pytest.raises(NonFiniteError):
        list(last_activations(model, ids))
    assert limits == ["set", "restored"]


def test_generation_is_wired(llama: Any, tokenizer: Any, limits: list[str]) -> None:
    events = generate_arms(llama, tokenizer, [[1, 2]], [BASELINE], max_tokens=3)
    next(events)
    assert limits == ["set"]
    events.close()
    assert limits == ["set", "restored"]


def test_the_limit_is_set_once_for_nested_work(limits: list[str]) -> None:
    """Setting it moves all weights, and the inner work may end last."""
    with wired():
        with wired():
            pass
        outer = wired()
        outer.__enter__()
        assert limits == ["set"]
    assert limits == ["set"]
    outer.__exit__(None, None, None)
    assert limits == ["set", "restored"]


def test_what_computes_is_wired(
    llama: Any, tokenizer: Any, ids: list[list[int]], limits: list[str]
) -> None:
    circuit = Circuit.from_neurons([(0, 1)])
    computations: list[Callable[[], Any]] = [
        lambda: kl_from_baseline(llama, ids[0], [1, 2], [BASELINE]),
        lambda: ablate_each_neuron(llama, tokenizer, circuit, ids[0], 1),
        lambda: first_tokens(llama, tokenizer, ids[0], [BASELINE]),
    ]
    for compute in computations:
        compute()
        assert limits == ["set", "restored"]
        limits.clear()


def test_a_whole_run_is_wired_once(
    tiny: tuple[Any, Any],
    limits: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Choosing a circuit is part of a run, and so is each of its prompts."""
    session = Session.of(*tiny)
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE)
    options = DiscoveryOptions(contrast, fraction=0.05, universal=False)
    circuit = session.default_circuit(options)
    runs: list[Callable[[], Any]] = [
        lambda: session.default_circuit(replace(options, expect=True)),
        lambda: session.discover(replace(options, expect=True)),
        lambda: patch_session(session, circuit, options),
        lambda: patch_session(session, None, options),
        lambda: shrink_session(session, circuit, options),
        lambda: stability(*tiny, options, resamples=2),
        lambda: list(DiffRun(session, (BASELINE,), ("a", "b"), 2).run()),
    ]
    for number, run in enumerate(runs):
        monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / str(number)))
        limits.clear()
        with suppress(InputError):  # the tiny model refuses nothing
            run()
        assert limits == ["set", "restored"]


# ------------------------------------------------------------- failed allocations

# The MLX 0.32 wheels for Metal, CUDA and CPU hold these messages.
FAILED = [
    RuntimeError("[malloc] Unable to allocate 9 bytes."),
    RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is"),
    RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
    RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (0008)"),
    RuntimeError("cudaMallocAsync(&data, size, stream) failed: out of memory."),
    RuntimeError("cudaGraphLaunch(exec, stream) failed: out of memory"),
    MemoryError(),
    MemoryError("std::bad_alloc"),
]
OTHERS = [
    RuntimeError("/memory/malloc: no such file"),
    RuntimeError("[METAL] Command buffer execution failed: Caused GPU Hang Error"),
    RuntimeError("cudaFree(data) failed: invalid argument."),
    ValueError("[malloc] Unable to allocate 9 bytes."),
]


@pytest.mark.parametrize("error", FAILED, ids=repr)
def test_a_failed_allocation_names_the_remedy(error: Exception) -> None:
    with (
        pytest.raises(OutOfMemoryError, match="max-tok") as caught,
        allocation_errors(),
    ):
        raise error
    assert str(error) in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, allocation_errors():
        raise error
    assert caught.value is error


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No evaluation can allocate."""

    def fail(*_: Any) -> None:
        raise FAILED[0]

    monkeypatch.setattr(mx, "eval", fail)


@pytest.mark.usefixtures("full")
def test_every_computation_maps_failed_allocations(
    llama: Any, tokenizer: Any, ids: list[list[int]]
) -> None:
    circuit = Circuit.from_neurons([(0, 1)])
    contrast = PromptSet.from_prompts(["a", "b"], ["c", "d"])
    computations: list[Callable[[], Any]] = [
        lambda: load("demo"),
        lambda: list(last_activations(llama, ids)),
        lambda: run_discovery(llama, tokenizer, contrast),
        lambda: list(generate_arms(llama, tokenizer, ids[:1], [BASELINE])),
        lambda: kl_from_baseline(llama, ids[0], [1, 2], [BASELINE]),
        lambda: ablate_each_neuron(llama, tokenizer, circuit, ids[0], 1),
    ]
    for compute in computations:
        with pytest.raises(OutOfMemoryError):
            compute()


# ----------------------------------------------------------------- before a load

# Llama-3.2-3B's config.json, as far as it matters here
LLAMA = {
    "num_hidden_layers": 28,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
MACHINE = Machine(24 * 10**9, 16 * 10**9)


def test_the_shape_of_a_config() -> None:
    shape = Shape.of_config(LLAMA)
    assert shape == Shape(28, 3072, 8192, 24, 8, 128, 131072, 2)
    assert shape.kv_per_token == 2 * 28 * 8 * 128 * 2
    plain = {k: v for k, v in LLAMA.items() if "key_value" not in k and k != "head_dim"}
    assert Shape.of_config(plain).kv_heads == 24
    assert Shape.of_config(plain).head_dim == 128
    assert Shape.of_config({**LLAMA, "dtype": "float32"}).value_bytes == 4
    assert Shape.of_config(LLAMA, 4).value_bytes == 4


@pytest.mark.parametrize("value", [None, 0, -1, True, "8", 2.5, [], {}])
def test_a_damaged_config_still_has_a_plan(value: Any) -> None:
    """Whether it can be loaded is for others to say, and in better words."""
    for key in LLAMA:
        shape = Shape.of_config({**LLAMA, key: value})
        text = str(Plan("it", 10**9, shape, MACHINE))
        assert "1.0 GB" in text


def test_the_plan_of_a_rank() -> None:
    """It holds all that is outside the layers, and its part of the rest."""
    whole = Plan("llama-3b", 1_800_000_000, Shape.of_config(LLAMA), MACHINE)
    one = whole.of_rank(2, 200_000_000)
    assert one.weights == 1_000_000_000
    assert 2 * one.shape.kv_per_token == whole.shape.kv_per_token
    assert "1.0 GB of weights on each of 2 ranks" in str(one)
    assert "ranks" not in str(whole)


def test_the_plan_in_one_line() -> None:
    one = Plan("llama-3b", 1_800_000_000, Shape.of_config(LLAMA), MACHINE)
    figures = ("1.8 GB", "115 kB", f"{one.discovery / 1e6:.0f} MB", "16.0 GB usable")
    assert missing(str(one), "llama-3b", *figures) == []
    assert "\n" not in str(one)
    scales = 2 * 2 * 4 * 28 * 8192  # of two arms, and those of the rows in a prefill
    rest = one.discovery + kept_bytes(one.shape) + scales
    assert one.needed == 1_800_000_000 + 2 * 2048 * 114688 + rest
    short = Shape.of_config({**LLAMA, "max_position_embeddings": 512})
    assert one.needed - Plan("", 1_800_000_000, short, MACHINE).needed == (
        2 * (2048 - 512) * 114688
    )


def test_the_warning_begins_at_nine_tenths() -> None:
    one = Plan("it", 10**9, Shape.of_config(LLAMA), MACHINE)
    for usable, warns in ((one.needed / 0.89, False), (one.needed / 0.91, True)):
        at = Plan("it", 10**9, one.shape, Machine(24 * 10**9, int(usable)))
        assert at.is_tight == warns
        assert bool(at.warning) == warns
    assert at.warning is not None
    assert missing(at.warning, "91%", "2,048 tokens", "--max-tokens") == []


def test_what_the_warning_advises() -> None:
    """Closing programs does not raise what a GPU may use."""
    shape, weights = Shape.of_config(LLAMA), 10**9
    alone = Plan("it", weights, shape, MACHINE, arms=0)
    assert alone.needed == weights + alone.discovery + kept_bytes(shape)
    for share, closes in ((0.95, True), (1.1, False)):
        usable = Machine(24 * 10**9, int(alone.needed / share))
        said = replace(alone, machine=usable).warning
        assert said is not None
        assert ("close other programs" in said) == closes
        assert missing(said, "a discovery needs", "smaller model") == []
        assert "arms" not in said
        both = replace(alone, machine=usable, arms=2).warning
        assert both is not None
        assert missing(both, "two arms", "--max-tokens", "--stream") == []


def test_a_smaller_choice_fits() -> None:
    """The largest that does, with room for a conversation and a discovery."""
    known = {entry.ids["mlx_instruct_4bit"]: entry for entry in catalogue.entries()}
    weights = []
    for size in (3, 6, 16, 64, 512):
        usable = Machine(2 * size * 10**9, size * 10**9)
        with pytest.raises(ModelError) as caught:
            check_fits("huge", 10**12, usable)
        message = str(caught.value)
        assert missing(message, "huge", "1000.0 GB", f" {size}.0 GB") == []
        name = next(word for word in message.split() if "mlx-community/" in word)
        weights.append(known[name].weights_4bit)
        assert weights[-1] < 0.9 * usable.usable
        more = [e.weights_4bit for e in known.values() if e.weights_4bit > weights[-1]]
        assert all(bytes_ > 0.75 * usable.usable for bytes_ in more)
    assert weights == sorted(weights)
    assert len(set(weights)) > 2
    with pytest.raises(ModelError, match="mlx-community/"):
        check_fits("huge", 10**12, Machine(10**9, 5 * 10**8))
    check_fits("small", 5 * 10**8, Machine(10**9, 5 * 10**8))


def _workload(sets: list[PromptSet], tokenizer: Any) -> Workload:
    texts = [text for one in sets for text in (*one.positive, *one.negative)]
    ids = [render_prompt(tokenizer, text) for text in texts]
    shared = shared_prefix(ids)
    return Workload.of(
        [len(prompt) for prompt in ids],
        shared,
        groups(ids, shared),
        sum(sets[0].sizes),
        len(sets) + 2,
    )


def test_the_plan_knows_what_is_built_in(tokenizer: Any) -> None:
    """Counts are the same for every tokenizer; lengths are SmolLM2's."""
    found = _workload([load_contrast("refusal"), *load_bank()], tokenizer)
    assert found.prompts == Workload().prompts
    assert found.contrast == Workload().contrast
    assert found.sets == Workload().sets
    largest = Workload().rows * Workload().length
    assert 0.95 * BATCH_TOKENS < largest <= BATCH_TOKENS


# None of these shapes served to find the factors of the forecast: d_ff, hidden, heads,
# KV heads and width of a head, in the two dtypes.
@pytest.mark.parametrize("precision", ["float32", slow("bfloat16"), slow("4-bit")])
@pytest.mark.parametrize(
    "sizes",
    [(1408, 320, 5, 5, 64), slow((640, 448, 7, 1, 64)), slow((2304, 192, 6, 2, 32))],
)
def test_the_forecast_of_a_discovery(
    build: Any, tokenizer: Any, precision: str, sizes: tuple[int, ...]
) -> None:
    """Against what MLX counts: never much more than was said, and not far less."""
    names = (
        "intermediate_size",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    )
    config = {**dict(zip(names, sizes, strict=True)), "num_hidden_layers": 2}
    model = build("llama", precision, **config)
    contrast = load_contrast("refusal-small")
    work = _workload([contrast], tokenizer)
    shape = Shape.of_config(config, 4 if precision == "float32" else 2)
    gc.collect()  # else an earlier test's model is counted, and freed meanwhile
    mx.clear_cache()
    before = mx.get_active_memory()
    peak = run_discovery(
        model, tokenizer, contrast, Selection(universal=False)
    ).peak_memory
    # Layers as small as these are done before the next is asked for, or not, as the
    # threads have it, and then hold one buffer less at a time: 0.80 to 0.98 were seen
    # of one shape. Of real shapes docs/performance.md has the peaks.
    assert 0.6 < (peak - before) / discovery_bytes(shape, work) < 1.05


# As above: hidden, d_ff, heads of the scan, width of a head, values of its state.
@pytest.mark.parametrize(
    "sizes", [(320, 640, 20, 48, 48), slow((256, 4096, 6, 32, 32))]
)
@pytest.mark.parametrize("words", [1, slow(80)])
def test_the_forecast_of_a_scan(
    build: Any, tokenizer: Any, sizes: tuple[int, ...], words: int
) -> None:
    names = (
        *("hidden_size", "intermediate_size", "mamba_num_heads", "mamba_head_dim"),
        "ssm_state_size",
    )
    model = build("nemotron_h", **dict(zip(names, sizes, strict=True)))
    shape = Shape.of_config(vars(text_of(model).args), 4)
    sides = (
        [f"{start * words} {n}" for n in range(32 if words == 1 else 8)]
        for start in ("why ", "how ")
    )
    contrast = PromptSet.from_prompts(*sides)
    work = _workload([contrast], tokenizer)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = run_discovery(model, tokenizer, contrast, Selection(universal=False))
    assert 0.6 < (found.peak_memory - before) / discovery_bytes(shape, work) < 1.1


_WIDTH = "moe_intermediate_size"


# As above: experts, chosen, width of each, hidden; none served to find the factors.
@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("qwen3_moe", (24, 6, 96, 192)),
        slow("qwen2_moe", (12, 3, 160, 320)),
        slow("glm4_moe", (24, 6, 96, 192)),
        slow("mixtral", (12, 3, 160, 192)),
        slow("gpt_oss", (24, 6, 96, 192)),
        slow("qwen3_next", (24, 6, 96, 192)),
    ],
)
def test_the_forecast_of_a_mixture(
    build: Any, tokenizer: Any, family: str, sizes: tuple[int, ...]
) -> None:
    experts, chosen, width, hidden = sizes
    key = "intermediate_size" if family in ("mixtral", "gpt_oss") else _WIDTH
    config = {
        "num_hidden_layers": 4 if family == "qwen3_next" else 2,
        "hidden_size": hidden,
        "num_experts_per_tok": chosen,
        key: width,
        "mlp_only_layers": [],
        "first_k_dense_replace": 0,
        **dict.fromkeys(
            ("num_experts", "num_local_experts", "n_routed_experts"), experts
        ),
    }
    model = build(family, **config)
    work = _workload([load_contrast("refusal-small")], tokenizer)
    shape = Shape.of_config(vars(text_of(model).args), 4)
    assert shape.experts is not None
    assert (shape.experts.count, shape.experts.chosen) == (experts, chosen)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    contrast = load_contrast("refusal-small")
    found = run_discovery(model, tokenizer, contrast, Selection(universal=False))
    assert 0.6 < (found.peak_memory - before) / discovery_bytes(shape, work) < 1.1


@pytest.mark.parametrize("arms", [1, 4])
@pytest.mark.parametrize(("prompt", "answer"), [(5, 9), (47, 26), (300, 20)])
def test_the_forecast_of_decoding(
    build: Any, tokenizer: Any, arms: int, prompt: int, answer: int
) -> None:
    config = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
    model = build("llama", **config)
    shape = Shape.of_config(vars(text_of(model).args), 4)
    circuit = Circuit.from_neurons([(layer, 7) for layer in range(4)])
    rows = [Arm(str(row), ((circuit, row / 8),)) for row in range(arms)]
    ids = [[9, *range(20, 19 + prompt)]]
    list(generate_arms(model, tokenizer, [[1, 2]], rows, max_tokens=2))
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    list(generate_arms(model, tokenizer, ids, rows, max_tokens=answer))
    measured = mx.get_peak_memory() - before
    sizes = arms, prompt, answer, VOCABULARY
    assert 0.4 < measured / decoding_bytes(shape, *sizes) < 1.1


def test_the_scales_of_arms_are_counted(build: Any) -> None:
    """A scale for each neuron of each arm: of all experts, also of idle ones."""
    sizes = {"num_experts": 64, "moe_intermediate_size": 128}
    model = build("qwen3_moe", mlp_only_layers=[], **sizes)
    shape = Shape.of_config(vars(text_of(model).args), 4)
    assert shape.all_neurons == 3 * 64 * 128
    circuit = Circuit.from_neurons([(layer, 5) for layer in range(3)])
    gc.collect()
    before = mx.get_active_memory()
    edits = Edits(model, [((circuit, 0.5 * arm),) for arm in range(7)])
    part = edits.of_rows({layer: list(range(7)) for layer in range(3)})
    mx.eval([scale for scale, _, _ in part._edits.values()])
    held = mx.get_active_memory() - before
    assert held == pytest.approx(steering_bytes(shape, 7), rel=0.1)
    plan = Plan("it", 10**9, shape, MACHINE, arms=7)
    alone = Plan("it", 10**9, shape, MACHINE, arms=0).needed
    cache = 7 * plan.tokens * shape.kv_per_token
    assert plan.needed - alone == cache + steering_bytes(shape, 7)


def test_a_mixture_multiplies_by_the_experts_that_tokens_are_sent_to() -> None:
    config = {
        "num_hidden_layers": 48,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    }
    shape = Shape.of_config(config)
    plan = Plan("it", 10**9, shape, MACHINE, rates=Rates(1e9, 1e12))
    attention = 2048 * 128 * (2 * 32 + 2 * 4)
    one = attention + 3 * 2048 * 8 * 768
    assert plan.seconds[1] == pytest.approx(48 * one * Workload().tokens / 1e12)
    assert shape.layer_weights == attention + 3 * 2048 * 128 * 768
    # each neuron's six figures are kept, and of each layer the best in a thousand
    assert kept_bytes(shape) > 24 * 48 * 128 * 768


def test_a_load_tells_its_plan_first(parity: Path) -> None:
    plans: list[Plan] = []
    load(str(parity / "qwen2_bias"), planned=plans.append)
    load("demo", planned=plans.append)
    tiny, demo = plans
    assert tiny.weights == (parity / "qwen2_bias/model.safetensors").stat().st_size
    assert tiny.machine.usable > 10**8
    assert demo.shape.value_bytes == 4  # stored in two bytes, computed in four
    stored = Path(cna_mlx.__file__).parent / "demo/demo/model.safetensors"
    assert demo.weights == 2 * stored.stat().st_size
