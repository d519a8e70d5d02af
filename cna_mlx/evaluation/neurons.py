"""Keep what a circuit's first neurons do on the prompts of a run, for its report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit, Neuron
from cna_mlx.discovery.attribution import WrittenTokens, written_tokens
from cna_mlx.discovery.firing import (
    Firing,
    ReadPrompt,
    extremes,
    read_neurons,
    rendered,
)
from cna_mlx.evaluation.order import Named
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import JsonFields

# Neurons and prompts of the heat map; neurons with a page, and its prompts and tokens.
_NEURONS, _PROMPTS, _PAGES, _COUNT = 64, 240, 5, 4
# Characters of a prompt before and after a token.
_AROUND = 200


@dataclass(frozen=True)
class ShortPage(JsonFields):
    """What a neuron writes, and the prompts where it is highest and lowest."""

    layer: int
    index: int
    written: WrittenTokens
    highest: tuple[Firing, ...]
    lowest: tuple[Firing, ...]


@dataclass(frozen=True)
class CircuitNeurons(JsonFields):
    """The first neurons of a circuit on the prompts of a run, unsteered.

    Attributes:
        neurons: (layer, index) of each, in the order of the circuit.
        prompts: their numbers in the run.
        activations: at the last token, [neurons, prompts].
        pages: of the very first neurons.
    """

    neurons: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]
    activations: tuple[tuple[float, ...], ...]
    pages: tuple[ShortPage, ...]


@wired()
def circuit_neurons(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    prompts: Sequence[Named],
    rendering: Rendering,
    progress: Progress = silent,
) -> CircuitNeurons:
    """Read a circuit's first neurons on a run's prompts, in one pass over each.

    Raises:
        CircuitError: the circuit does not fit the model.
        InputError: a prompt is too long.
    """
    circuit.check_shape(widths(model), experts_of(model))
    step = -(-len(prompts) // _PROMPTS)
    numbers = range(0, len(prompts), step)
    asked = [prompts[number][1] for number in numbers]
    named = [(f"{one.kind}, {one.id}", one.text) for one in asked]
    read = rendered(tokenizer, named, rendering)
    neurons = circuit.neurons[:_NEURONS]
    places = [(one.layer, one.index) for one in neurons]
    values = read_neurons(model, [one.ids for one in read], places, progress)
    pages = [
        _page(model, tokenizer, neuron, read, values[neuron.layer, neuron.index])
        for neuron in neurons[:_PAGES]
    ]
    activations = (tuple(_short(one[-1]) for one in values[place]) for place in places)
    return CircuitNeurons(
        tuple(places), tuple(numbers), tuple(activations), tuple(pages)
    )


def _page(
    model: Any,
    tokenizer: Any,
    neuron: Neuron,
    read: Sequence[ReadPrompt],
    values: Sequence[np.ndarray],
) -> ShortPage:
    highest, lowest = (
        tuple(map(_cut, extremes(tokenizer, read, values, _COUNT, sign)))
        for sign in (1, -1)
    )
    written = written_tokens(model, tokenizer, neuron, _COUNT)
    return ShortPage(neuron.layer, neuron.index, written, highest, lowest)


def _cut(one: Firing) -> Firing:
    return replace(one, before=one.before[-_AROUND:], after=one.after[:_AROUND])


def _short(value: float) -> float:
    return float(f"{value:.4g}")
