"""Averages over a contrast at the last token, which controls and CAA are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Moments
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.routed import RoutedRows, Rows
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.util.progress import Progress, silent

#: The rows of :func:`averages` that are a neuron's :class:`Moments`, in their order.
MOMENTS = slice(1, 5)
#: The row that is the mean |a| over the negative prompts.
MAGNITUDE = 5
#: The averages of a layer without neurons.
NOTHING = np.zeros((MAGNITUDE + 1, 0), np.float32)


def averages(positive: Rows, negative: Rows) -> mx.array:
    """A layer's delta, moments and mean |a| over the negative prompts.

    Args:
        positive, negative: the sides' activations, [n, d_ff] each.

    Returns:
        [6, d_ff], not evaluated.
    """
    means = positive.mean(axis=0), negative.mean(axis=0)
    deviations = _deviation(positive), _deviation(negative)
    moments = means[0], deviations[0], means[1], deviations[1]
    return mx.stack([means[0] - means[1], *moments, _magnitude(negative)])


def _magnitude(side: Rows) -> mx.array:
    """The mean |a| over the prompts, [d_ff]."""
    if isinstance(side, RoutedRows):
        return side.magnitude()
    return mx.abs(side).mean(axis=0)


def _deviation(side: Rows) -> mx.array:
    """The standard deviation over the prompts, [d_ff]."""
    return side.deviation() if isinstance(side, RoutedRows) else mx.std(side, axis=0)


@dataclass(frozen=True)
class Reference:
    """What :func:`averages` has of each layer."""

    layers: Sequence[np.ndarray]

    @cached_property
    def direction(self) -> MeanDifference:
        """The difference of means of every neuron."""
        return MeanDifference(tuple(layer[0] for layer in self.layers))

    @property
    def magnitudes(self) -> list[np.ndarray]:
        """The mean |a| over the negative prompts, [d_ff] for each layer."""
        return [layer[MAGNITUDE] for layer in self.layers]

    def with_moments(self, circuit: Circuit) -> Circuit:
        """A circuit with its neurons' moments on this contrast."""
        rows = (self.layers[n.layer][MOMENTS, n.index] for n in circuit.neurons)
        return replace(circuit, moments=tuple(Moments(*row.tolist()) for row in rows))

    def arrays(self) -> dict[str, np.ndarray]:
        """The layers by name, for a file."""
        return {f"layer_{n}": layer for n, layer in enumerate(self.layers)}

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, np.ndarray], sizes: Sequence[int]
    ) -> "Reference":
        """The reverse of :meth:`arrays`, for layers of these widths.

        Raises:
            KeyError, ValueError: they are of something else.
        """
        layers = [arrays[f"layer_{n}"] for n in range(len(sizes))]
        for layer, size in zip(layers, sizes, strict=True):
            is_right = layer.shape == (MAGNITUDE + 1, size) and layer.dtype == "float32"
            if not (is_right and np.isfinite(layer).all()):
                raise ValueError("no averages of this model")
        return cls(layers)


def reference(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    rendering: Rendering,
    progress: Progress = silent,
) -> Reference:
    """Read all averages in one walk; ``progress`` is called after each layer."""
    texts = [*contrast.positive, *contrast.negative]
    ids = [render_prompt(tokenizer, text, rendering) for text in texts]
    count, total = len(contrast.positive), len(widths(model))
    layers = [NOTHING] * total
    for layer, found in last_activations(model, ids, routed=True):
        layers[layer] = np.array(averages(found[:count], found[count:]))
        progress("Reading the controls", layer + 1, total)
        del found  # before the next layer's are made
    return Reference(layers)
