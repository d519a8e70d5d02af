"""`bench`: what is timed is the same work, and the figures are what they say."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY, Outcome, make_screen, plain, sent
from texts import missing

import cna_mlx.util.environment as environment
from cna_mlx.diagnostics.bench import (
    SHORT,
    Bench,
    Comparison,
    Memory,
    Omitted,
    Physics,
    physics,
    to_json,
    walks,
)
from cna_mlx.diagnostics.bench.costs import Costs
from cna_mlx.diagnostics.bench.decoding import (
    Decoded,
    Decoder,
    arms_of,
    compare,
    compare_arms,
    endless,
    fitting,
    room,
)
from cna_mlx.diagnostics.bench.timed_walk import TimedWalk
from cna_mlx.diagnostics.bench.timing import Budget, in_turn
from cna_mlx.diagnostics.bench.walks import (
    alternating,
    both_sides,
    deltas,
    multiplications,
    peak_of,
    sample_of,
    shared_share,
    spread,
)
from cna_mlx.diagnostics.invariants import random_circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.session import Session
from cna_mlx.models.memory.loaded import parameter_bytes
from cna_mlx.prompts import PromptSet
from cna_mlx.ui.bench import closing_line, environment_lines, result_lines

Run = Callable[..., Outcome]
Patch = pytest.MonkeyPatch
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FOREVER = 1e9


@pytest.fixture(autouse=True)
def known_bandwidth(monkeypatch: Patch) -> None:
    """Measuring it takes seconds; the doctor's tests do."""
    monkeypatch.setattr(physics, "bandwidth", lambda: 100.0)


