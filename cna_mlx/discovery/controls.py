"""Circuits that should do nothing: without them no effect means anything."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Neuron
from cna_mlx.discovery.activations import last_activations
from cna_mlx.errors import InputError
from cna_mlx.provenance import Provenance

# A matched neuron is drawn from this many that are nearest in magnitude.
_NEAREST = 10


def magnitudes(model: Any, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Mean |a| of every neuron at the last token, for matching controls.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: token ids of benign prompts.

    Returns:
        For each layer [d_ff] in float32.
    """
    return [np.array(mx.abs(a).mean(axis=0)) for _, a in last_activations(model, ids)]


def uniform_control(circuit: Circuit, sizes: Sequence[int], seed: int) -> Circuit:
    """Random neurons outside the circuit, as many in each layer.

    Most neurons are nearly silent, so this control flatters any circuit; a verdict
    rests on :func:`matched_control`.

    Args:
        circuit: what to control for.
        sizes: d_ff of each layer.
        seed: another seed draws other neurons.

    Raises:
        InputError: a layer has too few neurons outside the circuit.
    """
    rng = np.random.default_rng(seed)
    neurons: list[Neuron] = []
    for layer, members in circuit.by_layer().items():
        outside = _outside(sizes[layer], members, layer)
        drawn = rng.choice(outside, len(members), replace=False)
        neurons += [Neuron(layer, int(index), 0.0) for index in drawn]
    return _control(circuit, neurons, "uniform", seed)


def matched_control(
    circuit: Circuit, magnitude: list[np.ndarray] | Mapping[int, np.ndarray], seed: int
) -> Circuit:
    """Neurons outside the circuit that are as active as its own, layer by layer.

    For each neuron of the circuit one is drawn from the ten that are nearest in mean
    |a| on benign prompts and not taken yet.

    Args:
        circuit: what to control for.
        magnitude: as :func:`magnitudes` returns it; or by layer, as a discovery
            carries it, where the circuit's own layers are enough.
        seed: another seed draws other neurons.

    Raises:
        InputError: a layer has too few neurons outside the circuit.
    """
    rng = np.random.default_rng(seed)
    neurons: list[Neuron] = []
    for layer, members in circuit.by_layer().items():
        size = magnitude[layer]
        outside = _outside(len(size), members, layer)
        # The most active first: they have the fewest equals.
        for member in sorted(members, key=lambda n: -size[n.index]):
            distance = np.abs(size[outside] - size[member.index])
            nearest = np.argsort(distance, kind="stable")[:_NEAREST]
            drawn = int(rng.choice(nearest))
            neurons.append(Neuron(layer, int(outside[drawn]), 0.0))
            outside = np.delete(outside, drawn)
    return _control(circuit, neurons, "matched", seed)


def _outside(width: int, members: list[Neuron], layer: int) -> np.ndarray:
    outside = np.setdiff1d(np.arange(width), [neuron.index for neuron in members])
    if len(outside) < len(members):
        raise InputError(
            f"no control for {len(members)} of {width} neurons in layer {layer}: "
            "take a smaller fraction"
        )
    return outside


def _control(circuit: Circuit, neurons: list[Neuron], kind: str, seed: int) -> Circuit:
    origin = Provenance(control=kind, seed=seed)
    return Circuit(tuple(neurons), model=circuit.model, provenance=origin)
