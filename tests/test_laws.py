"""What must hold for every family in float32, bf16 and 4 bits, whatever the weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

import cna_mlx.discovery.discover
import cna_mlx.steering.generation
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations, shared_prefix
from cna_mlx.discovery.discover import discover, run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import installed, widths
from cna_mlx.models.mlp import GatedMLP
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer, Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits, MeanDifference, steered

N_NEURONS = 3 * 128  # of the tiny models
POSITIVE = ["Stop that at once!", "No, never do this.", "Leave me alone!", "Go away!!"]
NEGATIVE = ["What is a garden?", "How old is the sea?", "Who is it?", "Why so blue?"]


def logits_of(model: Any, rows: list[list[int]]) -> np.ndarray:
    return np.array(model(mx.array(rows)).astype(mx.float32))


def assert_near(found: Any, expected: Any, tolerance: float) -> None:
    """Equal but for rounding, measured against the largest value."""
    found, expected = np.array(found), np.array(expected)
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    error = np.abs(found - expected).max()
    assert error <= tolerance * np.abs(expected).max()


def blocks_of(model: Any) -> list[Any]:
    return [layer.mlp for layer in model.model.layers]


class Hook(nn.Module):
    """An MLP of the tests' own: records its neurons, changes them, adds to its output.

    Written from the definition, without anything of the package.
    """

    def __init__(
        self,
        mlp: Any,
        scale: Any = None,
        shift: Any = None,
        add: Any = None,
        record: Any = None,
    ) -> None:
        super().__init__()
        self._mlp, self._record = mlp, record
        self._scale, self._shift, self._add = scale, shift, add

    def __call__(self, x: mx.array) -> mx.array:
        gate = self._mlp.gate_proj(x)
        a = gate * mx.sigmoid(gate) * self._mlp.up_proj(x)
        if self._record is not None:
            self._record.append(np.array(a[0, -1].astype(mx.float32)))
        if self._scale is not None:
            a = a * mx.array(self._scale).astype(a.dtype)
        if self._shift is not None:
            a = a + mx.array(self._shift).astype(a.dtype)
        out = self._mlp.down_proj(a)
        return out if self._add is None else out + self._add.astype(out.dtype)


@contextmanager
def hooked(model: Any, hook: Callable[[int, Any], Hook]) -> Iterator[None]:
    before = blocks_of(model)
    try:
        for index, layer in enumerate(model.model.layers):
            layer.mlp = hook(index, before[index])
        yield
    finally:
        for layer, mlp in zip(model.model.layers, before, strict=True):
            layer.mlp = mlp


def plain_activations(model: Any, ids: list[list[int]]) -> np.ndarray:
    """[layers, prompts, d_ff]: one prompt at a time through mlx-lm's own forward."""
    rows = []
    for prompt in ids:
        record: list[np.ndarray] = []
        with hooked(model, lambda _, mlp, to=record: Hook(mlp, record=to)):
            mx.eval(model(mx.array([prompt])))
        rows.append(record)
    return np.stack([np.stack(layer) for layer in zip(*rows, strict=True)])


# --- nothing asked, nothing changed ---------------------------------------------------


def test_multiplier_one_changes_nothing(
    model: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    plain = logits_of(model, ids[:1])
    before = blocks_of(model)
    with steered(model, circuit, 1.0):
        assert all(a is b for a, b in zip(before, blocks_of(model), strict=True))
        np.testing.assert_array_equal(logits_of(model, ids[:1]), plain)


def test_an_idle_block_is_mlx_lms_to_the_bit(model: Any, ids: list[list[int]]) -> None:
    plain = logits_of(model, ids[:1])
    with installed(model, list(range(len(widths(model))))):
        assert all(isinstance(block, GatedMLP) for block in blocks_of(model))
        np.testing.assert_array_equal(logits_of(model, ids[:1]), plain)


def test_blocks_hold_the_same_arrays(model: Any) -> None:
    before = blocks_of(model)
    with installed(model, [0, 2]) as blocks:
        for index, block in blocks.items():
            assert block.up_proj is before[index].up_proj
            assert block.d_ff == widths(model)[index]
            assert not {"_scale", "_shift"} & set(block.parameters())


class Surprise(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True], ids=["left", "failed"])
def test_leaving_gives_the_model_back(
    model: Any, circuit: Circuit, ids: list[list[int]], fails: bool
) -> None:
    plain, before = logits_of(model, ids[:1]), blocks_of(model)

    def use() -> None:
        with steered(model, circuit, 0.0), steered(model, circuit, 3.0):
            assert not np.array_equal(logits_of(model, ids[:1]), plain)
            if fails:
                raise Surprise

    if fails:
        with pytest.raises(Surprise):
            use()
    else:
        use()
    assert all(a is b for a, b in zip(before, blocks_of(model), strict=True))
    np.testing.assert_array_equal(logits_of(model, ids[:1]), plain)