class Ticks:
    """A clock that advances by a second at each reading."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def budget(pairs: int = 3, seconds: float = FOREVER) -> Budget:
    return Budget(pairs, seconds, Ticks())


def comparison(name: str = "arms_2", **changes: Any) -> Comparison:
    known = {
        "plain": (2.0, 3.0, 8.0),
        "ours": (1.0, 1.0, 2.0),
        "work": 30,
        "unit": "tokens",
        "title": "2 arms of one prompt",
        "against": "the same arms one after the other",
    }
    return Comparison(name, **{**known, **changes})


def costs(one: float = 0.05, **rows: float) -> Costs:
    """A step of one row, and of others as r2=0.06."""
    others = {int(name[1:]): seconds for name, seconds in rows.items()}
    return Costs(64, 0.5, {1: one, **others})


COSTS = costs(r2=0.06, r4=0.08)
PHYSICS = Physics(4_000_000_000, 8_000_000, 100.0, "4-bit g64", "Metal", COSTS)


# ---------------------------------------------------------------------- timing


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    one = comparison()
    assert one.ratio == (2.5, 3.0, 3.5)  # of 2, 3 and 4
    assert one.plain_rate == 10  # 30 tokens in the median of 3 seconds
    assert one.rate == 30
    assert one.to_dict()["ratio"] == [2.5, 3.0, 3.5]


def test_steps_are_timed_in_turn() -> None:
    order: list[str] = []
    seen: list[tuple[str, int, int]] = []

    def way(name: str, *seconds: float) -> Callable[[], float]:
        left = iter(seconds)

        def run() -> float:
            order.append(name)
            return next(left)

        return run

    ways = way("plain", 1, 2, 3), way("ours", 4, 5, 6)
    told = Budget(3, FOREVER, Ticks(), lambda *event: seen.append(event))
    assert in_turn(ways, told, "work") == [(1, 2, 3), (4, 5, 6)]
    assert " ".join(order) == "plain ours ours plain plain ours"
    assert seen == [("work", done, 3) for done in range(4)]


@pytest.mark.parametrize(
    ("rounds", "seconds", "timed"),
    [(9, 0.0, 3), (2, 0.0, 2), (9, 4.5, 6), (9, FOREVER, 9)],
)
def test_no_round_starts_that_would_end_too_late_but_three_do(
    rounds: int, seconds: float, timed: int
) -> None:
    """The clock advances by a second before each round from the fourth on."""
    one, _ = in_turn([lambda: 1.0, lambda: 1.0], budget(rounds, seconds))
    assert len(one) == timed


def test_ctrl_c_keeps_the_whole_rounds() -> None:
    seconds = iter([1.0, 2.0, 3.0])

    def run() -> float:
        for value in seconds:
            return value
        raise KeyboardInterrupt

    told = budget(9)
    assert in_turn([run], told) == [(1.0, 2.0, 3.0)]
    assert told.is_interrupted
    with pytest.raises(KeyboardInterrupt):
        in_turn([run], budget(9))


@pytest.mark.parametrize(
    ("ours", "is_noisy"),
    [
        ((1.0, 1.0), True),  # too few to know
        ((1.0, 1.0, 1.0), False),
        ((0.93, 1.0, 1.0), False),  # the quartiles are 4% apart
        ((0.85, 1.0, 1.2), True),  # 17%: an error of 9% of the median
        ((0.85, 1.0, 1.0, 1.2) * 4, False),  # 8% in sixteen pairs: an error of 2%
    ],
)
def test_ratios_whose_quartiles_do_not_support_them(
    ours: tuple[float, ...], is_noisy: bool
) -> None:
    one = comparison(plain=(1.0,) * len(ours), ours=ours)
    assert one.is_noisy is one.to_dict()["too_noisy"] is is_noisy
    assert to_json([one])["too_noisy"] == [one.name] * is_noisy


def test_the_error_of_a_median() -> None:
    """Of normal values: 1.2533 sigma / sqrt(n), from their quartiles."""
    sigma, count, draws = 0.1, 15, np.random.default_rng(1)
    medians, errors = [], []
    for _ in range(300):
        ours = 1 / draws.normal(2, sigma, count)
        one = comparison(plain=(1.0,) * count, ours=tuple(ours))
        medians.append(one.ratio[1])
        errors.append(one.error * one.ratio[1])
    assert np.mean(errors) == pytest.approx(np.std(medians), rel=0.2)


# ----------------------------------------------------------------------- costs


def test_costs_of_rows() -> None:
    assert COSTS.relative(4) == pytest.approx(1.6)
    assert COSTS.gain(4) == pytest.approx(2.5)
    assert COSTS.added == pytest.approx(0.2)  # 0.6 of a step for three more rows
    assert costs().added is None
    assert COSTS.step(8) == 2 * COSTS.step(4)  # not measured: at most


@pytest.mark.parametrize(
    ("prefill", "share"), [(0.1, 1.0), (0.175, 1.0), (0.35, 0.5), (99.0, 4 / 64)]
)
def test_a_slow_prompt_is_cut(prefill: float, share: float) -> None:
    """Seven steps of one row take 0.35 s, and a prompt of 64 tokens half of it."""
    assert replace(COSTS, prefill=prefill).prompt == pytest.approx(share)


def test_costs_are_those_of_the_models_steps(llama: Any) -> None:
    """The clock gives a second to the prompt and to each step."""
    found = Costs.of(llama, [1, 2, 3, 4], (1, 2), budget(2))
    assert found == Costs(4, 1.0, {1: 1.0, 2: 1.0})


def test_steps_of_too_many_rows_are_not_measured(llama: Any) -> None:
    found = Costs.of(llama, [1, 2, 3, 4], (1, 2, 4, 8), budget(3, seconds=9.5))
    assert found.steps == {1: 1.0, 2: 1.0, 4: 1.0}
    least = Costs.of(llama, [1, 2, 3, 4], (1, 2, 4, 8), budget(3, seconds=0.0))
    assert least.steps == {1: 1.0, 2: 1.0}


@pytest.mark.parametrize(
    ("seconds", "tokens"),
    [(0.0, 8), (3.9, 31), (100.0, 32)],  # .525 for prompts, .11 a token
)
def test_answers_are_as_long_as_the_time_allows(seconds: float, tokens: int) -> None:
    assert COSTS.tokens([1, 2], seconds, 32) == tokens


@pytest.mark.parametrize(
    ("seconds", "rows", "chat_rows"),
    [(100.0, (2, 4), (2,)), (3.0, (2,), (2,)), (1.9, (2,), ()), (0.0, (2,), ())],
)
def test_batches_that_take_too_long_are_left_out(
    seconds: float, rows: tuple[int, ...], chat_rows: tuple[int, ...]
) -> None:
    assert fitting(COSTS, (2, 4), (2,), seconds) == (rows, chat_rows)


def test_batches_of_unknown_cost_are_left_out() -> None:
    assert fitting(COSTS, (2, 4, 8, 16), (2, 4), 1e9) == ((2, 4), (2, 4))


# -------------------------------------------------------------------- decoding


@pytest.fixture(scope="module")
def decoder(llama: Any, tokenizer: Any, ids: list[list[int]]) -> Decoder:
    return Decoder(llama, endless(tokenizer), ids[0], 8, Ticks())


def test_an_endless_tokenizer_is_the_same_but_for_its_end(tokenizer: Any) -> None:
    before = set(tokenizer.eos_token_ids)
    found = endless(tokenizer)
    assert found.eos_token_ids == set()
    assert tokenizer.eos_token_ids == before != set()
    assert found.encode("red") == tokenizer.encode("red")


def test_both_ways_decode_the_same_tokens(decoder: Decoder) -> None:
    mlx_lms = decoder.plain()
    (arm,) = arms_of(random_circuit(decoder.model, 0.05), 1)
    ours = decoder.arms([arm])
    assert mlx_lms.ids == ours.ids
    assert len(ours.ids[0]) == 8


def test_steering_is_on_where_it_is_timed(decoder: Decoder) -> None:
    circuit = random_circuit(decoder.model, 0.5)
    arms = arms_of(circuit, 2)
    assert arms[1].steering == ((circuit, 0.0),)
    steered = decoder.arms(arms[1:])
    assert decoder.plain(circuit).ids == steered.ids
    assert steered.ids != decoder.plain().ids
    assert decoder.plain().ids == decoder.arms(arms[:1]).ids  # and off again


def test_the_first_token_ends_the_prefill(decoder: Decoder) -> None:
    """The clock is read before the prompt and at each of the eight tokens."""
    for found in (
        decoder.plain(),
        decoder.arms(arms_of(random_circuit(decoder.model, 0.05), 2)),
    ):
        assert (found.prefill, found.decode) == (1, 7)


def test_steered_ratios(tiny: tuple[Any, Any]) -> None:
    contrast = PromptSet.from_prompts(["one", "two"], ["three", "four"])
    settings = replace(SHORT, prompts=4, parts=("decoding",), tokens=8, rounds=2)
    bench = Bench(Session.of(*tiny), settings, contrast, clock=Ticks())
    _, one, other = bench.run()
    for found, name in ((one, "steered_decode"), (other, "steered_context")):
        assert isinstance(found, Comparison)
        assert found.name == name
        assert found.plain == found.ours == (7, 7)
        assert found.ratio[1] == found.rate == 1
        assert (found.work, found.unit) == (7, "tokens")


@pytest.mark.parametrize(
    ("limit", "prompt", "found"), [(None, 9, 32), (40, 9, 31), (10, 9, 2), (512, 9, 32)]
)
def test_answers_fit_into_the_context(
    limit: int | None, prompt: int, found: int
) -> None:
    assert room(limit, [1] * prompt, 32) == found


# ------------------------------------------------------------------------ arms


def test_arms_are_of_different_strengths_and_begin_with_the_baseline() -> None:
    circuit = SimpleNamespace()
    arms = arms_of(circuit, 16)  # type: ignore[arg-type]
    assert arms[0].steering == ()
    assert len({arm.label for arm in arms}) == 16
    strengths = [strength for arm in arms[1:] for _, strength in arm.steering]
    assert strengths[0] == 0
    assert max(strengths) < 2
    assert arms_of(circuit, 1) == [arms[0]]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Recorded:
    """A decoder that takes a second for each run, and knows what was asked of it."""

    prompt: tuple[int, ...] = (1, 2, 3)
    tokens: int = 5
    runs: list[tuple[str, Any]] = field(default_factory=list)

    def arms(self, arms: Any, prompts: Any = None) -> Decoded:
        self.runs.append((" ".join(arm.label for arm in arms), prompts))
        return Decoded(0.5, 1.0, tuple(() for _ in arms))


def test_each_batch_is_held_against_one_arm_of_its_round() -> None:
    recorded = Recorded()
    circuit = random_circuit_of_nothing()
    histories = [[1], [2, 2], [3, 3, 3]]
    work = recorded, circuit, (2, 4), (2,), histories, COSTS
    found = compare_arms(*work, budget(2))  # type: ignore[arg-type]
    names = ["arms_2", "arms_4", "chat_arms_2", "prefill_arms_2", "prefill_arms_4"]
    assert [one.name for one in found] == names
    for one, count in zip(found, (2, 4, 2, 2, 4), strict=True):
        assert one.ratio[1] == count  # a batch takes as long as one arm
    assert [one.work for one in found] == [8, 16, 8, 6, 12]
    expected = [one.expected and round(one.expected, 3) for one in found]
    assert expected == [1.667, 2.5, 1.667, None, None]
    first, second, *others = (arm.label for arm in arms_of(circuit, 4))
    two = f"{first} {second}"
    four = " ".join([two, *others])
    ways = [second, two, four, two]
    runs = [labels for labels, _ in recorded.runs]
    assert runs == [*ways[:2], *ways, *reversed(ways)]  # after two to compile
    given = [prompts for _, prompts in recorded.runs[2:6]]
    assert given == [None, None, None, [[1], [2, 2]]]


def test_plain_decoding_stands_in_the_middle_of_each_round(decoder: Decoder) -> None:
    order: list[str] = []

    def way(name: str, one: Decoder) -> Decoded:
        order.append(f"{name} {one.tokens}")
        return one.plain()

    ways = [(name, name, partial(way, name)) for name in ("a", "b")]
    found = compare(decoder, ways, budget(3))
    assert [one.name for one in found] == ["a", "b"]
    assert found[0].plain == found[1].plain == found[0].ours == (7, 7, 7)
    assert order == ["a 2", "b 2", "a 8", "b 8", "b 8", "a 8", "a 8", "b 8"]


def random_circuit_of_nothing() -> Any:
    return SimpleNamespace()


def test_rows_answer_as_their_arms_do_alone(
    decoder: Decoder, ids: list[list[int]]
) -> None:
    arms = arms_of(random_circuit(decoder.model, 0.5), 4)
    for histories in (None, ids[1:5]):
        rows = decoder.arms(arms, histories).ids
        for number, arm in enumerate(arms):
            alone = decoder.arms([arm], histories and [histories[number]])
            assert (rows[number],) == alone.ids
        assert len(set(rows)) > 1


# ------------------------------------------------------------------- discovery


def test_prompts_come_from_both_sides_in_turn() -> None:
    contrast = PromptSet.from_prompts(["a", "b", "c"], ["x", "y", "z"])
    both = both_sides(contrast)
    assert both == ["a", "x", "b", "y", "c", "z"]
    assert alternating(both, 2) == alternating(both, 3) == ["b", "y"]
    assert alternating(both, 99) == both


def test_few_prompts_are_spread_over_all() -> None:
    assert spread(range(100), 4) == [12, 37, 62, 87]
    assert spread("abc", 3) == spread("abc", 9) == ["a", "b", "c"]
    ids = [[0] * length for length in (9, 1, 5, 7, 3)]
    assert [len(one) for one in sample_of(ids, 2)] == [3, 7]


@pytest.mark.parametrize("tied", [True, False])
def test_how_many_times_fewer_multiplications(build: Any, tied: bool) -> None:
    """Twelve and eight tokens in one batch, of which the first four are shared."""
    model = build("llama", tie_word_embeddings=tied)
    ids = [[1, 2, 3, 4, *range(20, 28)], [1, 2, 3, 4, *range(30, 34)]]
    layers = 3 * 4 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128) + 4 * NORMS
    logits = 4 * 512 * 64
    last = parameter_bytes(model.layers[-1].mlp)
    assert last == 4 * 3 * 64 * 128
    walk = (4 + 2 * 8) * (layers - last) + 2 * last * 2 / 3
    assert multiplications(model, ids) == pytest.approx(20 * (layers + logits) / walk)


class Paced:
    """A clock that the work advances: by a second a pass, a tenth a walk's token."""

    def __init__(self, monkeypatch: Patch, disk: float) -> None:
        self.now, self.disk = 0.0, disk
        monkeypatch.setattr(walks, "forward_each", self.forward)
        monkeypatch.setattr(walks, "deltas", self.walk)

    def __call__(self) -> float:
        return self.now

    def forward(self, model: Any, ids: Any) -> None:
        self.now += len(ids)

    def walk(self, model: Any, ids: Any) -> None:
        self.now += walks.workload(ids).tokens / 10 + (
            self.disk if model == "streamed" else 0
        )


