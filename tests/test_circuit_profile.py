"""A circuit's layers and effect sizes, against NumPy."""

import numpy as np
import pytest

from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.circuit_profile import effect_sizes, mass_by_layer

NEURONS = (Neuron(4, 0, -3.0), Neuron(1, 2, 2.0), Neuron(4, 7, 1.0))


def test_the_mass_of_a_layer_is_its_share_of_the_deltas() -> None:
    assert mass_by_layer(Circuit(NEURONS)) == pytest.approx({1: 2 / 6, 4: 4 / 6})
    assert mass_by_layer(Circuit.from_neurons([(0, 1), (2, 3)])) == {}
    assert mass_by_layer(Circuit(())) == {}


def test_the_mass_of_scored_neurons_is_that_of_the_positive_scores() -> None:
    details = (Details(score=3.0), Details(score=-9.0), Details(score=1.0))
    masses = mass_by_layer(Circuit(NEURONS, details=details))
    assert masses == pytest.approx({1: 0.0, 4: 1.0})


def test_an_effect_is_the_difference_over_the_pooled_deviation() -> None:
    random = np.random.default_rng(5)
    one, two = random.normal(1.5, 2, 40), random.normal(0.5, 1, 40)
    moments = (
        Moments(one.mean(), one.std(), two.mean(), two.std()),
        Moments(1.0, 0.0, 1.0, 0.0),
    )
    pooled = np.sqrt((one.var() * 40 + two.var() * 40) / 80)
    found = effect_sizes(Circuit(NEURONS[:2], moments))
    assert found == [pytest.approx((one.mean() - two.mean()) / pooled), None]
    assert effect_sizes(Circuit(NEURONS)) == [None] * 3
