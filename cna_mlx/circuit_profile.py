"""Describe a circuit by its layers and the sizes of its effects."""

from math import isfinite
from typing import NamedTuple

from cna_mlx.circuit import Circuit, Moments
from cna_mlx.util.formatting import NO_VALUE, percent


def mass_by_layer(circuit: Circuit) -> dict[int, float]:
    """Return each layer's share of the circuit's positive scores, or of its |delta|.

    Empty if these sum to 0, as for a circuit made by hand.
    """
    weights = [
        abs(neuron.delta) if score is None else max(score, 0.0)
        for neuron, score in zip(circuit.neurons, scores(circuit), strict=True)
    ]
    if not (total := sum(weights)):
        return {}
    masses = dict.fromkeys(circuit.by_layer(), 0.0)
    for neuron, weight in zip(circuit.neurons, weights, strict=True):
        masses[neuron.layer] += weight / total
    return masses


def scores(circuit: Circuit) -> list[float | None]:
    """Return each neuron's score; None where it is the size of its delta."""
    if not circuit.details:
        return [None] * len(circuit.neurons)
    return [one.score for one in circuit.details]


def effect_sizes(circuit: Circuit) -> list[float | None]:
    """Return Cohen's d of each neuron; None where it is unknown."""
    if not circuit.moments:
        return [None] * len(circuit.neurons)
    return [one.effect_size for one in circuit.moments]


class Routing(NamedTuple):
    """How a neuron's expert is chosen, and the delta of the prompts that go to it.

    Attributes:
        positive, negative: the share of each side's prompts that go to the expert.
        delta: the difference of the means over these prompts alone; None if unknown.
    """

    positive: float
    negative: float
    delta: float | None


def routing(circuit: Circuit) -> list[Routing | None]:
    """Return how each neuron's expert is chosen; None for a neuron that always is."""
    moments = circuit.moments or [None] * len(circuit.neurons)
    if not circuit.details:
        return [None] * len(circuit.neurons)
    return [
        None
        if one.positive_routed is None or one.negative_routed is None
        else _routing(one.positive_routed, one.negative_routed, own)
        for one, own in zip(circuit.details, moments, strict=True)
    ]


def _routing(above: float, below: float, own: Moments | None) -> Routing:
    delta = None
    if own is not None and above and below:
        delta = own.positive_mean / above - own.negative_mean / below
        if not isfinite(delta):  # no share of prompts is so small
            delta = None
    return Routing(above, below, delta)


def routing_texts(one: Routing | None, form: str) -> list[str]:
    """Both shares in percent, and the delta in this format; for a table."""
    if one is None:
        return [NO_VALUE] * 3
    delta = NO_VALUE if one.delta is None else format(one.delta, form)
    return [percent(one.positive), percent(one.negative), delta]