IDS = [[*range(10), number, number] for number in range(60)]


@pytest.mark.parametrize(
    ("seconds", "disk", "prompts", "is_streamed"),
    [
        (FOREVER, 0.0, 60, True),
        (60.0, 0.0, 32, True),
        (60.0, 9.0, 48, False),
        (0.0, 0.0, 4, False),
    ],
)
def test_as_many_prompts_are_read_as_the_time_allows(
    seconds: float, disk: float, prompts: int, is_streamed: bool, monkeypatch: Patch
) -> None:
    told = replace(budget(3, seconds), clock=Paced(monkeypatch, disk))
    texts = [str(number) for number in range(60)]
    found = TimedWalk.within("model", "streamed", texts, IDS, 1 / 12, told, 3)
    assert len(found.ids) == prompts
    assert (found.streamed == "streamed") is is_streamed
    assert [IDS[int(text)] for text in found.texts] == found.ids
    # passes take half as long as the prompts' own tokens, and are two or more
    assert len(found.sample) == max(2, ceil(prompts / 10))
    assert (found.needed > seconds) is not is_streamed


def test_passes_of_some_prompts_stand_for_all(monkeypatch: Patch) -> None:
    clock = Paced(monkeypatch, 6.0)
    told = replace(budget(3), clock=clock)
    found = TimedWalk("model", "streamed", [], IDS, IDS[:6])
    monkeypatch.setattr(
        "cna_mlx.diagnostics.bench.timed_walk.walks.multiplications", lambda *_: 4.5
    )
    walk, streamed = found.compare(None, told)
    assert walk.plain == (60, 60, 60)
    assert walk.ours == streamed.plain == (13, 13, 13)
    assert streamed.ours == (19, 19, 19)
    assert (walk.expected, walk.work) == (4.5, 60)
    assert found.peaks.keys() == {"discovery", "discovery_streamed"}
    assert found.peak("discovery") == found.peaks["discovery"]
    assert clock.now == 3 * (6 + 13 + 19)  # no other walk


