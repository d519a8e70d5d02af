"""Neurons pinned to a constant: exactly, in every row, and in any nesting."""

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from cna_mlx.circuit import Circuit, Details, Moments
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import installed, widths
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits, MeanDifference, steered
from cna_mlx.strength import MEAN, Pin

HALF = Pin(0.5)  # exact in every precision
ROWS = [1.0, HALF, MEAN, 0.0, Pin(), 2.0]


@pytest.fixture(name="measured", scope="module")
def measured_fixture(circuit: Circuit) -> Circuit:
    """The circuit with means and constants that differ for each neuron."""
    count = len(circuit.neurons)
    moments = tuple(Moments(9.0, 9.0, n / 64 - 0.25, 9.0) for n in range(count))
    details = tuple(Details(shift=0.25 - n / 128) for n in range(count))
    return Circuit(circuit.neurons, moments, details=details)


def logits_of(model: Any, rows: list[list[int]]) -> np.ndarray:
    return np.array(model(mx.array(rows)).astype(mx.float32))


def read(model: Any, rows: list[list[int]]) -> dict[int, np.ndarray]:
    """The neurons of every layer, [rows, tokens, d_ff], as steered now."""
    taken: dict[int, np.ndarray] = {}
    layers = range(len(widths(model)))
    with installed(model, list(layers)) as blocks:
        taps = [
            blocks[layer].tapped(
                lambda a, at=layer: taken.update({at: np.array(a.astype(mx.float32))})
            )
            for layer in layers
        ]
        for tap in taps:
            tap.__enter__()
        mx.eval(model(mx.array(rows)))
        for tap in taps:
            tap.__exit__(None, None, None)
    return taken


def wanted(circuit: Circuit, pin: Pin) -> list[float]:
    if pin is MEAN:
        return [one.negative_mean for one in circuit.moments]
    if pin.value is None:
        return [float(one.shift or 0) for one in circuit.details]
    return [pin.value] * len(circuit.neurons)


# --- what a pin is --------------------------------------------------------------------


@pytest.mark.parametrize("pin", [HALF, MEAN, Pin(), Pin(0.0)], ids=str)
def test_a_pin_replaces_the_activation_and_nothing_else_of_its_layer(
    model: Any, measured: Circuit, ids: list[list[int]], pin: Pin
) -> None:
    plain = read(model, ids[:1])
    with steered(model, measured, pin):
        found = read(model, ids[:1])
    first = measured.neurons[0].layer
    for (layer, index, _), value in zip(
        measured.neurons, wanted(measured, pin), strict=True
    ):
        assert (found[layer][..., index] == value).all()
    members = [n.index for n in measured.by_layer()[first]]
    others = np.delete(np.arange(widths(model)[first]), members)
    np.testing.assert_array_equal(found[first][..., others], plain[first][..., others])


