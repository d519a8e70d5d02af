"""Read neurons at every token of prompts: where they are highest and lowest."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.activations import groups, shared_prefix
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import installed
from cna_mlx.models.forward import Pass, reading_caches, spread
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import JsonFields

# (layer, index) of a neuron.
Place = tuple[int, int]


@dataclass(frozen=True)
class Firing(JsonFields):
    """A token at which a neuron is high or low.

    Attributes:
        source: where the prompt comes from, such as a side of the contrast.
        position: the token's place in the rendered prompt, from 0.
        before, token, after: the rendered prompt without the template's head.
    """

    activation: float
    source: str
    position: int
    before: str
    token: str
    after: str


@dataclass(frozen=True)
class ReadPrompt:
    """A rendered prompt; ``head`` tokens are what every prompt begins with."""

    source: str
    ids: Sequence[int]
    head: int


def rendered(
    tokenizer: Any, prompts: Sequence[tuple[str, str]], rendering: Rendering
) -> list[ReadPrompt]:
    """Prompts as they are read; each is given with its source."""
    head = shared_prefix([render_prompt(tokenizer, one, rendering) for one in "ab"])
    return [
        ReadPrompt(source, render_prompt(tokenizer, prompt, rendering), head)
        for source, prompt in prompts
    ]


def read_neurons(
    model: Any,
    ids: Sequence[Sequence[int]],
    places: Sequence[Place],
    progress: Progress = silent,
) -> dict[Place, list[np.ndarray]]:
    """Read neurons at all tokens of each prompt, [length] each, in float32.

    What all prompts begin with is read once. Layers above the neurons do not run, and
    of the others only their columns are kept.

    Raises:
        InputError: a prompt is empty or too long.
    """
    check_lengths(model, ids)
    layers: dict[int, list[int]] = {}
    for layer, index in places:
        layers.setdefault(layer, []).append(index)
    found = {place: [np.zeros(0)] * len(ids) for place in places}
    shared, done = shared_prefix(ids), 0
    held = reading_caches(model) if shared else None
    head = _read(model, [ids[0][:shared]], layers, held) if shared else {}
    for rows in groups(ids, shared):
        caches = None if held is None else [spread(one, len(rows)) for one in held]
        tails = [ids[row][shared:] for row in rows]
        for layer, values in _read(model, tails, layers, caches).items():
            for column, index in enumerate(layers[layer]):
                begun = head[layer][0, :, column] if shared else values[0, :0, column]
                for own, row in zip(values, rows, strict=True):
                    ends = own[: len(ids[row]) - shared, column]
                    found[layer, index][row] = np.concatenate([begun, ends])
        done += len(rows)
        progress("Reading neurons", done, len(ids))
    return found


def _read(
    model: Any,
    ids: Sequence[Sequence[int]],
    layers: Mapping[int, Sequence[int]],
    caches: list[Any] | None,
) -> dict[int, np.ndarray]:
    """Some neurons of each layer at all tokens, [prompts, length, neurons]."""
    length = max(map(len, ids))
    padded = mx.array([[*one, *[0] * (length - len(one))] for one in ids])
    kept: dict[int, mx.array] = {}

    def keep(layer: int, columns: mx.array, activations: mx.array) -> None:
        kept[layer] = activations[..., columns]

    with installed(model, list(layers)) as blocks, ExitStack() as taps:
        for layer, indices in layers.items():
            tap = partial(keep, layer, mx.array(list(indices)))
            taps.enter_context(blocks[layer].tapped(tap))
        fed = Pass(model, padded, caches)
        fed.through(fed.hidden, end=max(layers) + 1)
        return {
            layer: np.array(values.astype(mx.float32)) for layer, values in kept.items()
        }


def extremes(
    tokenizer: Any,
    read: Sequence[ReadPrompt],
    values: Sequence[np.ndarray],
    count: int,
    sign: int,
) -> tuple[Firing, ...]:
    """The prompts with the highest tokens, or for a sign of -1 the lowest."""
    places = [
        prompt.head + int(np.argmax(sign * own[prompt.head :]))
        for prompt, own in zip(read, values, strict=True)
    ]
    peaks = [sign * own[at] for own, at in zip(values, places, strict=True)]
    order = np.argsort(-np.array(peaks), kind="stable")[:count]
    return tuple(
        Firing(
            float(values[row][at]),
            read[row].source,
            at,
            tokenizer.decode(list(read[row].ids[read[row].head : at])),
            tokenizer.decode([read[row].ids[at]]),
            tokenizer.decode(list(read[row].ids[at + 1 :])),
        )
        for row in order
        for at in (places[row],)
    )