def test_the_walk_that_is_timed_finds_the_deltas(
    llama: Any, ids: list[list[int]]
) -> None:
    found = deltas(llama, ids[:6])
    for layer, activations in last_activations(llama, ids[:6]):
        values = np.array(activations)
        expected = values[[0, 2, 4]].mean(axis=0) - values[[1, 3, 5]].mean(axis=0)
        np.testing.assert_allclose(found[layer], expected, atol=1e-5)


def test_walks_are_timed_whole(tiny: tuple[Any, Any]) -> None:
    contrast = PromptSet.from_prompts(["one", "two"], ["three", "four"])
    settings = replace(SHORT, prompts=4, parts=("discovery",), seconds=1e4, rounds=2)
    bench = Bench(Session.of(*tiny), settings, contrast, clock=Ticks())
    for one in [*bench.run()][1:]:
        assert isinstance(one, Comparison)
        # two of the four prompts have forward passes
        plain = 2 if one.name == "discovery_vs_forward" else 1
        assert one.plain == pytest.approx((plain, plain), rel=0.1)
        assert one.ours == (1, 1)
        assert (one.work, one.unit, one.rate) == (4, "prompts", 4)


def test_the_share_that_all_prompts_begin_with() -> None:
    assert shared_share([[1, 2, 3, 4], [1, 2, 5, 6, 7, 8]]) == 4 / 10


