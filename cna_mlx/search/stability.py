"""Measure how much a circuit depends on its prompts, its size and the filter."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.selection import (
    Rank,
    Selection,
    expected_overlap,
    overlap,
)
from cna_mlx.discovery.session import Session
from cna_mlx.discovery.walk import universal_neurons
from cna_mlx.errors import InputError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.provenance import ModelEntry
from cna_mlx.search.resampling import Pair, Ranked, RankedLists, rank_draws
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import JsonFields

#: Shares of the neurons whose circuits are compared.
FRACTIONS = (0.0001, 0.0003, 0.001, 0.003, 0.01)
#: What share of the resamples choose a neuron often, and mostly.
OFTEN, MOSTLY = 0.9, 0.5


@dataclass(frozen=True)
class Overlaps(JsonFields):
    """Jaccard overlaps of several pairs of circuits.

    Attributes:
        mean, low, high: their mean, the least and the largest.
        chance: the expected overlap of random circuits.
    """

    mean: float
    low: float
    high: float
    chance: float


class NeuronFrequency(NamedTuple):
    """A neuron of the circuit, and the share of the resamples that choose it.

    ``name`` is its index, or of a mixture ``EXPERT:NUMBER``.
    """

    layer: int
    index: int  # type: ignore[assignment]  # the field hides tuple.index
    frequency: float
    name: str


@dataclass(frozen=True)
class SubsetOverlaps(JsonFields):
    """Circuits from subsets of the prompts.

    Attributes:
        prompts: how many on each side.
        disjoint: overlaps of the circuits of two disjoint subsets.
        circuit: overlaps with the circuit of all prompts.
    """

    prompts: tuple[int, int]
    disjoint: Overlaps
    circuit: Overlaps


@dataclass(frozen=True)
class FractionOverlaps(JsonFields):
    """Circuits of ``k`` neurons: overlaps of two disjoint halves of the prompts."""

    fraction: float
    k: int
    halves: Overlaps


@dataclass(frozen=True)
class ContrastOverlap(JsonFields):
    """The circuit of another contrast, and its overlap with the circuit."""

    name: str
    prompts: tuple[int, int]
    jaccard: float


@dataclass(frozen=True)
class FilterOverlaps(JsonFields):
    """The overlaps with or without the universal filter."""

    neurons: int
    bootstrap: Overlaps
    halves: Overlaps


@dataclass(frozen=True)
class Stability(JsonFields):
    """How much a circuit depends on what it is found from.

    Attributes:
        model: as it was loaded.
        prompts: how many on each side of the contrast.
        layers: the first and the last ranked layer.
        k: the circuit's size before the universal filter.
        total: how many neurons are ranked.
        universal: whether universal neurons are left out.
        neurons: the circuit's, the highest score first.
        odd_even: the overlap that a discovery reports, of odd and even prompts.
        bootstrap: overlaps of the resamples' circuits with the circuit.
        subsets: from few prompts to half of them.
        others: circuits of other contrasts.
        bank: overlaps with the circuits of contrasts that have nothing to do with the
            behaviour; None without the filter, and for ranks that read answers.
        unfiltered: without the filter; None if it was off.
        read: how many prompts went through the model.
        seconds: wall time.
    """

    model: str
    contrast: str
    prompts: tuple[int, int]
    fraction: float
    rank: Rank
    layers: tuple[int, int]
    positions: int
    k: int
    total: int
    universal: bool
    resamples: int
    seed: int
    neurons: tuple[NeuronFrequency, ...]
    odd_even: float
    bootstrap: Overlaps
    subsets: tuple[SubsetOverlaps, ...]
    fractions: tuple[FractionOverlaps, ...]
    others: tuple[ContrastOverlap, ...]
    bank: Overlaps | None
    unfiltered: FilterOverlaps | None
    read: int
    seconds: float

    @property
    def halves(self) -> Overlaps:
        """Overlaps of the circuits of two random halves of the prompts."""
        return self.subsets[-1].disjoint

    def chosen(self, share: float) -> int:
        """How many of the circuit's neurons this share of the resamples choose."""
        return sum(one.frequency >= share for one in self.neurons)

    def tenths(self) -> list[int]:
        """How many of the neurons are chosen in 0 to 10%, ... 90 to 100%."""
        found = [0] * 10
        for one in self.neurons:
            found[min(9, int(10 * one.frequency))] += 1
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        counts = {"chosen_in_90_percent": OFTEN, "chosen_in_50_percent": MOSTLY}
        named = {name: self.chosen(share) for name, share in counts.items()}
        return {**super().to_dict(), **named}


