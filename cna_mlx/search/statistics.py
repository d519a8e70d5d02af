"""What one reading of a contrast says of every neuron: enough to rank it any way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.discovery.deciding import Deciding
from cna_mlx.discovery.discover import (
    algorithm_of,
    contrast_entry,
    model_entry,
    read_layers,
    rendering_entry,
    residual,
)
from cna_mlx.discovery.rankings import ALL, Difference, Influence, Ranking
from cna_mlx.discovery.reference import MOMENTS, averages
from cna_mlx.discovery.refusing_openings import Opening
from cna_mlx.discovery.routed import Rows
from cna_mlx.discovery.selection import Rank, Selection, TopNeurons
from cna_mlx.discovery.walk import universal_neurons
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet, load_bank
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.provenance import ModelEntry, Provenance
from cna_mlx.util.environment import versions
from cna_mlx.util.progress import Progress, silent

#: The rankings that a search tries: all but ``causal``, which takes minutes.
SIMPLE: tuple[Rank, ...] = ("delta", "normalized", "weighted")
DECIDING: tuple[Rank, ...] = ("direct", "influence")
Excluded = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Statistics:
    """The figures of every neuron over a contrast, at the last token of the prompts.

    Attributes:
        scores: by rank, [d_ff] in float32 for each layer; -inf where it has no score.
        moments: [4, d_ff] for each layer, in the order of :class:`Moments`.
        universal: the universal neurons, by the number of neurons of a circuit.
        openings: token ids of the phrases that begin the model's refusals.
        model, origin: of the circuits made from them; the origin without the choice.
    """

    scores: Mapping[Rank, Sequence[np.ndarray]]
    moments: Sequence[np.ndarray]
    universal: Mapping[int, Excluded]
    openings: tuple[Opening, ...]
    model: ModelEntry
    origin: Provenance

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """d_ff of each layer."""
        return tuple(part.shape[1] for part in self.moments)

    def circuit(self, selection: Selection, without: Excluded = frozenset()) -> Circuit:
        """The circuit of a selection; reads no prompt.

        Args:
            without: neurons that are passed over, so that the next best follow.
        """
        k = selection.k(self.sizes)
        first, last = selection.band(len(self.sizes))
        top = TopNeurons(k)
        for layer in range(first, last + 1):
            values = self.scores[selection.rank][layer].copy()
            values[[index for own, index in without if own == layer]] = -np.inf
            top.take(layer, values)
        best = {one: score for one, score in top.scores().items() if score > -math.inf}
        dropped = self.universal.get(k, frozenset()) if selection.universal else ()
        kept = [one for one in best if one not in dropped]
        moments = [self._moments(*one) for one in kept]
        signed = selection.is_signed
        return Circuit(
            tuple(
                Neuron(*one, own.positive_mean - own.negative_mean)
                for one, own in zip(kept, moments, strict=True)
            ),
            tuple(moments),
            self.model,
            self._origin(selection, tuple(one for one in best if one in dropped)),
            tuple(Details(score=best[one]) for one in kept) if signed else (),
        )

    def _moments(self, layer: int, index: int) -> Moments:
        return Moments(*(float(value) for value in self.moments[layer][:, index]))

    def _origin(
        self, selection: Selection, dropped: tuple[tuple[int, int], ...]
    ) -> Provenance:
        return replace(
            self.origin,
            fraction=selection.fraction,
            rank=selection.rank,
            layers=selection.band(len(self.sizes)),
            universal=selection.universal,
            universal_dropped=dropped,
            algorithm=algorithm_of(selection),
            openings=self.openings if selection.reads_answers else None,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def read_statistics(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    counts: Sequence[int],
    rendering: Rendering,
    *,
    openings: Sequence[Opening] = (),
    bank: Sequence[PromptSet] | None = None,
    progress: Progress = silent,
) -> Statistics:
    """Read a contrast and the bank once; one backward pass for each contrast prompt.

    Args:
        counts: the numbers of neurons whose universal neurons are needed.
        openings: of the model's refusals; without one the ranks that rest on them
            have no scores.
        bank: the contrasts that define universal neurons; the built-in one if None.

    Raises:
        as :func:`cna_mlx.discover`.
    """
    sets = [contrast, *(load_bank() if bank is None else bank)]
    texts = [text for one in sets for text in (*one.positive, *one.negative)]
    ids = [render_prompt(tokenizer, text, rendering) for text in texts]
    own = ids[: sum(contrast.sizes)]
    rankings: dict[Rank, Ranking] = {r: Difference(model, r) for r in SIMPLE}
    chosen = Selection(rank="residual")
    rankings["residual"] = residual(model, contrast, chosen, own, progress)
    if openings:
        rankings |= _deciding(model, contrast, own, tuple(openings), progress)
    total = len(widths(model))
    scores: dict[Rank, list[np.ndarray]] = {
        rank: [np.zeros(0, np.float32)] * total for rank in rankings
    }
    moments = [np.zeros((4, 0), np.float32)] * total
    tops = [TopNeurons(max(counts)) for _ in sets[1:]]
    for layer, activations in read_layers(model, sets, ids, Selection(), progress):
        sides = _sides(sets[0], activations)
        for rank, ranking in rankings.items():
            scores[rank][layer] = _score(ranking, layer, sides)
        moments[layer] = np.array(averages(*sides)[MOMENTS])
        start = sum(contrast.sizes)
        for one, top in zip(sets[1:], tops, strict=True):
            own_sides = _sides(one, activations[start:])
            found = Difference(model).at(layer)(*own_sides, ALL, ALL)
            top.take(layer, np.array(found))
            start += sum(one.sizes)
        del activations, sides
    lists = [top.best() for top in tops]
    return Statistics(
        scores,
        moments,
        {k: universal_neurons([best[:k] for best in lists]) for k in counts if lists},
        tuple(openings),
        *origin_of(model, tokenizer, contrast, rendering),
    )


def origin_of(
    model: Any, tokenizer: Any, contrast: PromptSet, rendering: Rendering
) -> tuple[ModelEntry, Provenance]:
    """The model and the origin of circuits that are made from statistics."""
    return (
        model_entry(model, widths(model)),
        Provenance(
            contrast_entry(contrast),
            rendering_entry(tokenizer, rendering),
            versions=versions(),
        ),
    )


def _deciding(
    model: Any,
    contrast: PromptSet,
    ids: Sequence[Sequence[int]],
    openings: tuple[Opening, ...],
    progress: Progress,
) -> dict[Rank, Ranking]:
    """The rankings by what neurons decide, in every layer that a search tries."""
    last = late_bands(len(widths(model)))[0]
    selection = Selection(rank="influence", layers=last)
    found = Deciding(model, contrast, selection, ids, openings, progress)
    return {"direct": found.direct(), "influence": found.influence()}


def late_bands(n_layers: int) -> list[tuple[int, int]]:
    """The layers of ``direct`` and ``influence`` unless told, most layers first."""
    found = (Selection(rank=rank).band(n_layers) for rank in DECIDING)
    return list(dict.fromkeys(found))


def _score(ranking: Ranking, layer: int, sides: tuple[Rows, Rows]) -> np.ndarray:
    """A layer's scores; -inf in a layer that the ranking does not have."""
    if isinstance(ranking, Influence) and layer not in ranking.gradients:
        return np.full(sides[0].shape[1], -np.inf, np.float32)
    return np.array(ranking.at(layer)(*sides, ALL, ALL))


def _sides(one: PromptSet, activations: Rows) -> tuple[Rows, Rows]:
    middle, end = len(one.positive), sum(one.sizes)
    return activations[:middle], activations[middle:end]
