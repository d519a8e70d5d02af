"""Where a prompt lies between the answered and the refused ones, before a token of it
is answered."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.errors import CircuitError
from cna_mlx.models.families import widths


class Scale:
    """A circuit as a gauge of prompts.

    ``g = sum over the circuit of delta * a`` at the last token, scaled so that its
    mean is 0 over the negative prompts of the circuit's contrast and 1 over the
    positive ones. As delta is the difference of those means, that is
    ``sum delta * (a - mean_negative) / sum delta^2``.

    Attributes:
        layers: the layers with a neuron of the circuit.

    Raises:
        CircuitError: the circuit is empty, or was made by hand and knows no means.
    """

    def __init__(self, circuit: Circuit) -> None:
        if not can_gauge(circuit):
            raise CircuitError(
                "this circuit cannot gauge a prompt: it holds no means of the two "
                "sides; discover one"
            )
        self._total = sum(neuron.delta**2 for neuron in circuit.neurons)
        self._members: dict[int, list[tuple[int, float, float]]] = {}
        for neuron, moments in zip(circuit.neurons, circuit.moments, strict=True):
            entry = (neuron.index, neuron.delta, moments.negative_mean)
            self._members.setdefault(neuron.layer, []).append(entry)

    @property
    def layers(self) -> list[int]:
        """The layers with a neuron of the circuit."""
        return sorted(self._members)

    def part(self, layer: int, activations: np.ndarray) -> np.ndarray:
        """What one layer adds to the gauge.

        Args:
            layer: its index.
            activations: at the last token, [n_prompts, d_ff].

        Returns:
            [n_prompts] in float64; 0 for a layer without neurons of the circuit.
        """
        if layer not in self._members:
            return np.zeros(len(activations))
        index, delta, negative = (
            list(p) for p in zip(*self._members[layer], strict=True)
        )
        found = activations[:, index].astype(np.float64)
        return (found - np.array(negative)) @ np.array(delta) / self._total


def can_gauge(circuit: Circuit) -> bool:
    """Whether a circuit knows the means that a gauge needs."""
    return bool(circuit.moments) and any(neuron.delta for neuron in circuit.neurons)


def gauges(model: Any, circuit: Circuit, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """The gauge of each prompt: prefill only, nothing is generated.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        circuit: one that was discovered.
        ids: token ids of each prompt.

    Returns:
        [n_prompts] in float64; see :class:`Scale`.

    Raises:
        CircuitError: the circuit has no means, or does not fit the model.
        InputError: a prompt that is empty or too long.
    """
    circuit.check_shape(widths(model))
    scale = Scale(circuit)
    total = np.zeros(len(ids))
    for layer, activations in last_activations(model, ids):
        total += scale.part(layer, np.array(activations))
    return total