def test_an_inner_context_gives_the_outer_one_back(
    llama: Any, circuit: Circuit, direction: MeanDifference, ids: list[list[int]]
) -> None:
    with steered(llama, circuit, 0.0):
        outer = logits_of(llama, ids[:1])
        with steered(llama, direction, 0.5):
            assert not np.array_equal(logits_of(llama, ids[:1]), outer)
        np.testing.assert_array_equal(logits_of(llama, ids[:1]), outer)


def test_a_refused_steering_leaves_the_model_alone(llama: Any) -> None:
    before = blocks_of(llama)
    with (
        pytest.raises(CircuitError, match="neuron 128 of layer 1"),
        steered(llama, Circuit.from_neurons([(0, 0), (1, 128)])),
    ):
        pass
    assert all(a is b for a, b in zip(before, blocks_of(llama), strict=True))


# --- what scaling and shifting mean ---------------------------------------------------


@pytest.mark.parametrize("multiplier", [0.0, 1.7])
def test_scaling_is_scaling_the_neurons(
    model: Any, kind: Any, circuit: Circuit, ids: list[list[int]], multiplier: float
) -> None:
    scales = np.ones((len(widths(model)), widths(model)[0]), np.float32)
    for layer, index, _ in circuit.neurons:
        scales[layer, index] = multiplier
    with hooked(model, lambda layer, mlp: Hook(mlp, scale=scales[layer])):
        expected = logits_of(model, ids[:1])
    with steered(model, circuit, multiplier):
        assert_near(logits_of(model, ids[:1]), expected, kind.tolerance)


@pytest.mark.parametrize("multiplier", [0.0, 0.5, -4.0])
def test_scaling_a_neuron_is_scaling_its_row_of_up_proj(
    model: Any, kind: Any, ids: list[list[int]], multiplier: float
) -> None:
    """Exact for 0 and powers of two, in any precision."""
    layer, neuron = 1, 37
    other = kind.make()
    up = other.model.layers[layer].mlp.up_proj
    for name in ("scales", "biases") if hasattr(up, "bits") else ("weight",):
        up[name][neuron] *= multiplier
    if "bias" in up:
        up["bias"][neuron] *= multiplier
    with steered(model, Circuit.from_neurons([(layer, neuron)]), multiplier):
        steered_logits = logits_of(model, ids[:1])
    np.testing.assert_array_equal(steered_logits, logits_of(other, ids[:1]))
    assert not np.array_equal(steered_logits, logits_of(model, ids[:1]))


@pytest.mark.parametrize("alpha", [-2.0, 0.5])
def test_a_shift_adds_its_image_to_the_output(
    model: Any,
    kind: Any,
    direction: MeanDifference,
    ids: list[list[int]],
    alpha: float,
) -> None:
    plain = logits_of(model, ids[:1])

    def adding(layer: int, mlp: Any) -> Hook:
        dtype = model.model.layers[0].input_layernorm.weight.dtype
        d = mx.array(alpha * direction.deltas[layer]).astype(dtype)[None]
        image = mlp.down_proj(d) - mlp.down_proj(mx.zeros_like(d))
        return Hook(mlp, add=image[0])

    with hooked(model, adding):
        expected = logits_of(model, ids[:1])
    with steered(model, direction, alpha):
        found = logits_of(model, ids[:1])
    assert_near(found, expected, kind.tolerance)
    # the tolerance is small against what the shift does
    assert np.abs(plain - expected).max() > 4 * np.abs(found - expected).max()


def test_a_shift_of_nothing_changes_nothing(
    llama: Any, direction: MeanDifference
) -> None:
    before = blocks_of(llama)
    with steered(llama, direction, 0.0):
        assert all(a is b for a, b in zip(before, blocks_of(llama), strict=True))


def test_a_direction_of_another_shape_is_refused(
    llama: Any, direction: MeanDifference
) -> None:
    for deltas in (direction.deltas[:-1], [d[:-1] for d in direction.deltas], ()):
        with (
            pytest.raises(CircuitError, match="layers"),
            steered(llama, MeanDifference(tuple(deltas)), 0.5),
        ):
            pass


def test_bf16_stays_bf16(model: Any, circuit: Circuit, direction: Any) -> None:
    dtype = model(mx.array([[1, 2]])).dtype
    for steerer in (circuit, direction):
        for strength in (0.3, [0.3]):
            with steered(model, steerer, strength):
                assert model(mx.array([[1, 2]])).dtype == dtype


