"""Describe a circuit by its layers and the sizes of its effects."""

from cna_mlx.circuit import Circuit


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
