"""Scores, halves and folds of a discovery, computed layer by layer in one walk."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Details, Moments, Neuron
from cna_mlx.discovery.cross_validation import HeldOut
from cna_mlx.discovery.rankings import ALL, Difference, Ranking
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


@dataclass
class Walk:
    """What a discovery keeps of each layer; ``sets`` is the contrast, then the bank."""

    sets: Sequence[PromptSet]
    k: int
    selection: Selection
    model: Any
    ranking: Ranking
    tops: list[TopNeurons] = field(init=False)
    halves: tuple[TopNeurons, TopNeurons] = field(init=False)
    held_out: HeldOut = field(init=False)
    bank_ranking: Ranking = field(init=False)
    magnitudes: dict[int, np.ndarray] = field(default_factory=dict)
    _kept: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)
    # of each layer with experts, how often each side's prompts go to each of them
    _routed: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tops = [TopNeurons(self.k) for _ in self.sets]
        self.halves = (TopNeurons(self.k), TopNeurons(self.k))
        self.held_out = HeldOut(self.sets[0].sizes, self.k, self.selection.fraction)
        layers = family_of(self.model).layers(self.model)
        self._experts = experts_of(self.model)
        self._band = self.selection.band(len(layers))
        # what decides this contrast says nothing of others
        decides = self.selection.is_signed
        self.bank_ranking = Difference(self.model) if decides else self.ranking

    def take(self, layer: int, activations: mx.array) -> None:
        """Use one layer's activations, [n_prompts, d_ff], or [.., positions, d_ff]."""
        if not self._band[0] <= layer <= self._band[1]:
            return
        start, last = 0, activations
        if activations.ndim > 2:
            last, activations = activations[:, -1], activations.mean(axis=1)
        own, bank = self.ranking.at(layer), self.bank_ranking.at(layer)
        for one, top in zip(self.sets, self.tops, strict=True):
            middle = start + len(one.positive)
            end = middle + len(one.negative)
            sides = activations[start:middle], activations[middle:end]
            score = partial(bank if start else own, *sides)
            if start == 0:
                ends = last[:middle], last[middle:end]
                self._keep(layer, *ends)
                self.held_out.take(layer, *ends, score)
                for offset, half in enumerate(self.halves):
                    if all(size > offset for size in one.sizes):
                        half.take(layer, score(*2 * [slice(offset, None, 2)]))
            top.take(layer, score(ALL, ALL))
            start = end

    def _keep(self, layer: int, positive: mx.array, negative: mx.array) -> None:
        self.magnitudes[layer] = np.array(mx.abs(negative).mean(axis=0))
        means = positive.mean(axis=0), negative.mean(axis=0)
        deviations = mx.std(positive, axis=0), mx.std(negative, axis=0)
        parts = means[0] - means[1], means[0], deviations[0], means[1], deviations[1]
        self._kept[layer] = tuple(map(np.array, parts))
        if (own := self._experts[layer]) is not None:
            sides = (_routed(side, *own[:2]) for side in (positive, negative))
            self._routed[layer] = tuple(map(np.array, sides))

    def neuron(self, layer: int, index: int) -> tuple[Neuron, Moments]:
        """A neuron with its delta, and its moments."""
        delta, *moments = (float(part[index]) for part in self._kept[layer])
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
        return universal_neurons([top.best() for top in self.tops[1:]])

    def split_half(self, dropped: frozenset[tuple[int, int]]) -> SplitHalf | None:
        """The overlap of the halves' circuits; None if a side has a single prompt."""
        if min(self.sets[0].sizes) < 2:
            return None
        odd, even = (set(half.best()) - dropped for half in self.halves)
        total = sum(len(kept[0]) for kept in self._kept.values())
        return SplitHalf(overlap(odd, even), expected_overlap(self.k, total))


def _routed(activations: mx.array, count: int, width: int) -> mx.array:
    """The share of the prompts that go to each expert: where it has an activation."""
    of_experts = activations[:, : count * width].reshape(-1, count, width)
    return (of_experts != 0).any(axis=-1).mean(axis=0)


def universal_neurons(
    bank: Sequence[Sequence[tuple[int, int]]],
) -> frozenset[tuple[int, int]]:
    """The neurons in the lists of nearly all contrasts of a bank."""
    needed = max(1, math.ceil(_UNIVERSAL_SHARE * len(bank)))
    counts = Counter(neuron for best in bank for neuron in best)
    return frozenset(neuron for neuron, count in counts.items() if count >= needed)