# --- composition ----------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0.5, 3.0), (0.0, 2.0), (4, 0.25)])
def test_scaling_twice_is_scaling_by_the_product(
    model: Any, circuit: Circuit, ids: list[list[int]], a: float, b: float
) -> None:
    with steered(model, circuit, a), steered(model, circuit, b):
        twice = logits_of(model, ids[:1])
    with steered(model, circuit, a * b):
        np.testing.assert_array_equal(logits_of(model, ids[:1]), twice)


def test_several_circuits_multiply(
    model: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    """Neurons in both get the product, whether by nesting or in one arm."""
    other = Circuit.from_neurons(
        [*circuit.neurons[::2], (1, 5, 1.0), (1, 8, 1.0), (1, 127, 1.0)]
    )
    both = {n[:2] for n in circuit.neurons} & {n[:2] for n in other.neurons}
    assert both
    with steered(model, circuit, 0.5), steered(model, other, 3.0):
        nested = logits_of(model, ids[:1])
    with steered(model, other, 3.0), steered(model, circuit, 0.5):
        np.testing.assert_array_equal(logits_of(model, ids[:1]), nested)
    with Edits(model, ((circuit, 0.5), (other, 3.0))).installed():
        np.testing.assert_array_equal(logits_of(model, ids[:1]), nested)
    expected = {n[:2]: 0.5 for n in circuit.neurons}
    for n in other.neurons:
        expected[n[:2]] = 3.0 * expected.get(n[:2], 1.0)
    by_value: dict[float, list[tuple[int, int]]] = {}
    for neuron, value in expected.items():
        by_value.setdefault(value, []).append(neuron)
    one_by_one = tuple((Circuit.from_neurons(n), m) for m, n in by_value.items())
    with Edits(model, one_by_one).installed():
        np.testing.assert_array_equal(logits_of(model, ids[:1]), nested)


def test_a_circuit_scales_the_shift_before_it(
    llama: Any, circuit: Circuit, direction: MeanDifference, ids: list[list[int]]
) -> None:
    """Steering applies in its order: an inner context edits what the outer one left."""
    steps = (circuit, 3.0), (direction, 0.5), (circuit, 0.5)
    scales = np.ones((len(widths(llama)), widths(llama)[0]), np.float32)
    shifts = 0.5 * np.stack(direction.deltas)
    for layer, index, _ in circuit.neurons:
        scales[layer, index] = 0.5 * 3.0
        shifts[layer, index] *= 0.5
    with hooked(llama, lambda i, mlp: Hook(mlp, scale=scales[i], shift=shifts[i])):
        expected = logits_of(llama, ids[:1])
    with (
        steered(llama, *steps[0]),
        steered(llama, *steps[1]),
        steered(llama, *steps[2]),
    ):
        assert_near(logits_of(llama, ids[:1]), expected, 1e-5)
    with Edits(llama, steps).installed():
        assert_near(logits_of(llama, ids[:1]), expected, 1e-5)
    with Edits(llama, steps[::-1]).installed():
        assert np.abs(logits_of(llama, ids[:1]) - expected).max() > 1e-3


# --- rows of a batch ------------------------------------------------------------------

MIXED = [0.0, 1.0, 0.5, 2.0]


def test_a_row_of_a_mixed_batch_equals_a_uniform_one(
    model: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    rows = [ids[0]] * len(MIXED)
    with steered(model, circuit, MIXED):
        mixed = logits_of(model, rows)
    for row, multiplier in enumerate(MIXED):
        with steered(model, circuit, multiplier):
            uniform = logits_of(model, rows)
        np.testing.assert_array_equal(mixed[row], uniform[row])
        with steered(model, circuit, [multiplier] * len(MIXED)):
            np.testing.assert_array_equal(logits_of(model, rows)[row], uniform[row])
    assert len({row.tobytes() for row in mixed}) == len(MIXED)


def test_a_row_of_a_shifted_batch_equals_a_uniform_one(
    model: Any, direction: MeanDifference, ids: list[list[int]]
) -> None:
    rows = [ids[0]] * 3
    with steered(model, direction, [0.5, 0.0, -1.0]):
        mixed = logits_of(model, rows)
    for row, alpha in enumerate([0.5, 0.0, -1.0]):
        with steered(model, direction, alpha):
            np.testing.assert_array_equal(mixed[row], logits_of(model, rows)[row])


@pytest.mark.parametrize("rows", [1, 4])
def test_another_number_of_rows_is_an_error(
    model: Any, circuit: Circuit, ids: list[list[int]], rows: int
) -> None:
    plain = logits_of(model, [ids[0]] * rows)
    with (
        pytest.raises(InputError, match=rf"\b3 rows.*\b{rows}\b"),
        steered(model, circuit, [0.0, 1.0, 2.0]),
    ):
        logits_of(model, [ids[0]] * rows)
    np.testing.assert_array_equal(logits_of(model, [ids[0]] * rows), plain)


def test_no_multiplier_is_an_error(llama: Any, circuit: Circuit) -> None:
    with pytest.raises(InputError, match="there is none"), steered(llama, circuit, []):
        pass


@pytest.mark.parametrize("outer", [[0.5], [0.5, 2.0]], ids=["one", "two"])
def test_nested_contexts_of_different_rows_are_an_error(
    llama: Any, circuit: Circuit, ids: list[list[int]], outer: list[float]
) -> None:
    before = blocks_of(llama)
    with (
        pytest.raises(InputError, match="rows"),
        steered(llama, circuit, outer),
        steered(llama, circuit, [0.0, 1.0, 2.0]),
    ):
        logits_of(llama, ids[:1] * 3)
    assert all(a is b for a, b in zip(before, blocks_of(llama), strict=True))


def test_rows_nest_with_a_uniform_multiplier(
    llama: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    rows = ids[:1] * 2
    with steered(llama, circuit, [0.5, 2.0]), steered(llama, circuit, 4.0):
        inner = logits_of(llama, rows)
    with steered(llama, circuit, 4.0), steered(llama, circuit, [0.5, 2.0]):
        np.testing.assert_array_equal(logits_of(llama, rows), inner)
    with steered(llama, circuit, [2.0, 8.0]):
        np.testing.assert_array_equal(logits_of(llama, rows), inner)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_multiplier_must_be_finite(
    llama: Any, circuit: Circuit, value: float
) -> None:
    for multiplier in (value, [0.0, value]):
        with (
            pytest.raises(InputError, match="finite"),
            steered(llama, circuit, multiplier),
        ):
            pass
    with pytest.raises(InputError, match="finite"):
        Arm.of(circuit, value)


# --- the turns of a chat --------------------------------------------------------------


def arms_of(circuit: Circuit) -> list[Arm]:
    return [Arm("baseline"), Arm.of(circuit, 0.0), Arm.of(circuit, 2.0)]


def answers_of(
    model: Any, tokenizer: Any, prompt: Any, arms: list[Arm], **options: Any
) -> list[Answer]:
    events = generate_arms(model, tokenizer, [prompt], arms, **options)
    found = [event for event in events if isinstance(event, Answer)]
    return sorted(found, key=lambda answer: answer.arm)


def assert_cache_is_fresh(model: Any, kept: ArmCache, tolerance: float) -> None:
    """The kept keys and values are those of its ids under its steering."""
    fresh = make_prompt_cache(model)
    with Edits(model, kept.arm.steering).installed():
        mx.eval(model(mx.array([kept.ids]), cache=fresh))
    for old, new in zip(kept.layers, fresh, strict=True):
        assert old.offset == new.offset == len(kept.ids)
        for ours, theirs in zip(
            old.keys_and_values(), new.keys_and_values(), strict=True
        ):
            assert_near(
                ours.astype(mx.float32), theirs.astype(mx.float32), 4 * tolerance
            )


def test_a_chat_of_arms_equals_each_arm_alone(
    model: Any, kind: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    arms = arms_of(circuit)
    caches: dict[str, ArmCache] = {}
    histories = [list(ids[1]) for _ in arms]
    for turn in range(3):
        found = answers_of(
            model, tokenizer, histories, arms, max_tokens=6, caches=caches
        )
        for arm, history, answer in zip(arms, histories, found, strict=True):
            if kind.exact:
                alone = answers_of(model, tokenizer, history, [arm], max_tokens=6)
                assert alone[0].token_ids == answer.token_ids
                assert alone[0].finish == answer.finish
        if kind.family != "llama-sliding":
            for arm in arms:
                assert_cache_is_fresh(model, caches[arm.label], kind.tolerance)
        # the arms' histories differ in text and in length from here on
        for row, answer in enumerate(found):
            histories[row] += [*answer.token_ids[: 6 - row], 4, *ids[turn + 2]]
    assert len({tuple(history) for history in histories}) == len(arms)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch, llama: Any) -> list[tuple[int, ...]]:
    """The shapes of the batches that go through the model."""
    shapes: list[tuple[int, ...]] = []
    call = type(llama).__call__

    def counting(self: Any, inputs: mx.array, *rest: Any, **named: Any) -> Any:
        shapes.append(inputs.shape)
        return call(self, inputs, *rest, **named)

    monkeypatch.setattr(type(llama), "__call__", counting)
    return shapes


def test_the_shared_history_is_not_computed_again(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]], fed: Any
) -> None:
    arms, caches = arms_of(circuit), {}
    first = answers_of(llama, tokenizer, ids[4], arms, max_tokens=4, caches=caches)
    histories = [[*ids[4], *answer.token_ids, *ids[0]] for answer in first]
    fed.clear()
    answers_of(llama, tokenizer, histories, arms, max_tokens=1, caches=caches)
    prefill = [rows * length for rows, length in fed if length > 1]
    assert 0 < sum(prefill) <= len(arms) * (len(ids[0]) + 2)


def test_a_changed_arm_drops_its_own_cache(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]], fed: Any
) -> None:
    caches: dict[str, ArmCache] = {}
    arms = [Arm("baseline"), Arm("arm", ((circuit, 0.0),))]
    answers_of(llama, tokenizer, ids[4], arms, max_tokens=4, caches=caches)
    prompt = [*ids[4], 8, 9, 10]
    for changed in (
        Arm("arm", ((circuit, 2.0),)),
        Arm("arm", ((circuit.strongest(40), 2.0),)),
        Arm("arm", ()),
    ):
        fed.clear()
        found = answers_of(
            llama, tokenizer, prompt, [arms[0], changed], max_tokens=4, caches=caches
        )
        lengths = [length for rows, length in fed if length > 1 and rows == 1]
        assert lengths[-1] == len(prompt) - 1  # the changed arm's, from its first id
        assert all(length < 10 for length in lengths[:-1])  # the baseline's
        alone = answers_of(llama, tokenizer, prompt, [changed], max_tokens=4)
        assert found[1].token_ids == alone[0].token_ids
        assert_cache_is_fresh(llama, caches["arm"], 1e-5)


