"""Read a prompt's position between the two sides of a circuit's contrast."""

import math
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, CnaError


class Scale:
    """The gauge of a circuit.

    ``g = sum over the circuit of delta * a`` at the last token, scaled so that its
    mean is 0 over the negative prompts of the circuit's contrast and 1 over the
    positive ones. As delta is the difference of those means, that is
    ``sum delta * (a - mean_negative) / sum delta^2``.

    Raises:
        CircuitError: the circuit is empty, has no means of the two sides, or deltas
            that are not differences of activations.
    """

    def __init__(self, circuit: Circuit) -> None:
        if not can_gauge(circuit):
            raise CircuitError(
                "this circuit has no means of the two sides, which a gauge needs: "
                "discover a new one"
            )
        self._total = sum(neuron.delta * neuron.delta for neuron in circuit.neurons)
        if not 0 < self._total < math.inf:
            raise CircuitError(
                "this circuit's deltas are too large or too small for a gauge: "
                "discover a new one"
            )
        self._members: dict[int, list[tuple[int, float, float]]] = {}
        for neuron, moments in zip(circuit.neurons, circuit.moments, strict=True):
            entry = (neuron.index, neuron.delta, moments.negative_mean)
            self._members.setdefault(neuron.layer, []).append(entry)

    @property
    def layers(self) -> list[int]:
        """The layers with a neuron of the circuit."""
        return sorted(self._members)

    def part(self, layer: int, activations: Any) -> np.ndarray:
        """Return one layer's term of the gauge, [n_prompts] in float64.

        Args:
            layer: its index; a layer without neurons of the circuit adds 0.
            activations: at the last token, [n_prompts, d_ff], as an array of NumPy
                or a mixture's rows.
        """
        if layer not in self._members:
            return np.zeros(len(activations))
        index, delta, negative = map(list, zip(*self._members[layer], strict=True))
        found = np.array(activations[:, index], np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # `finite` reports it
            return (found - np.array(negative)) @ np.array(delta) / self._total


def finite(gauges: np.ndarray) -> np.ndarray:
    """The gauges of prompts.

    Raises:
        CnaError: one is NaN or infinite.
    """
    if not np.isfinite(gauges).all():
        raise CnaError(
            "the gauge is NaN or infinite: a multiplier is too large, or the model's "
            "weights or the circuit are damaged; take a smaller multiplier, fetch the "
            "weights again, or discover a new circuit"
        )
    return gauges


def can_gauge(circuit: Circuit) -> bool:
    """Whether a circuit has the means that a gauge needs."""
    return bool(circuit.moments) and any(neuron.delta for neuron in circuit.neurons)
