"""Controls: as large as the circuit, outside it, and as active where that is said."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import NEGATIVE
from magnitudes import magnitudes

from cna_mlx import Circuit, render_prompt
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.controls import (
    matched_control,
    matched_controls,
    stand_ins,
    uniform_control,
)
from cna_mlx.errors import InputError
from cna_mlx.models.families import widths
from cna_mlx.provenance import Provenance

SEEDS = range(8)


@pytest.fixture
def circuit(circuit_text: str) -> Circuit:
    return Circuit.from_text(circuit_text, "here")


@pytest.fixture(scope="module")
def benign(tiny: tuple[Any, Any]) -> list[list[int]]:
    return [render_prompt(tiny[1], text) for text in NEGATIVE]


@pytest.fixture(scope="module")
def magnitude(tiny: tuple[Any, Any], benign: list[list[int]]) -> list[np.ndarray]:
    return magnitudes(tiny[0], benign)


def _places(circuit: Circuit) -> set[tuple[int, int]]:
    return {(neuron.layer, neuron.index) for neuron in circuit.neurons}


def _controls(
    circuit: Circuit, magnitude: list[np.ndarray], seed: int
) -> tuple[Circuit, Circuit]:
    sizes = [len(layer) for layer in magnitude]
    return (
        uniform_control(circuit, sizes, seed),
        matched_control(circuit, magnitude, seed),
    )


def test_magnitudes_are_means_of_absolute_values(
    tiny: tuple[Any, Any], benign: list[list[int]], magnitude: list[np.ndarray]
) -> None:
    assert [len(layer) for layer in magnitude] == list(widths(tiny[0]))
    for layer, activations in last_activations(tiny[0], benign):
        expected = np.abs(np.array(activations)).mean(axis=0)
        np.testing.assert_allclose(magnitude[layer], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_controls_have_the_circuits_size_and_nothing_of_it(
    circuit: Circuit, magnitude: list[np.ndarray], seed: int
) -> None:
    wanted = {layer: len(members) for layer, members in circuit.by_layer().items()}
    for control in _controls(circuit, magnitude, seed):
        places = _places(control)
        assert len(places) == len(control.neurons) == len(circuit.neurons)
        assert not places & _places(circuit)
        assert {layer: len(m) for layer, m in control.by_layer().items()} == wanted
        control.check_shape([len(layer) for layer in magnitude])


def test_a_seed_draws_the_same_again_and_another_draws_others(
    circuit: Circuit, magnitude: list[np.ndarray]
) -> None:
    first, again, other = (_controls(circuit, magnitude, seed) for seed in (3, 3, 4))
    assert first == again
    for one, two in zip(first, other, strict=True):
        assert _places(one) != _places(two)


def test_matched_neurons_are_nearer_in_magnitude(
    circuit: Circuit, magnitude: list[np.ndarray]
) -> None:
    def distance(control: Circuit) -> float:
        """How far apart the sorted magnitudes are, layer by layer."""
        own, others = circuit.by_layer(), control.by_layer()
        return sum(
            np.abs(
                np.sort(magnitude[layer][[n.index for n in own[layer]]])
                - np.sort(magnitude[layer][[n.index for n in others[layer]]])
            ).sum()
            for layer in own
        )

    for seed in SEEDS:
        uniform, matched = _controls(circuit, magnitude, seed)
        assert distance(matched) < distance(uniform)


def test_where_equals_exist_matched_neurons_are_equals() -> None:
    random = np.random.default_rng(0)
    layer = random.lognormal(sigma=2, size=4000).astype(np.float32)
    active = np.argsort(layer)[-400:-40:9]  # active, but not without equals
    circuit = Circuit.from_neurons([(0, int(index), 1.0) for index in active])
    own = np.sort(layer[active])
    for seed in SEEDS:
        uniform, matched = (
            np.sort(layer[[n.index for n in control.neurons]])
            for control in _controls(circuit, [layer], seed)
        )
        assert np.abs(matched / own - 1).max() < 0.1
        assert np.median(uniform) < own.min() / 2


def test_a_control_says_what_it_is(
    circuit: Circuit, magnitude: list[np.ndarray]
) -> None:
    for kind, control in zip(
        ("uniform", "matched"), _controls(circuit, magnitude, 7), strict=True
    ):
        assert control.provenance == Provenance(control=kind, seed=7)
        assert control.model == circuit.model


def test_widths_may_differ_between_layers() -> None:
    circuit = Circuit.from_neurons([(0, 4, 1.0), (1, 90, 1.0), (1, 2, 1.0)])
    for seed in SEEDS:
        control = uniform_control(circuit, [5, 100], seed)
        assert {n.layer for n in control.neurons} == {0, 1}
        assert all(n.index < (5, 100)[n.layer] for n in control.neurons)


def test_a_layer_without_room_is_refused() -> None:
    circuit = Circuit.from_neurons([(0, index, 1.0) for index in range(6)])
    with pytest.raises(InputError, match="layer 0"):
        uniform_control(circuit, [10], 0)
    with pytest.raises(InputError, match="layer 0"):
        matched_control(circuit, [np.ones(10, np.float32)], 0)
    last = [np.array(mx.ones(12))]  # exactly enough
    assert {n.index for n in matched_control(circuit, last, 0).neurons} == set(
        range(6, 12)
    )


def _circuit_of(layers: int, each: int, width: int, seed: int) -> Circuit:
    rng = np.random.default_rng(seed)
    return Circuit.from_neurons(
        (layer, int(index), 1.0)
        for layer in range(layers)
        for index in rng.choice(width, each, replace=False)
    )


def test_dealt_controls_share_no_neurons_where_there_are_enough() -> None:
    rng = np.random.default_rng(0)
    sizes = [np.abs(rng.normal(size=3000)) for _ in range(4)]
    circuit = _circuit_of(4, 3, 3000, 1)
    controls = matched_controls(circuit, sizes, 19)
    places = [(n.layer, n.index) for one in controls for n in one.neurons]
    assert len(set(places)) == len(places) == 19 * 12
    assert not {(n.layer, n.index) for n in circuit.neurons} & set(places)
    assert stand_ins(circuit, controls) == 19.0
    for one in controls:
        assert {layer: len(own) for layer, own in one.by_layer().items()} == (
            dict.fromkeys(range(4), 3)
        )
    # as active as the circuit: within what twice 19 neighbours allow
    own = np.mean([sizes[n.layer][n.index] for n in circuit.neurons])
    for one in controls:
        mean = np.mean([sizes[n.layer][n.index] for n in one.neurons])
        assert mean == pytest.approx(own, rel=0.1)


def test_crowded_controls_share_neurons_and_stay_as_active() -> None:
    """Forty of the most active of 200: there are no 19 times as many like them."""
    sizes = [np.linspace(0, 10, 200) ** 2]
    circuit = Circuit.from_neurons((0, index, 1.0) for index in range(120, 200, 2))
    controls = matched_controls(circuit, sizes, 19)
    assert all(len({n.index for n in one.neurons}) == 40 for one in controls)
    assert 1 < stand_ins(circuit, controls) < 5


@pytest.mark.parametrize("neurons", [1, 4, 48])
def test_a_circuit_like_its_dealt_controls_is_rarely_the_first(neurons: int) -> None:
    """Also where one neuron decides: effects with a heavy tail, drawn for all alike."""
    rng = np.random.default_rng(neurons)
    first = 0
    for trial in range(200):
        layers = min(4, neurons)
        sizes = [np.abs(rng.normal(size=1000)) for _ in range(layers)]
        effects = np.abs(rng.standard_cauchy((layers, 1000)))
        circuit = _circuit_of(layers, neurons // layers, 1000, trial)
        controls = matched_controls(circuit, sizes, 19)
        own, *others = (
            sum(effects[n.layer, n.index] for n in one.neurons)
            for one in (circuit, *controls)
        )
        first += own > max(others)
    assert first / 200 <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