def test_a_changed_direction_drops_the_cache(
    llama: Any, tokenizer: Any, direction: MeanDifference, ids: list[list[int]]
) -> None:
    caches: dict[str, ArmCache] = {}
    for factor in (1.0, -1.0, 2.0):
        changed = MeanDifference(tuple(factor * delta for delta in direction.deltas))
        arms = [Arm("baseline"), Arm("caa", ((changed, 0.5),))]
        answers_of(llama, tokenizer, ids[4], arms, max_tokens=3, caches=caches)
        assert_cache_is_fresh(llama, caches["caa"], 1e-5)


def test_a_shorter_history_cuts_the_cache(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    """As after /clear or a corrected message: the old answer must not be seen."""
    arms, caches = arms_of(circuit), {}
    answers_of(llama, tokenizer, ids[4], arms, max_tokens=6, caches=caches)
    for prompt in (ids[4][:9], ids[4][:9], ids[3], [ids[3][0]]):
        found = answers_of(llama, tokenizer, prompt, arms, max_tokens=5, caches=caches)
        for arm, answer in zip(arms, found, strict=True):
            alone = answers_of(llama, tokenizer, prompt, [arm], max_tokens=5)
            assert alone[0].token_ids == answer.token_ids
            assert_cache_is_fresh(llama, caches[arm.label], 1e-5)


def _stop_after(count: int) -> Callable[[], bool]:
    asked = iter(range(count))
    return lambda: next(asked, None) is None


@pytest.mark.parametrize("asked", range(7))
def test_an_interrupted_answer_leaves_usable_caches_or_none(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]], asked: int
) -> None:
    arms, caches = arms_of(circuit), {}
    first = answers_of(llama, tokenizer, ids[0], arms, max_tokens=3, caches=caches)
    histories = [[*ids[0], *answer.token_ids, *ids[4]] for answer in first]
    stop = _stop_after(asked)
    found = answers_of(
        llama, tokenizer, histories, arms, max_tokens=8, caches=caches, stop=stop
    )
    assert all(answer.finish == "interrupted" for answer in found)
    for kept in caches.values():
        assert_cache_is_fresh(llama, kept, 1e-5)
    again = answers_of(llama, tokenizer, histories, arms, max_tokens=8, caches=caches)
    for arm, history, answer in zip(arms, histories, again, strict=True):
        alone = answers_of(llama, tokenizer, history, [arm], max_tokens=8)
        assert alone[0].token_ids == answer.token_ids


