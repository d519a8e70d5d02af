"""What one neuron does: what it writes, where it fires, how it decides alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.attribution import WrittenTokens, written_tokens
from cna_mlx.discovery.deciding import spread_out
from cna_mlx.discovery.firing import (
    Firing,
    ReadPrompt,
    extremes,
    read_neurons,
    rendered,
)
from cna_mlx.discovery.influence import effects
from cna_mlx.discovery.kept_openings import kept_openings
from cna_mlx.discovery.last_tokens import read_prompts
from cna_mlx.discovery.refusing_openings import Opening, log_odds
from cna_mlx.errors import CircuitError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet, load_bank
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import JsonFields, plain
from cna_mlx.util.rows import Row


@dataclass(frozen=True)
class OwnEffect(JsonFields):
    """How a neuron alone decides whether an answer begins like a refusal.

    R is the log-odds of that; P its probability.

    Attributes:
        drop: how much R falls when the neuron is 0 at the last token, in nats; the mean
            over ``drop_prompts`` positive prompts.
        log_odds_correlation, probability_correlation: Pearson's, of the activation at
            the last token with R and P over the contrast's ``prompts``; None if one of
            the two does not vary.
    """

    drop: float
    drop_prompts: int
    log_odds_correlation: float | None
    probability_correlation: float | None
    prompts: int


@dataclass(frozen=True)
class NeuronPage:
    """What is known of a neuron.

    Attributes:
        name: its number, with its expert in a mixture.
        row: its row of the circuit, by column.
        effect_size: Cohen's d; None if unknown.
        written: what it writes on the positive prompts.
        highest, lowest: each prompt's highest and lowest token, of the prompts where
            these are the most extreme.
        prompts, tokens: how many were read; the template's head is not counted.
        contrast: the name of the contrast.
        effect: None if the model has no refusing openings.
    """

    name: str
    row: Row
    effect_size: float | None
    written: WrittenTokens
    highest: tuple[Firing, ...]
    lowest: tuple[Firing, ...]
    prompts: int
    tokens: int
    contrast: str
    effect: OwnEffect | None

    def to_dict(self) -> dict[str, Any]:
        """The page for JSON."""
        own = {name: plain(value) for name, value in vars(self).items()}
        del own["row"], own["written"]
        return {**self.row, **self.written.to_dict(), **own}

    def rows(self) -> list[Row]:
        """A row for each token where the neuron is high or low."""
        return [one.to_dict() for one in (*self.highest, *self.lowest)]


@wired()
def neuron_page(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    layer: int,
    index: int,
    contrast: PromptSet,
    *,
    texts: Sequence[str] = (),
    rendering: Rendering | None = None,
    count: int = 5,
    progress: Progress = silent,
) -> NeuronPage:
    """Describe a neuron of a circuit.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        contrast: the prompts to read, with those of the bank.
        texts: further texts to read, without a chat template.
        rendering: how prompts become token ids.
        count: of tokens, and of prompts with the highest and the lowest activation.

    Raises:
        CircuitError: the circuit has no such neuron, or does not fit the model.
        InputError: a prompt or a text is too long.
    """
    circuit.check_shape(widths(model), experts_of(model))
    place = place_of(circuit, layer, index)
    rendering = rendering or Rendering()
    read = list(_read(tokenizer, contrast, texts, rendering))
    neuron = (layer, index)
    values = read_neurons(model, [one.ids for one in read], [neuron], progress)[neuron]
    sides = sum(contrast.sizes)
    ids = [one.ids for one in read[:sides]]
    last = np.array([one[-1] for one in values[:sides]])
    openings = kept_openings(model, tokenizer, circuit, contrast, rendering)
    effect = None
    if openings:
        effect = _effect(model, ids, contrast, last, neuron, openings, progress)
    return NeuronPage(
        circuit.model.neuron_name(layer, index),
        circuit.rows()[place],
        circuit.moments[place].effect_size if circuit.moments else None,
        written_tokens(model, tokenizer, circuit.neurons[place], count),
        extremes(tokenizer, read, values, count, 1),
        extremes(tokenizer, read, values, count, -1),
        len(read),
        sum(len(one.ids) - one.head for one in read),
        contrast.name,
        effect,
    )


def place_of(circuit: Circuit, layer: int, index: int) -> int:
    """Where a neuron is in a circuit; CircuitError if it is not."""
    places = [neuron[:2] for neuron in circuit.neurons]
    if (layer, index) not in places:
        raise CircuitError(
            f"{circuit.file or 'the circuit'} has no neuron "
            f"{circuit.model.neuron_name(layer, index)} of layer {layer}: "
            "cna-mlx circuit show FILE lists its neurons"
        )
    return places.index((layer, index))


def _read(
    tokenizer: Any, contrast: PromptSet, texts: Sequence[str], rendering: Rendering
) -> Iterator[ReadPrompt]:
    """The prompts of the contrast, then of the bank, then the texts."""
    plain_text = Rendering(template="off")
    sources: list[tuple[str, Sequence[str], Rendering]] = [
        (contrast.positive_label, contrast.positive, rendering),
        (contrast.negative_label, contrast.negative, rendering),
        *(
            (f"bank: {one.name}", (*one.positive, *one.negative), rendering)
            for one in load_bank()
        ),
        ("text", texts, plain_text),
    ]
    for source, prompts, own in sources:
        yield from rendered(tokenizer, [(source, one) for one in prompts], own)


def _effect(
    model: Any,
    ids: Sequence[Sequence[int]],
    contrast: PromptSet,
    last: np.ndarray,
    place: tuple[int, int],
    openings: Sequence[Opening],
    progress: Progress,
) -> OwnEffect:
    """The effect of a neuron, whose activations at the last tokens are ``last``."""
    layer, index = place
    odds, done = np.zeros(len(ids)), 0
    for part in read_prompts(model, ids):
        odds[part.rows] = np.array(log_odds(part.run(), openings))
        done += len(part.rows)
        progress("Reading first words", done, len(ids))
    neurons = {layer: np.array([index])}
    drops = [
        effects(prompt, neurons, None, lambda after: log_odds(after, openings))[layer]
        for row in spread_out(len(contrast.positive))
        for prompt in read_prompts(model, [ids[row]])
    ]
    return OwnEffect(
        float(np.mean(drops)),
        len(drops),
        _pearson(last, odds),
        _pearson(last, 1 / (1 + np.exp(-odds))),
        len(ids),
    )


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    if not (np.ptp(x) and np.ptp(y)):
        return None
    return float(np.corrcoef(x.astype(float), y)[0, 1])