def test_the_peak_is_what_is_held_beyond_what_was() -> None:
    before = mx.ones((1 << 20,))
    mx.eval(before)
    found = peak_of(lambda: mx.eval(mx.ones((1 << 20,)) + 1))
    assert (1 << 22) <= found <= 3 * (1 << 22)
    assert before.nbytes == 1 << 22


# --------------------------------------------------------------------- physics

# vocabulary 512, hidden 64, d_ff 128, 4 heads of which 2 for KV, 3 layers
ATTENTION = 64 * 64 * 2 + 64 * 32 * 2
MLP = 3 * 64 * 128
NORMS = 3 * 2 * 64 + 64
MATRICES = 3 * (ATTENTION + MLP)
TABLE = 512 * 64


def quantized(count: int) -> float:
    """4 bits, and a bf16 scale and bias for each group of 32."""
    return count / 2 + count / 32 * 4


@pytest.mark.parametrize(
    ("family", "precision", "expected"),
    [
        ("llama", "float32", 4 * (MATRICES + TABLE + NORMS)),  # tied: counted once
        ("llama", "bfloat16", 2 * (MATRICES + TABLE + NORMS)),
        ("llama", "4-bit", quantized(MATRICES + TABLE) + 2 * NORMS),
    ],
)
def test_bytes_of_a_token_with_tied_embeddings(
    build: Any, family: str, precision: str, expected: float
) -> None:
    model = build(family, precision)
    assert Physics.of(model, COSTS).weights == expected


@pytest.mark.parametrize("precision", ["float32", "4-bit"])
def test_bytes_of_a_token_with_an_unembedding_of_its_own(
    build: Any, precision: str
) -> None:
    """The table of embeddings is not read, but for a row; the unembedding is."""
    tied = build("llama", precision)
    untied = build("llama", precision, tie_word_embeddings=False)
    found = [Physics.of(model, COSTS).weights for model in (tied, untied)]
    assert found[0] == found[1]


def test_bytes_of_the_kv_cache(build: Any) -> None:
    model = build("llama", "bfloat16")
    found = Physics.of(model, replace(COSTS, length=7))
    assert found.kv == 7 * 3 * 2 * 2 * 16 * 2  # layers, both, heads, head_dim, bytes