def test_pinned_to_zero_is_ablated(
    model: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    with steered(model, circuit, 0.0):
        ablated = logits_of(model, ids[:1])
    with steered(model, circuit, Pin(0.0)):
        np.testing.assert_array_equal(logits_of(model, ids[:1]), ablated)


def test_a_pin_is_written_by_hand(
    model: Any, kind: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    """A forward pass of the tests' own, over mlx-lm's projections."""
    values = dict(
        zip(
            [n[:2] for n in measured.neurons],
            wanted(measured, MEAN),
            strict=True,
        )
    )
    before = [layer.mlp for layer in model.model.layers]

    def by_hand(layer: int, mlp: Any) -> Any:
        def forward(x: mx.array) -> mx.array:
            gate = mlp.gate_proj(x)
            a = gate * mx.sigmoid(gate) * mlp.up_proj(x)
            keep = np.ones(a.shape[-1], bool)
            to = np.zeros(a.shape[-1], np.float32)
            for (of, index), value in values.items():
                if of == layer:
                    keep[index], to[index] = False, value
            return mlp.down_proj(mx.where(mx.array(keep), a, mx.array(to, a.dtype)))

        return forward

    try:
        for index, layer in enumerate(model.model.layers):
            layer.mlp = by_hand(index, before[index])
        expected = logits_of(model, ids[:1])
    finally:
        for layer, mlp in zip(model.model.layers, before, strict=True):
            layer.mlp = mlp
    plain = logits_of(model, ids[:1])
    with steered(model, measured, MEAN):
        found = logits_of(model, ids[:1])
    assert np.abs(found - expected).max() <= kind.tolerance * np.abs(expected).max()
    assert np.abs(found - plain).max() > 4 * np.abs(found - expected).max()


def test_leaving_gives_the_model_back(
    model: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    plain = logits_of(model, ids[:1])
    before = [layer.mlp for layer in model.model.layers]
    with steered(model, measured, MEAN), steered(model, measured, 2.0):
        assert not np.array_equal(logits_of(model, ids[:1]), plain)
    after = [layer.mlp for layer in model.model.layers]
    assert all(a is b for a, b in zip(before, after, strict=True))
    np.testing.assert_array_equal(logits_of(model, ids[:1]), plain)


def test_the_dtype_stays(model: Any, measured: Circuit) -> None:
    dtype = model(mx.array([[1, 2]])).dtype
    for pin in (HALF, [MEAN]):
        with steered(model, measured, pin):
            assert model(mx.array([[1, 2]])).dtype == dtype


# --- rows of a batch ------------------------------------------------------------------


def test_a_row_of_a_mixed_batch_equals_a_uniform_one(
    model: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    rows = [ids[0]] * len(ROWS)
    with steered(model, measured, ROWS):
        mixed = logits_of(model, rows)
    for row, strength in enumerate(ROWS):
        with steered(model, measured, strength):
            np.testing.assert_array_equal(mixed[row], logits_of(model, rows)[row])
    assert len({row.tobytes() for row in mixed}) == len(ROWS)


def test_an_arm_answers_as_it_does_in_a_batch_of_its_own(
    model: Any, endless: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    def answers(arms: list[Arm]) -> list[tuple[int, ...]]:
        events = generate_arms(model, endless, ids[:1], arms, max_tokens=6)
        found = {e.arm: e.token_ids for e in events if isinstance(e, Answer)}
        return [found[arm] for arm in range(len(arms))]

    mixed = answers([BASELINE, *(Arm.of(measured, one) for one in ROWS)])
    for row, strength in enumerate(ROWS, 1):
        same = [Arm.of(measured, strength, str(n)) for n in range(len(mixed))]
        assert answers(same)[row] == mixed[row]


# --- several at once ------------------------------------------------------------------


@pytest.mark.parametrize("other", [0.0, 3.0])
def test_a_pinned_neuron_stays_pinned(
    model: Any, measured: Circuit, ids: list[list[int]], other: float
) -> None:
    with steered(model, measured, HALF):
        pinned = logits_of(model, ids[:1])
    with steered(model, measured, HALF), steered(model, measured, other):
        np.testing.assert_array_equal(logits_of(model, ids[:1]), pinned)
    with steered(model, measured, other), steered(model, measured, HALF):
        np.testing.assert_array_equal(logits_of(model, ids[:1]), pinned)
    for arm in (((measured, HALF), (measured, other)),) * 2:
        for pairs in (arm, arm[::-1]):
            with Edits(model, pairs).installed():
                np.testing.assert_array_equal(logits_of(model, ids[:1]), pinned)


@pytest.mark.parametrize("rows", [None, 2])
def test_a_pin_to_zero_stays_under_a_shift(
    model: Any,
    measured: Circuit,
    direction: MeanDifference,
    ids: list[list[int]],
    rows: int | None,
) -> None:
    def many(value: Any) -> Any:
        return [value] * rows if rows else value

    batch = [ids[0]] * (rows or 1)
    layer, index, _ = measured.neurons[0]
    with steered(model, measured, many(Pin(0.0))), steered(model, direction, 2.0):
        assert not read(model, batch)[layer][..., index].any()
        inside = logits_of(model, batch)
    with steered(model, direction, many(2.0)), steered(model, measured, Pin(0.0)):
        assert not read(model, batch)[layer][..., index].any()
        np.testing.assert_array_equal(logits_of(model, batch), inside)


def test_pins_of_different_neurons_add_up(
    llama: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    first, rest = Circuit(measured.neurons[:9]), Circuit(measured.neurons[9:])
    with steered(llama, measured, HALF):
        whole = logits_of(llama, ids[:1])
    with steered(llama, first, HALF), steered(llama, rest, HALF):
        np.testing.assert_array_equal(logits_of(llama, ids[:1]), whole)
        with steered(llama, measured, 0.0):  # both are kept two contexts further in
            np.testing.assert_array_equal(logits_of(llama, ids[:1]), whole)
    with Edits(llama, ((first, HALF), (rest, HALF), (measured, HALF))).installed():
        np.testing.assert_array_equal(logits_of(llama, ids[:1]), whole)


def test_two_pins_of_one_neuron_are_an_error(
    llama: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    part = Circuit(measured.neurons[3:4])
    layer, index, _ = part.neurons[0]
    before = [layer.mlp for layer in llama.model.layers]
    with pytest.raises(InputError, match=f"neuron {index} of layer {layer} is pinned"):
        Edits(llama, ((measured, HALF), (part, Pin(0.25))))
    for inner in (Pin(0.25), [Pin(0.25)], Pin(0.0)):
        with (
            pytest.raises(InputError, match="pinned to another constant"),
            steered(llama, measured, HALF),
            steered(llama, part, inner),
        ):
            pass
    with (
        pytest.raises(InputError, match="pinned to another constant"),
        steered(llama, measured, Pin(0.0)),
        steered(llama, part, HALF),
    ):
        pass
    after = [layer.mlp for layer in llama.model.layers]
    assert all(a is b for a, b in zip(before, after, strict=True))
    # in different rows they do not meet
    with steered(llama, measured, [HALF, 1.0]), steered(llama, part, [1.0, HALF]):
        logits_of(llama, ids[:1] * 2)


# --- what cannot be pinned ------------------------------------------------------------


def test_a_circuit_without_means_or_constants_says_so(
    llama: Any, circuit: Circuit
) -> None:
    for pin, said in ((MEAN, "no mean activations"), (Pin(), "no constants")):
        with pytest.raises(CircuitError, match=said) as caught:
            Arm.of(circuit, pin)
        assert caught.value.exit_code == 2
        with pytest.raises(CircuitError, match=said), steered(llama, circuit, pin):
            pass


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_constant_must_be_finite(llama: Any, circuit: Circuit, value: float) -> None:
    large = Circuit(circuit.neurons[:1], details=(Details(shift=value),))
    for one, pin in ((circuit, Pin(value)), (large, Pin())):
        with pytest.raises(InputError, match="finite"), steered(llama, one, pin):
            pass
    with pytest.raises(InputError, match="finite"):
        Arm.of(circuit, Pin(value))
    text: Any = "0.5"
    with pytest.raises(InputError, match="finite"):
        Arm.of(circuit, Pin(text))


def test_a_mean_difference_cannot_be_pinned(
    llama: Any, direction: MeanDifference
) -> None:
    with pytest.raises(InputError, match="not a pin"), steered(llama, direction, HALF):
        pass


def test_a_mean_takes_no_constant(circuit: Circuit) -> None:
    for pin in (Pin(0.5, kind="mean"), Pin(0.5, kind="median")):  # type: ignore[arg-type]
        with pytest.raises(InputError):
            Arm.of(circuit, pin)


# --- caches ---------------------------------------------------------------------------


def test_a_cache_is_used_under_the_same_pin_only(llama: Any, measured: Circuit) -> None:
    strengths = [*ROWS, Pin(0.25), Pin(0.0)]
    cache = make_prompt_cache(llama)
    mx.eval(llama(mx.array([[1, 2, 3]]), cache=cache))
    for made in strengths:
        for used in strengths:
            kept = ArmCache(Arm.of(measured, made, "x"), [1, 2], cache)
            held = kept.trim_to(Arm.of(measured, used, "x"), [1, 2, 9])
            assert held == (2 if made == used else 0)
            for layer in cache:
                layer.offset = 3


def test_a_changed_pin_answers_as_if_it_were_new(
    llama: Any, endless: Any, measured: Circuit, ids: list[list[int]]
) -> None:
    def answer(strength: Any, caches: dict[str, ArmCache] | None) -> tuple[int, ...]:
        arms = [BASELINE, Arm.of(measured, strength, "x")]
        events = generate_arms(
            llama, endless, ids[:1], arms, max_tokens=8, caches=caches
        )
        return next(e.token_ids for e in events if isinstance(e, Answer) and e.arm == 1)

    caches: dict[str, ArmCache] = {}
    answers = []
    for strength in (Pin(40.0), Pin(-40.0), 1.0):
        answers.append(answer(strength, caches))
        assert answers[-1] == answer(strength, None)
        assert caches["x"].arm.strength == strength
    assert len(set(answers)) == 3


# --- what is said of it ---------------------------------------------------------------


def test_arms_say_what_they_do(measured: Circuit, direction: MeanDifference) -> None:
    arms = [Arm.of(measured, one) for one in (HALF, MEAN, Pin(), 0.0, 0.5)]
    labels = ["pin=0.5", "mean", "pin", "ablated", "m=0.5"]
    assert [arm.label for arm in arms] == [arm.title for arm in arms] == labels
    assert [arm.intervention for arm in arms] == [
        {"kind": "pin", "value": 0.5},
        {"kind": "mean"},
        {"kind": "pin"},
        {"kind": "scale", "value": 0.0},
        {"kind": "scale", "value": 0.5},
    ]
    assert [arm.multiplier for arm in arms] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert Arm("CAA", ((direction, -1.0),)).intervention == {
        "kind": "shift",
        "value": -1.0,
    }
    assert BASELINE.intervention is None
    assert Arm.of(measured, MEAN, "ablated").title == "ablated, mean"
