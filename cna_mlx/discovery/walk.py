"""Scores, halves and folds of a discovery, computed layer by layer in one walk."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Details, Moments, Neuron
from cna_mlx.discovery.cross_validation import HeldOut
from cna_mlx.discovery.rankings import ALL, Difference, Ranking
from cna_mlx.discovery.reference import averages
from cna_mlx.discovery.routed import RoutedRows, Rows
from cna_mlx.discovery.selection import (
    Selection,
    SplitHalf,
    TopNeurons,
    expected_overlap,
    overlap,
)
from cna_mlx.models.families import experts_of, family_of
from cna_mlx.prompts import PromptSet
from cna_mlx.provenance import ModelEntry

_UNIVERSAL_SHARE = 0.8
_HALVES = slice(0, None, 2), slice(1, None, 2)


@dataclass
class Walk:
    """What a discovery keeps of each layer; ``sets`` is the contrast, then the bank."""

    sets: Sequence[PromptSet]
    k: int
    selection: Selection
    model: Any
    ranking: Ranking
    held_out: HeldOut = field(init=False)
    bank_ranking: Ranking = field(init=False)
    averages: dict[int, np.ndarray] = field(default_factory=dict)
    # of each layer with experts, how often each side's prompts go to each of them
    _routed: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # the contrast, its halves, the bank
        self._top = TopNeurons(self.k)
        self._halves = _HALVES if min(self.sets[0].sizes) > 1 else ()
        self.held_out = HeldOut(self.sets[0].sizes, self.k, self.selection.fraction)
        layers = family_of(self.model).layers(self.model)
        self._experts = experts_of(self.model)
        self._band = self.selection.band(len(layers))
        # what decides this contrast says nothing of others
        decides = self.selection.is_signed
        self.bank_ranking = Difference(self.model) if decides else self.ranking

    def take(self, layer: int, activations: Rows) -> None:
        """Use one layer's activations, [n_prompts, d_ff], or [.., positions, d_ff]."""
        if not self._band[0] <= layer <= self._band[1]:
            return
        last = activations
        if isinstance(activations, mx.array) and activations.ndim > 2:
            last, activations = activations[:, -1], activations.mean(axis=1)
        own, *bank = self._sides(activations)
        score = partial(self.ranking.at(layer), *own)
        scores = [score(ALL, ALL), *(score(one, one) for one in self._halves)]
        of_others = self.bank_ranking.at(layer)
        scores += [of_others(*sides, ALL, ALL) for sides in bank]
        ranked = len(scores)
        scores += [score(*seen) for seen in self.held_out.others]
        # evaluated together: a GPU waits for each array that is read
        ends, *_ = self._sides(last)
        found = mx.stack(scores)
        mx.eval(found, kept := self._averages(layer, *ends))
        self.averages[layer], *routed = map(np.array, kept)
        if routed:
            self._routed[layer] = tuple(routed)
        values = np.array(found)
        self._top.take(layer, values[:ranked])
        self.held_out.take(layer, *ends, values[ranked:])

    def _sides(self, activations: Rows) -> Iterator[tuple[Rows, Rows]]:
        """The activations of each set's two sides."""
        start = 0
        for one in self.sets:
            middle = start + len(one.positive)
            end = middle + len(one.negative)
            yield activations[start:middle], activations[middle:end]
            start = end

    def _averages(self, layer: int, positive: Rows, negative: Rows) -> list[mx.array]:
        """The layer's averages; of a mixture the sides' routing too."""
        found = [averages(positive, negative)]
        if (own := self._experts[layer]) is not None:
            found += [_routed(side, *own[:2]) for side in (positive, negative)]
        return found

    @property
    def scores(self) -> dict[tuple[int, int], float]:
        """The contrast's best neurons with their scores, the highest first."""
        return self._top.scores()

    def neuron(self, layer: int, index: int) -> tuple[Neuron, Moments]:
        """A neuron with its delta, and its moments."""
        delta, *moments, _ = self.averages[layer][:, index].tolist()
        return Neuron(layer, index, delta), Moments(*moments)

    def routed(self, layer: int, index: int) -> Details:
        """How often each side's prompts go to the expert that a neuron belongs to."""
        expert, _ = ModelEntry(experts=self._experts).expert_of(layer, index)
        if expert is None:
            return Details()
        above, below = (float(side[expert]) for side in self._routed[layer])
        return Details(positive_routed=above, negative_routed=below)

    def universal(self) -> frozenset[tuple[int, int]]:
        """The neurons in the lists of nearly all contrasts of the bank."""
        first = 1 + len(self._halves)
        bank = range(first, first + len(self.sets) - 1)
        return universal_neurons([self._top.best(one) for one in bank])

    def split_half(self, dropped: frozenset[tuple[int, int]]) -> SplitHalf | None:
        """The overlap of the halves' circuits; None if a side has a single prompt."""
        if not self._halves:
            return None
        odd, even = (set(self._top.best(1 + half)) - dropped for half in (0, 1))
        total = sum(one.shape[1] for one in self.averages.values())
        return SplitHalf(overlap(odd, even), expected_overlap(self.k, total))


def _routed(activations: Rows, count: int, width: int) -> mx.array:
    """The share of the prompts that go to each expert: where it has an activation."""
    if isinstance(activations, RoutedRows):
        return mx.array(activations.routed().astype(np.float32))
    of_experts = activations[:, : count * width].reshape(-1, count, width)
    return (of_experts != 0).any(axis=-1).mean(axis=0)


def universal_neurons(
    bank: Sequence[Sequence[tuple[int, int]]],
) -> frozenset[tuple[int, int]]:
    """The neurons in the lists of nearly all contrasts of a bank."""
    needed = max(1, math.ceil(_UNIVERSAL_SHARE * len(bank)))
    counts = Counter(neuron for best in bank for neuron in best)
    return frozenset(neuron for neuron, count in counts.items() if count >= needed)