@pytest.mark.parametrize("taken", [1, 4])
def test_a_closed_iterator_leaves_usable_caches(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]], taken: int
) -> None:
    arms, caches = arms_of(circuit), {}
    events = generate_arms(
        llama, tokenizer, [ids[1]], arms, max_tokens=8, caches=caches
    )
    before = blocks_of(llama)
    for _ in range(taken):
        assert isinstance(next(events), Token)
        # between two tokens the model is the caller's
        assert all(a is b for a, b in zip(before, blocks_of(llama), strict=True))
    events.close()
    assert set(caches) == {arm.label for arm in arms}
    for kept in caches.values():
        assert_cache_is_fresh(llama, kept, 1e-5)


@pytest.mark.parametrize("calls", range(1, 12, 2))
def test_a_failure_inside_the_model_leaves_usable_caches_or_none(
    llama: Any,
    tokenizer: Any,
    circuit: Circuit,
    ids: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    """As Ctrl-C does in the middle of a forward pass."""
    arms, caches = arms_of(circuit), {}
    answers_of(llama, tokenizer, ids[4], arms, max_tokens=2, caches=caches)
    layer_class = type(llama.model.layers[0])
    call, left = layer_class.__call__, iter(range(calls))

    def failing(self: Any, *rest: Any, **named: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return call(self, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(layer_class, "__call__", failing)
        with pytest.raises(KeyboardInterrupt):
            answers_of(llama, tokenizer, ids[4], arms, max_tokens=8, caches=caches)
    for kept in caches.values():
        assert_cache_is_fresh(llama, kept, 1e-5)
    again = answers_of(llama, tokenizer, ids[4], arms, max_tokens=4, caches=caches)
    fresh = answers_of(llama, tokenizer, ids[4], arms, max_tokens=4)
    assert [a.token_ids for a in again] == [a.token_ids for a in fresh]


def test_a_long_prompt_is_prefilled_in_steps(
    llama: Any,
    tokenizer: Any,
    circuit: Circuit,
    ids: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arms = arms_of(circuit)
    whole = answers_of(llama, tokenizer, ids[4], arms, max_tokens=5)
    monkeypatch.setattr("cna_mlx.steering.prefill._STEP", 3)
    parts = answers_of(llama, tokenizer, ids[4], arms, max_tokens=5)
    assert [a.token_ids for a in parts] == [a.token_ids for a in whole]


# --- discovery ------------------------------------------------------------------------


def walked(model: Any, ids: list[list[int]], **options: Any) -> np.ndarray:
    found = list(last_activations(model, ids, **options))
    assert [layer for layer, _ in found] == list(range(len(widths(model))))
    assert all(a.dtype == mx.float32 for _, a in found)
    return np.stack([np.array(a) for _, a in found])


def test_activations_do_not_depend_on_the_batches(
    model: Any, kind: Any, ids: list[list[int]]
) -> None:
    expected = plain_activations(model, ids)
    assert shared_prefix(ids) == 5
    headless = [[7, 8], *ids]  # nothing is shared with the first one
    assert shared_prefix(headless) == 0
    order = np.random.default_rng(5).permutation(len(ids))
    shuffled = walked(model, [ids[i] for i in order])
    for found in (
        walked(model, ids, batch_tokens=1),
        walked(model, ids, batch_tokens=50),
        walked(model, ids),
        shuffled[:, np.argsort(order)],
        walked(model, headless)[:, 1:],
        np.concatenate([walked(model, [prompt]) for prompt in ids], axis=1),
    ):
        for ours, theirs in zip(found, expected, strict=True):
            assert_near(ours, theirs, kind.tolerance)
    # prompts tell themselves apart by far more than rounding
    assert np.abs(expected[0, 0] - expected[0, 1]).max() > 0.1


def test_prompts_that_are_one_another_s_beginning(
    llama: Any, ids: list[list[int]]
) -> None:
    nested = [ids[4][:n] for n in (1, 3, 7, 12)] + [ids[4][:3]]
    assert shared_prefix(nested) == 0
    assert shared_prefix(nested[1:]) == 2
    for prompts in (nested, nested[1:], [ids[4]], [ids[4], ids[4]]):
        found = walked(llama, prompts)
        assert_near(found, plain_activations(llama, prompts), 1e-5)


def circuit_of(
    model: Any, tokenizer: Any, fraction: float = 0.02, **options: Any
) -> Circuit:
    options = {"universal": False, **options}
    return discover(model, tokenizer, POSITIVE, NEGATIVE, fraction, **options)


def test_discovery_ranks_by_the_plain_definition(
    model: Any, kind: Any, tokenizers: dict[str, Any]
) -> None:
    tokenizer = tokenizers[kind.family.partition("-")[0]]
    rendered = [render_prompt(tokenizer, p) for p in (*POSITIVE, *NEGATIVE)]
    a = plain_activations(model, rendered)
    count = len(POSITIVE)
    delta = a[:, :count].mean(axis=1) - a[:, count:].mean(axis=1)
    found = circuit_of(model, tokenizer)
    k = max(1, round(0.02 * delta.size))
    assert len(found.neurons) == found.k == k
    tolerance = float(4 * kind.tolerance * np.abs(a).max())
    threshold = np.sort(np.abs(delta).ravel())[-k]
    sizes = [abs(n.delta) for n in found.neurons]
    assert sizes == sorted(sizes, reverse=True)
    for neuron, moments in zip(found.neurons, found.moments, strict=True):
        layer, index, value = neuron
        assert value == pytest.approx(delta[layer, index], abs=tolerance)
        assert abs(delta[layer, index]) >= threshold - tolerance
        sides = a[layer, :count, index], a[layer, count:, index]
        expected = [f(side) for side in sides for f in (np.mean, np.std)]
        assert list(moments) == pytest.approx(expected, abs=tolerance)


def test_ranks(llama: Any, tokenizer: Any) -> None:
    """``normalized`` and ``weighted`` from their definitions."""
    rendered = [render_prompt(tokenizer, p) for p in (*POSITIVE, *NEGATIVE)]
    a = plain_activations(llama, rendered)
    delta = np.abs(a[:, :4].mean(axis=1) - a[:, 4:].mean(axis=1))
    rms = np.sqrt(np.square(a).mean(axis=(1, 2)))
    norms = np.stack(
        [np.linalg.norm(np.array(b.down_proj.weight), axis=0) for b in blocks_of(llama)]
    )
    for rank, score in (
        ("delta", delta),
        ("normalized", delta / rms[:, None]),
        ("weighted", delta * norms),
    ):
        expected = np.dstack(
            np.unravel_index(np.argsort(-score, axis=None)[:8], score.shape)
        )[0]
        found = circuit_of(llama, tokenizer, rank=rank)
        assert [list(n[:2]) for n in found.neurons] == expected.tolist()


def test_weighted_does_not_see_a_rescaled_neuron(
    llama: Any, build: Any, tokenizer: Any
) -> None:
    """Twice the up row and half the down column are the same function."""
    other = build("llama")
    for block in blocks_of(other):
        rows = mx.arange(0, 128, 3)
        block.up_proj.weight[rows] *= 8
        block.down_proj.weight[:, rows] *= 0.125
    pairs = {
        rank: [
            {n[:2] for n in circuit_of(model, tokenizer, rank=rank).neurons}
            for model in (llama, other)
        ]
        for rank in ("weighted", "delta")
    }
    assert pairs["weighted"][0] == pairs["weighted"][1]
    assert pairs["delta"][0] != pairs["delta"][1]


def test_a_band_is_ranked_alone_and_k_counts_all(llama: Any, tokenizer: Any) -> None:
    all_layers = circuit_of(llama, tokenizer, fraction=1.0)
    band = circuit_of(llama, tokenizer, fraction=0.05, layers=(1, 2))
    assert len(band.neurons) == round(0.05 * N_NEURONS)
    within = [n for n in all_layers.neurons if n.layer in (1, 2)]
    assert band.neurons == tuple(within[: len(band.neurons)])


SETS = [
    PromptSet.from_prompts(POSITIVE[:2], NEGATIVE[:2], "a"),
    PromptSet.from_prompts(POSITIVE[1:3], NEGATIVE[1:3], "b"),
    PromptSet.from_prompts(NEGATIVE, POSITIVE, "c"),
    PromptSet.from_prompts(["One, two.", "Six, ten."], ["A or b?", "Or c?"], "d"),
    PromptSet.from_prompts(["Rain is wet."], ["Tell me of rain."], "e"),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "4-bit"])
def test_the_universal_filter_only_takes_away(
    build: Any, tokenizer: Any, precision: str
) -> None:
    model = build("llama", precision)
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE)
    plain = run_discovery(model, tokenizer, contrast, Selection(0.1, universal=False))
    found = run_discovery(model, tokenizer, contrast, Selection(0.1), bank=SETS)
    top = [n[:2] for n in plain.circuit.neurons]
    kept = [n[:2] for n in found.circuit.neurons]
    dropped = [tuple(pair) for pair in found.circuit.universal_dropped]
    assert 0 < len(dropped) < len(top)
    assert len(kept) == len(top) - len(dropped)
    assert found.circuit.k == plain.circuit.k == len(top) == round(0.1 * N_NEURONS)
    assert [n for n in top if n not in dropped] == kept  # in the same order
    assert found.universal is not None
    assert set(dropped) == set(top) & found.universal
    assert len(found.circuit.moments) == len(kept)
    # the filter from its definition: in at least ceil(0.8 * 5) of the five lists
    counts: dict[tuple[int, int], int] = {}
    for one in SETS:
        own = run_discovery(model, tokenizer, one, Selection(0.1, universal=False))
        for n in own.circuit.neurons:
            counts[n[:2]] = counts.get(n[:2], 0) + 1
    assert set(counts.values()) >= {3, 4}  # both sides of the threshold are met
    expected = {n for n, count in counts.items() if count >= 4}
    if precision == "float32":  # else an edge of a list may hang on rounding
        assert found.universal == expected
    given = run_discovery(
        model, tokenizer, contrast, Selection(0.1), universal=found.universal
    )
    assert {n[:2] for n in given.circuit.neurons} <= set(top) - found.universal


def test_the_built_in_bank_is_the_default(
    llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cna_mlx.discovery.discover, "load_bank", lambda: SETS)
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE)
    given = run_discovery(llama, tokenizer, contrast, Selection(0.1), bank=SETS)
    found = run_discovery(llama, tokenizer, contrast, Selection(0.1))
    assert found.prompts == given.prompts == 8 + sum(sum(s.sizes) for s in SETS)
    assert found.circuit.neurons == given.circuit.neurons
    short = discover(llama, tokenizer, POSITIVE, NEGATIVE, 0.1)
    assert short.neurons == given.circuit.neurons
    without = run_discovery(llama, tokenizer, contrast, Selection(0.1, universal=False))
    assert without.prompts == 8
    assert without.universal is None


def test_split_halves(llama: Any, tokenizer: Any) -> None:
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE)
    found = run_discovery(llama, tokenizer, contrast, Selection(0.1, universal=False))
    odd, even = (
        {
            n[:2]
            for n in discover(
                llama, tokenizer, POSITIVE[i::2], NEGATIVE[i::2], 0.1, universal=False
            ).neurons
        }
        for i in (0, 1)
    )
    assert found.split_half is not None
    assert found.split_half.jaccard == len(odd & even) / len(odd | even)
    assert 0 < found.split_half.chance < found.split_half.jaccard < 1
    single = PromptSet.from_prompts(POSITIVE[:1], NEGATIVE)
    found = run_discovery(llama, tokenizer, single, Selection(0.1, universal=False))
    assert found.split_half is None


