"""Read a prompt's position between the two sides of a circuit's contrast."""

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError


class Scale:
    """The gauge of a circuit.

    ``g = sum over the circuit of delta * a`` at the last token, scaled so that its
    mean is 0 over the negative prompts of the circuit's contrast and 1 over the
    positive ones. As delta is the difference of those means, that is
    ``sum delta * (a - mean_negative) / sum delta^2``.

    Raises:
        CircuitError: the circuit is empty or has no means of the two sides.
    """

    def __init__(self, circuit: Circuit) -> None:
        if not can_gauge(circuit):
            raise CircuitError(
                "this circuit has no means of the two sides, which a gauge needs: "
                "discover a new one"
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
        """Return one layer's term of the gauge, [n_prompts] in float64.

        Args:
            layer: its index; a layer without neurons of the circuit adds 0.
            activations: at the last token, [n_prompts, d_ff].
        """
        if layer not in self._members:
            return np.zeros(len(activations))
        index, delta, negative = map(list, zip(*self._members[layer], strict=True))
        found = activations[:, index].astype(np.float64)
        return (found - np.array(negative)) @ np.array(delta) / self._total


def can_gauge(circuit: Circuit) -> bool:
    """Whether a circuit has the means that a gauge needs."""
    return bool(circuit.moments) and any(neuron.delta for neuron in circuit.neurons)