def test_the_bound_is_the_bandwidth_over_the_bytes() -> None:
    assert PHYSICS.bound == pytest.approx(100e9 / 4.008e9)
    assert PHYSICS.rate == 20
    assert PHYSICS.share == pytest.approx(20 * 4.008 / 100)
    unknown = replace(PHYSICS, bandwidth=None)
    assert unknown.bound is unknown.share is None


@pytest.mark.parametrize(
    ("found", "changes", "words"),
    [
        (costs(r2=0.06, r4=0.08), {}, "memory-bound|adds 20% of a step"),
        (costs(0.2, r2=0.22), {}, "small operations|adds 10% of a step"),
        (costs(0.03, r2=0.031), {}, "cache"),
        (costs(r2=0.08), {}, "compute-bound|adds 60%|gains little"),
        (costs(r2=0.1), {"backend": "CPU"}, "compute-bound|adds 100%|row by row"),
        (costs(), {}, "memory-bound"),
        (costs(r2=0.06), {"bandwidth": None}, "not measured|adds 20%"),
    ],
)
def test_what_limits_decoding_in_words(
    found: Costs, changes: dict[str, Any], words: str
) -> None:
    limit = replace(PHYSICS, costs=found, **changes).limit
    assert missing(limit, *words.split("|")) == []


def test_rows_in_words_and_json() -> None:
    lines = PHYSICS.lines()
    assert "more rows take 1.20 (2 rows), 1.60 (4 rows) times as long" in lines
    assert "a step of one row takes 50 ms: 20.0 tokens/s, 80% of that" in lines
    found = PHYSICS.to_dict()
    assert found["step_seconds_by_rows"] == {"1": 0.05, "2": 0.06, "4": 0.08}
    assert found["share_of_step_per_row"] == 0.2


# ----------------------------------------------------------------- environment


NUMPYS = "numpy.libs/libscipy_openblas64_-32a4.so"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/lib/mlx_cpu.libs/libblas-bd8a282c.so.3.10.0"], "reference"),
        (["/lib/x/libopenblasp-r0.3.21.so", "/x/libblas-bd8a.so.3"], "OpenBLAS"),
        (
            ["/p/numpy.libs/libscipy_openblas64_-32a4.so", "/x/libblas.so.3"],
            "reference",
        ),
        (["/p/numpy.libs/libscipy_openblas64_-32a4.so"], "unknown"),
        (["/opt/intel/libmkl_rt.so.2"], "MKL"),
        (["/a dir/libblis.so.4", "/x/libmlx.so"], "BLIS"),
        ([], "unknown"),
    ],
)
def test_the_blas_is_told_by_what_is_mapped(files: list[str], expected: str) -> None:
    maps = [f"7f00-7f01 r-xp 00000000 fe:00 1234       {file}" for file in files]
    assert environment.blas_of([*maps, "7f02-7f03 rw-p 00000000 00:00 0"]) == expected


def test_on_a_mac_it_is_accelerate(monkeypatch: Patch) -> None:
    monkeypatch.setattr(environment.platform, "system", lambda: "Darwin")
    assert environment.blas() == "Accelerate"


def test_a_system_without_proc_knows_no_blas(monkeypatch: Patch) -> None:
    monkeypatch.setattr(environment.platform, "system", lambda: "FreeBSD")
    monkeypatch.setattr(environment, "_MAPS", Path("/no/such/file"))
    assert environment.blas() == "unknown"


def test_the_environment_names_no_host() -> None:
    found = environment.environment()
    assert found.keys() == {
        "system", "device", "backend", "blas", "python", "versions"
    }  # fmt: skip
    assert found["versions"].keys() >= {"cna-mlx", "mlx", "mlx-lm"}
    assert os.uname().nodename not in json.dumps(found)


# ----------------------------------------------------------------------- suite


@pytest.fixture
def quick(monkeypatch: Patch) -> None:
    """Hardly anything is measured."""
    tiny = replace(SHORT, rounds=1, tokens=3, prompts=4)
    monkeypatch.setattr("cna_mlx.diagnostics.bench.SHORT", tiny)
    monkeypatch.setattr("cna_mlx.diagnostics.bench.Settings", lambda: tiny)


RATIOS = [
    "steered_decode",
    "steered_context",
    "arms_2",
    "arms_4",
    "chat_arms_2",
    "prefill_arms_2",
    "prefill_arms_4",
    "discovery_vs_forward",
    "discovery_streamed",
]