def test_ties_go_to_the_lower_layer_and_index(build: Any, tokenizer: Any) -> None:
    silent = build("llama")
    for block in blocks_of(silent):
        block.up_proj.weight = mx.zeros_like(block.up_proj.weight)
    found = circuit_of(silent, tokenizer, fraction=0.3)
    assert all(n.delta == 0 for n in found.neurons)
    expected = [
        (number // 128, number % 128) for number in range(round(0.3 * N_NEURONS))
    ]
    assert [n[:2] for n in found.neurons] == expected


def test_equal_neurons_stay_in_order(
    llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal to the bit: twins in the weights round differently with a fast BLAS."""
    strongest = circuit_of(llama, tokenizer, fraction=1 / N_NEURONS).neurons[0]
    copies = [index for index in (3, 50, 51, 99) if index != strongest.index]

    def with_twins(*arguments: Any, **options: Any) -> Any:
        for layer, activations in last_activations(*arguments, **options):
            if layer == strongest.layer:
                own = activations[:, strongest.index]
                for index in copies:
                    activations[:, index] = own
            yield layer, activations

    monkeypatch.setattr("cna_mlx.discovery.discover.last_activations", with_twins)
    equal = sorted([strongest.index, *copies])
    layers = (strongest.layer, strongest.layer)
    for k in range(1, len(equal) + 1):
        found = circuit_of(llama, tokenizer, fraction=k / N_NEURONS, layers=layers)
        assert [n.index for n in found.neurons] == equal[:k]


# --- the date -------------------------------------------------------------------------

DATED = "{{ strftime_now('%d %b %Y') }}: {{ messages[0]['content'] }}"


def test_the_ids_do_not_change_from_day_to_day(
    tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import date, datetime

    from transformers.utils import chat_template_utils

    tokenizer = tokenizers["qwen2"]
    monkeypatch.setattr(tokenizer._tokenizer, "chat_template", DATED)

    def on(day: int) -> tuple[Any, list[int], list[int]]:
        class Fake(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime(2026, 11, day)

        monkeypatch.setattr(chat_template_utils, "datetime", Fake)
        message = [{"role": "user", "content": "Hello"}]
        return (
            list(tokenizer.apply_chat_template(message)),
            render_prompt(tokenizer, "Hello"),
            render_prompt(tokenizer, "Hello", Rendering(date=date(2026, 1, 5))),
        )

    today, tomorrow = on(3), on(4)
    assert today[0] != tomorrow[0]  # the template does print the day
    assert today[1:] == tomorrow[1:]
    assert today[1] != today[2]
    assert tokenizer.decode(today[2]) == "05 Jan 2026: Hello"