@wired()
def stability(
    model: Any,
    tokenizer: Any,
    options: DiscoveryOptions | None = None,
    *,
    others: str | PromptSet | Sequence[str | PromptSet] = (),
    rendering: Rendering | None = None,
    resamples: int = 100,
    seed: int = 0,
    progress: Progress = silent,
) -> Stability:
    """Measure how much a circuit depends on its prompts, its size and the filter.

    The circuit is found again from resampled prompts, from fewer and from others; the
    prompts go through the layers once.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        options: the contrast and how its neurons are ranked.
        others: further contrasts whose circuits are compared with the circuit.
        rendering: how prompts become token ids.
        resamples: how often both sides are drawn with replacement.
        seed: of all draws.
        progress: called after each layer.

    Raises:
        InputError: as :func:`cna_mlx.discover`; a side with a single prompt; the rank
            ``causal``.
    """
    started = time.perf_counter()
    options = options or DiscoveryOptions()
    name = Session.of(model, tokenizer).name
    contrast, selection = options.prompts(name), options.selection(name)
    _check(contrast, selection, resamples)
    widest = widths(model)
    layers, ks = selection.band(len(widest)), _circuit_sizes(selection, widest)
    total = sum(widest[layers[0] : layers[1] + 1])
    several = [others] if isinstance(others, str | PromptSet) else others
    further = [load_contrast(one) if isinstance(one, str) else one for one in several]
    bank = load_bank() if selection.universal else []
    lists = rank_draws(
        *(model, tokenizer, contrast, further, bank),
        *(selection, rendering or Rendering()),
        k=max(ks.values()),
        resamples=resamples,
        seed=seed,
        progress=progress,
    )
    k = ks[selection.fraction]
    own = _Measured.of(lists, k, total)
    raw = _Measured(lists, k, total)
    halves = list(lists.subsets.values())[-1]
    related = selection.universal and not selection.is_signed
    return Stability(
        name,
        contrast.name,
        contrast.sizes,
        selection.fraction,
        selection.rank,
        layers,
        selection.positions,
        k,
        total,
        selection.universal,
        resamples,
        seed,
        own.frequencies(_entry(model)),
        own.overlaps([lists.halves]).mean,
        own.with_circuit(lists.bootstrap),
        tuple(
            SubsetOverlaps(
                size,
                own.overlaps(pairs),
                own.with_circuit(one for pair in pairs for one in pair),
            )
            for size, pairs in lists.subsets.items()
        ),
        tuple(
            FractionOverlaps(
                fraction, size, _Measured.of(lists, size, total).overlaps(halves)
            )
            for fraction, size in ks.items()
        ),
        tuple(
            ContrastOverlap(one.name, one.sizes, own.with_circuit([found]).mean)
            for one, found in zip(further, lists.others, strict=True)
        ),
        own.with_circuit(lists.bank) if related else None,
        raw.summary(halves) if selection.universal else None,
        lists.read,
        time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Measured:
    """Circuits of ``k`` neurons of ``total``, less the dropped ones."""

    lists: RankedLists
    k: int
    total: int
    dropped: frozenset[tuple[int, int]] = frozenset()

    @classmethod
    def of(cls, lists: RankedLists, k: int, total: int) -> "_Measured":
        """With the universal neurons of this size dropped, if there is a bank."""
        bank = [one[:k] for one in lists.bank]
        dropped = universal_neurons(bank) if bank else frozenset()
        return cls(lists, k, total, dropped)

    def circuit(self, ranked: Ranked) -> list[tuple[int, int]]:
        """The circuit of a ranked list."""
        return [one for one in ranked[: self.k] if one not in self.dropped]

    def overlaps(self, pairs: Iterable[Pair]) -> Overlaps:
        """The overlaps of pairs of circuits."""
        found = [overlap(*(set(self.circuit(one)) for one in pair)) for pair in pairs]
        chance = expected_overlap(self.k, self.total)
        return Overlaps(fmean(found), min(found), max(found), chance)

    def with_circuit(self, ranked: Iterable[Ranked]) -> Overlaps:
        """The overlaps of circuits with that of all prompts."""
        return self.overlaps((one, self.lists.full) for one in ranked)

    def frequencies(self, model: ModelEntry) -> tuple[NeuronFrequency, ...]:
        """How often the resamples choose each neuron of the circuit."""
        several = self.lists.bootstrap
        counts = Counter(one for ranked in several for one in self.circuit(ranked))
        return tuple(
            NeuronFrequency(*one, counts[one] / len(several), model.neuron_name(*one))
            for one in self.circuit(self.lists.full)
        )

    def summary(self, halves: Iterable[Pair]) -> FilterOverlaps:
        """The overlaps of resamples and of halves."""
        size = len(self.circuit(self.lists.full))
        resampled = self.with_circuit(self.lists.bootstrap)
        return FilterOverlaps(size, resampled, self.overlaps(halves))


def _entry(model: Any) -> ModelEntry:
    """What the names of neurons rest on."""
    return ModelEntry(d_ff=widths(model), experts=experts_of(model))


def _check(contrast: PromptSet, selection: Selection, resamples: int) -> None:
    if selection.rank == "causal":
        raise InputError(
            "--rank causal ablates neurons on eight prompts only, so there is nothing "
            "to resample: choose another --rank, such as influence"
        )
    if min(contrast.sizes) < 2:
        raise InputError(
            f"{contrast.name}: a side has one prompt, which has no halves; give at "
            "least two prompts a side"
        )
    if resamples < 1:
        raise InputError(f"resamples {resamples} is out of range: give 1 or more")


def _circuit_sizes(selection: Selection, widest: Sequence[int]) -> dict[float, int]:
    """The fractions that are at least a neuron and fit the layers, with their k."""
    first, last = selection.band(len(widest))
    held = sum(widest[first : last + 1])
    sizes = {one: round(one * sum(widest)) for one in FRACTIONS}
    sizes = {one: size for one, size in sizes.items() if 1 <= size <= held}
    sizes[selection.fraction] = selection.k(widest)
    return dict(sorted(sizes.items()))
