"""Control circuits: random neurons to compare an effect with."""

from collections.abc import Mapping, Sequence

import numpy as np

from cna_mlx.circuit import Circuit, Details, Neuron
from cna_mlx.errors import InputError
from cna_mlx.provenance import Provenance

# A matched neuron is drawn from this many that are nearest in magnitude.
_NEAREST = 10


def uniform_control(circuit: Circuit, sizes: Sequence[int], seed: int) -> Circuit:
    """Draw random neurons outside the circuit, the same number in each layer.

    Most neurons are nearly silent, so this control flatters any circuit; a verdict
    rests on :func:`matched_control`.

    Raises:
        InputError: a layer has too few neurons outside the circuit.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[Neuron, Neuron] = {}
    for layer, members in circuit.by_layer().items():
        outside = _outside(sizes[layer], members, layer)
        chosen = rng.choice(outside, len(members), replace=False)
        neurons = [Neuron(layer, int(index), 0.0) for index in chosen]
        drawn |= zip(members, neurons, strict=True)
    return _control(circuit, drawn, "uniform", seed)


def matched_control(
    circuit: Circuit, magnitude: list[np.ndarray] | Mapping[int, np.ndarray], seed: int
) -> Circuit:
    """Draw equally active neurons outside the circuit, layer by layer.

    For each neuron of the circuit, draws one of the ten free neurons that are nearest
    in ``magnitude``, the mean |a| on benign prompts: [d_ff] for each layer.

    Raises:
        InputError: a layer has too few neurons outside the circuit.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[Neuron, Neuron] = {}
    for layer, members in circuit.by_layer().items():
        size = magnitude[layer]
        outside = _outside(len(size), members, layer)
        # The most active first: they have the fewest equals.
        for member in sorted(members, key=lambda n: -size[n.index]):
            distance = np.abs(size[outside] - size[member.index])
            nearest = np.argsort(distance, kind="stable")[:_NEAREST]
            place = int(rng.choice(nearest))
            drawn[member] = Neuron(layer, int(outside[place]), 0.0)
            outside = np.delete(outside, place)
    return _control(circuit, drawn, "matched", seed)


def _outside(width: int, members: list[Neuron], layer: int) -> np.ndarray:
    outside = np.setdiff1d(np.arange(width), [neuron.index for neuron in members])
    if len(outside) < len(members):
        raise InputError(
            f"no control for {len(members)} of {width} neurons in layer {layer}: "
            "take a smaller fraction"
        )
    return outside


def _control(
    circuit: Circuit, drawn: dict[Neuron, Neuron], kind: str, seed: int
) -> Circuit:
    """The drawn neurons, each with the constant of the neuron that it stands for."""
    origin = Provenance(control=kind, seed=seed)
    shifts = {
        neuron: Details(shift=one.shift)
        for neuron, one in zip(circuit.neurons, circuit.details, strict=False)
    }
    details = tuple(shifts[neuron] for neuron in drawn if shifts)
    return Circuit(tuple(drawn.values()), (), circuit.model, origin, details)
