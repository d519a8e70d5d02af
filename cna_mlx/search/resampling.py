"""Rank neurons by many draws of prompts in one walk over the layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from cna_mlx.discovery.discover import ranking_of, read_layers
from cna_mlx.discovery.rankings import ALL, Difference, LayerScore, Ranking
from cna_mlx.discovery.routed import Rows, Some
from cna_mlx.discovery.selection import Selection, TopNeurons
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.util.progress import Progress

#: How many pairs of disjoint subsets are drawn of each size.
PAIRS = 25
# Prompts a side of the smallest subsets.
_FEWEST = 4

# Which prompts of the positive and of the negative side.
Draw = tuple[Some, Some]
# Neurons as (layer, index), the highest score first.
Ranked = Sequence[tuple[int, int]]
Pair = tuple[Ranked, Ranked]
Sizes = tuple[int, int]


@dataclass(frozen=True)
class RankedLists:
    """The best neurons by some prompts of a contrast, and by other contrasts.

    Attributes:
        full: by all prompts.
        halves: by the odd and by the even ones.
        bootstrap: by prompts that are drawn with replacement.
        subsets: by two disjoint subsets of so many prompts a side.
        others, bank: by other contrasts.
        read: how many prompts went through the model.
    """

    full: Ranked
    halves: Pair
    bootstrap: Sequence[Ranked]
    subsets: dict[Sizes, Sequence[Pair]]
    others: Sequence[Ranked]
    bank: Sequence[Ranked]
    read: int


@dataclass(frozen=True)
class _Set:
    """A contrast with the draws that it is ranked by."""

    prompts: PromptSet
    ranking: Ranking
    draws: Sequence[Draw]
    tops: list[TopNeurons] = field(default_factory=list)

    def take(self, layer: int, activations: Rows, score: LayerScore) -> None:
        """Use one layer's activations of both sides, [n_prompts, d_ff]."""
        middle = len(self.prompts.positive)
        of = partial(score, activations[:middle], activations[middle:])
        for draw, top in zip(self.draws, self.tops, strict=True):
            top.take(layer, np.array(of(*draw)))


def rank_draws(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    others: Sequence[PromptSet],
    bank: Sequence[PromptSet],
    selection: Selection,
    rendering: Rendering,
    *,
    k: int,
    resamples: int,
    seed: int,
    progress: Progress,
) -> RankedLists:
    """Rank the neurons by many draws of a contrast's prompts, in one walk.

    Args:
        others, bank: contrasts that are ranked by all their prompts; the bank as a
            discovery's.
        k: the length of the lists.
        resamples: how often the prompts are drawn with replacement.
        seed: of all draws.
    """
    sets = [contrast, *others, *bank]
    texts = [[*one.positive, *one.negative] for one in sets]
    ids = [[render_prompt(tokenizer, one, rendering) for one in part] for part in texts]
    simple = Difference(model, "delta" if selection.is_signed else selection.rank)
    rankings: list[Ranking] = [simple] * len(sets)
    if selection.is_signed:
        for number, one in enumerate(sets[: 1 + len(others)]):
            rankings[number], _ = ranking_of(
                *(model, tokenizer, one, selection, rendering),
                *(ids[number], k, None, progress),
            )
    sizes = subset_sizes(contrast.sizes)
    whole: list[Draw] = [(ALL, ALL)]
    draws = [_draws(contrast.sizes, sizes, resamples, seed), *[whole] * len(sets[1:])]
    walked = [
        _Set(one, ranking, own, [TopNeurons(k) for _ in own])
        for one, ranking, own in zip(sets, rankings, draws, strict=True)
    ]
    read = [row for part in ids for row in part]
    _walk(model, walked, read, selection, progress)
    found = iter([top.best() for one in walked for top in one.tops])
    full, odd, even = islice(found, 3)
    return RankedLists(
        full,
        (odd, even),
        list(islice(found, resamples)),
        {size: [(next(found), next(found)) for _ in range(PAIRS)] for size in sizes},
        list(islice(found, len(others))),
        list(found),
        len(read),
    )


def subset_sizes(sides: Sizes) -> list[Sizes]:
    """From 4 prompts a side, doubled, to half of each side."""
    half = sides[0] // 2, sides[1] // 2
    few = [_FEWEST << n for n in range(16) if _FEWEST << n < min(half)]
    return [*((one, one) for one in few), half]


def _draws(
    sides: Sizes, sizes: Sequence[Sizes], resamples: int, seed: int
) -> list[Draw]:
    """All prompts, the odd and the even ones, the resamples, the subsets in pairs."""
    random = np.random.default_rng(seed)
    odd, even = slice(0, None, 2), slice(1, None, 2)
    draws: list[Draw] = [(ALL, ALL), (odd, odd), (even, even)]
    for _ in range(resamples):
        one, other = (random.integers(side, size=side) for side in sides)
        draws.append((one, other))
    random = np.random.default_rng([seed, 1])  # whatever the number of resamples
    for size in sizes:
        for _ in range(PAIRS):
            mixed = [random.permutation(side) for side in sides]
            for part in (0, 1):
                one, other = (
                    rows[part * count : (part + 1) * count]
                    for rows, count in zip(mixed, size, strict=True)
                )
                draws.append((one, other))
    return draws


def _walk(
    model: Any,
    sets: Sequence[_Set],
    ids: Sequence[Sequence[int]],
    selection: Selection,
    progress: Progress,
) -> None:
    first, last = selection.band(len(widths(model)))
    contrasts = [one.prompts for one in sets]
    for layer, read in read_layers(model, contrasts, ids, selection, progress):
        if first <= layer <= last:
            scores = {id(one.ranking): one.ranking.at(layer) for one in sets}
            read = read if read.ndim == 2 else read.mean(axis=1)
            start = 0
            for one in sets:
                end = start + sum(one.prompts.sizes)
                one.take(layer, read[start:end], scores[id(one.ranking)])
                start = end
        del read  # before the next layer's are made