def test_the_json_has_every_ratio(command: Run, quick: None) -> None:
    done = command("bench", TINY, "--short", "--json")
    assert done.code == 0, done.err
    data = done.data
    assert data["complete"] is True
    assert data["model"] == TINY
    assert list(data["ratios"]) == RATIOS
    for name, ratio in data["ratios"].items():
        assert data["comparisons"][name]["ratio"][1] == ratio > 0
    assert data["physics"]["bandwidth_gb_per_second"] == 100
    assert data["physics"]["share_of_bound"] is not None
    assert data["physics"]["step_seconds_by_rows"].keys() == {"1", "2", "4"}
    assert data["too_noisy"] == RATIOS  # a single pair each
    assert data["left_out"] == {}
    assert data["memory"]["decode"].keys() == {"measured_bytes", "forecast_bytes"}
    assert data["environment"]["backend"] in ("CPU", "Metal", "CUDA", "GPU")


def test_parts_alone(command: Run, quick: None) -> None:
    done = command("bench", TINY, "--json", "--only", "discovery", "--only", "memory")
    assert list(done.data["ratios"]) == ["discovery_vs_forward", "discovery_streamed"]
    assert list(done.data["memory"]) == ["decode", "discovery", "discovery_streamed"]
    assert done.data["physics"]["share_of_bound"] > 0


def test_the_models_own_circuit_is_measured_where_it_is_kept(
    command: Run, quick: None, selection_of_demo: None
) -> None:
    done = command("bench", "demo", "--json", "--only", "decoding")
    assert "steered_decode_circuit" in done.data["ratios"]
    title = done.data["comparisons"]["steered_decode_circuit"]["what"]
    assert "this model's circuit" in title


@pytest.fixture
def selection_of_demo(tmp_path: Path) -> None:
    from cna_mlx import load
    from cna_mlx.discovery.selection import Selection
    from cna_mlx.prompts import load_contrast
    from cna_mlx.prompts.chat_template import Rendering

    store = Store(tmp_path / "store")
    chosen = Selection(0.0025, universal=False)
    magic = load_contrast("magic")
    store.find_or_discover(*load("demo"), magic, chosen, Rendering())


@pytest.mark.slow
def test_the_forecast_stands_beside_what_was_held(tiny: tuple[Any, Any]) -> None:
    contrast = PromptSet.from_prompts(["one", "two"], ["three", "four"])
    settings = replace(SHORT, prompts=4, parts=("memory",), is_whole=True)
    settings = replace(settings, seconds=1e4, rounds=1)
    bench = Bench(Session.of(*tiny), settings, contrast, clock=Ticks())
    memory = [one for one in bench.run() if isinstance(one, Memory)]
    names = ["decode", "discovery", "discovery_streamed", "discovery_with_bank"]
    assert [one.name for one in memory] == names
    decode, discovery, streamed, with_bank = memory
    assert 0 < streamed.measured < 1.1 * streamed.forecast
    config = tiny[0].args
    head = config.hidden_size // config.num_attention_heads
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * head
    cache = 2 * 256 * values * 4  # two arms, a step of the cache
    assert cache < decode.forecast < 1.5 * cache
    assert 0.5 < decode.measured / decode.forecast < 1.05
    assert 0 < discovery.measured < with_bank.measured


def test_no_result_makes_empty_json() -> None:
    found = to_json([])
    assert found == {
        "ratios": {},
        "too_noisy": [],
        "physics": None,
        "comparisons": {},
        "memory": {},
        "left_out": {},
    }


def test_a_short_time_leaves_out_the_largest_batches(tiny: tuple[Any, Any]) -> None:
    contrast = PromptSet.from_prompts(["one", "two"], ["three", "four"])
    settings = replace(SHORT, rows=(2, 4, 8), parts=("arms",), rounds=1, seconds=150.0)
    bench = Bench(Session.of(*tiny), settings, contrast, clock=Ticks())
    *found, omitted = bench.run()
    kept = [one.name for one in found if isinstance(one, Comparison)]
    assert kept == [
        "arms_2",
        "arms_4",
        "chat_arms_2",
        "prefill_arms_2",
        "prefill_arms_4",
    ]
    # a second for each prompt and step: 17 prompts and 7 steps of 5 batches, 3 times
    assert isinstance(omitted, Omitted)
    assert omitted.title == "8 arms"
    assert 3 * 52 / 0.9 < omitted.seconds < 3 * 52 * 1.5
    again = replace(settings, seconds=omitted.seconds)
    results = Bench(Session.of(*tiny), again, contrast, clock=Ticks()).run()
    assert not [one for one in results if isinstance(one, Omitted)]


