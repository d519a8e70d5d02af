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


def matched_controls(
    circuit: Circuit, magnitude: list[np.ndarray] | Mapping[int, np.ndarray], count: int
) -> list[Circuit]:
    """Deal equally active neurons outside the circuit to several controls.

    Controls that share neurons are alike, and a circuit that shares none with them
    stands out for that alone. So each neuron of the circuit has a stand-in of its own
    in every control, from the free neurons that are nearest in ``magnitude`` (twice as
    many as there are controls), and one that no control has yet where there is any.

    Args:
        magnitude: the mean |a| on benign prompts, [d_ff] for each layer.

    Raises:
        InputError: a layer has too few neurons outside the circuit.
    """
    rng = np.random.default_rng(0)
    drawn: list[dict[Neuron, Neuron]] = [{} for _ in range(count)]
    for layer, members in circuit.by_layer().items():
        size = magnitude[layer]
        outside = _outside(len(size), members, layer)
        taken = np.zeros((count, len(size)), dtype=bool)
        # The most active first: they have the fewest equals.
        for member in sorted(members, key=lambda n: -size[n.index]):
            distance = np.abs(size[outside] - size[member.index])
            nearest = outside[np.argsort(distance, kind="stable")]
            for control in rng.permutation(count):
                one = _stand_in(nearest, taken, control, max(_NEAREST, 2 * count), rng)
                taken[control, one] = True
                drawn[control][member] = Neuron(layer, one, 0.0)
    return [
        _control(circuit, neurons, "matched", seed)
        for seed, neurons in enumerate(drawn)
    ]


def _stand_in(
    nearest: np.ndarray,
    taken: np.ndarray,
    control: int,
    near: int,
    rng: np.random.Generator,
) -> int:
    """Draw a neuron for a control: one that none has, else one that it has not."""
    unused = nearest[:near][~taken[:, nearest[:near]].any(axis=0)]
    if not len(unused):
        own = nearest[~taken[control, nearest]]
        unused = own[:_NEAREST]
    return int(rng.choice(unused))


def stand_ins(circuit: Circuit, controls: Sequence[Circuit]) -> float:
    """How many different neurons of controls there are for each of a circuit's.

    So many controls that share no neuron tell as much as these.
    """
    different = {(n.layer, n.index) for one in controls for n in one.neurons}
    return len(different) / max(1, len(circuit.neurons))


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