# ---------------------------------------------------------------------- screen


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_keeps_what_was_measured(
    as_json: bool, command: Run, quick: None, monkeypatch: Patch
) -> None:
    def pressed(*_: Any, **__: Any) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(walks, "deltas", pressed)
    done = command("bench", TINY, *(["--json"] if as_json else []))
    assert done.code == 130
    assert done.err.endswith("cna-mlx: interrupted\n")
    if as_json:
        assert done.data["complete"] is False
        assert list(done.data["ratios"]) == RATIOS[:-2]
    else:
        assert "2 arms, own histories" in done.out
        assert "discovery of" not in done.out


def test_ctrl_c_shows_the_rounds_that_were_complete(
    command: Run, monkeypatch: Patch
) -> None:
    some = replace(SHORT, rounds=9, tokens=3, prompts=4, seconds=100.0)
    monkeypatch.setattr("cna_mlx.diagnostics.bench.Settings", lambda: some)
    runs = iter(range(7))  # two to compile, then two rounds and a half
    plain = Decoder.plain

    def pressed(self: Decoder, circuit: Any = None) -> Decoded:
        if circuit is None and next(runs, None) is None:
            raise KeyboardInterrupt
        return plain(self, circuit)

    monkeypatch.setattr(Decoder, "plain", pressed)
    done = command("bench", TINY, "--json")
    assert done.code == 130
    assert done.err.endswith("cna-mlx: interrupted\n")
    assert list(done.data["ratios"]) == RATIOS[:2]
    assert done.data["comparisons"]["steered_decode"]["pairs"] == 6
    assert done.data["complete"] is False


def test_for_people(command: Run, quick: None) -> None:
    done = command("bench", TINY)
    assert done.code == 0
    for words in (
        "what limits decoding",
        "times faster than the plain way",
        "more rows take",
        "too noisy: close other programs",
        "memory beyond the weights",
        "measured in",
    ):
        assert words in done.out
    assert done.out.count("times faster") == 1


def everything(screen: Any) -> str:
    around = environment.environment() | {"device": "a processor é"}
    first = comparison("steered_decode", title="decoding, a random circuit")
    memory = Memory("discovery", "a discovery with the bank", 10**9, 2 * 10**9)
    second = comparison(expected=2.5, expected_by="the rows' cost")
    results = [PHYSICS, first, second, Omitted("16 arms", 400), memory]
    views = [environment_lines(screen, around)]
    for count, result in enumerate(results, 1):
        views.append(result_lines(screen, result, results[:count]))
    for view in [*views, closing_line(3.2)]:
        screen.out.print(view, soft_wrap=not screen.out.is_terminal)
    return plain(sent(screen.out))


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_widths(width: int) -> None:
    text = everything(make_screen(width))
    assert max(map(len, text.splitlines())) <= width
    folded = " ".join(text.split())
    assert missing(folded, "3.00x", "2.50 to 3.50", "30.0 tokens/s") == []
    assert missing(folded, "25.0 tokens/s", "2.50 by the rows' cost", "too noisy") == []
    assert "left out: 16 arms; --seconds 400" in folded
    assert "forecast 2.0 GB" in folded


def test_ascii() -> None:
    assert everything(make_screen(80, encoding="ascii")).isascii()


def test_on_a_pipe_a_sentence_is_a_line() -> None:
    lines = everything(make_screen(20, terminal=False)).splitlines()
    assert any(line.endswith(" 25.0 tokens/s") for line in lines)


# ------------------------------------------------------------------ benchmarks


def script(name: str, *arguments: str) -> Any:
    """The JSON object that is a script's last line."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_random_model_of_a_real_shape_loads(tmp_path: Path) -> None:
    from cna_mlx import load, render_prompt

    directory = str(tmp_path / "model")
    words = ["smollm2-135m", "--layers", "1", "-o", directory]
    found = script("random_models.py", *words)
    assert found["precision"] == "4-bit"
    model, tokenizer = load(directory)
    assert len(model.layers) == 1
    assert model.layers[0].mlp.up_proj.bits == 4
    assert model.layers[0].mlp.up_proj.weight.shape == (1536, 576 // 8)
    logits = model(mx.array([render_prompt(tokenizer, "What is a neuron?")]))
    assert np.isfinite(np.array(logits.astype(mx.float32))).all()
    on_disk = sum(file.stat().st_size for file in (tmp_path / "model").glob("model*"))
    assert 0 <= on_disk - found["weight_bytes"] < 10_000


@pytest.mark.slow
def test_one_long_prompt_holds_its_neurons_and_no_more() -> None:
    found = script("held.py", "--layers", "2", "--tokens", "256")
    assert found["activation_bytes"] == 2 * 1536 * 4
    assert found["held_bytes"] < 2 * found["activation_bytes"]
