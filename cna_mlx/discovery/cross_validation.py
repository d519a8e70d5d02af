"""Cross-validate the gauge during a discovery."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Neuron
from cna_mlx.discovery.auc import auc
from cna_mlx.discovery.routed import Rows
from cna_mlx.discovery.selection import best_of
from cna_mlx.provenance import Auc

_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """Held-out prompts, by position in their side, and the circuit of the others."""

    circuit: Circuit
    positive: tuple[int, ...]
    negative: tuple[int, ...]


@dataclass(frozen=True)
class HeldOutScores:
    """One gauge for each prompt, along a circuit that was found without it.

    ``layers`` has the AUC of each layer's own neurons alone.
    """

    positive: tuple[float, ...]
    negative: tuple[float, ...]
    layers: dict[int, Auc]

    @property
    def auc(self) -> Auc:
        """How well the gauge separates the sides."""
        return auc(self.positive, self.negative)


class HeldOut:
    """Cross-validation of the gauge during the walk of a discovery.

    Ranks a circuit of ``k`` neurons for each fold from the other folds' prompts, and
    scores the fold's prompts along it. ``fraction`` is the share of a layer's neurons
    in the layer's own circuit. Keeps only the candidates of each layer.
    """

    def __init__(self, sizes: tuple[int, int], k: int, fraction: float) -> None:
        self._sizes, self._k, self._fraction = sizes, k, fraction
        folds = min(_FOLDS, *sizes)
        # every fifth prompt: categories stand in blocks
        self._folds = [
            tuple(np.arange(size) % folds == fold for size in sizes)
            for fold in range(folds)
        ]
        self._kept: list[list[_Candidates]] = [[] for _ in range(folds)]

    @property
    def is_possible(self) -> bool:
        """Whether there are several folds."""
        return len(self._folds) > 1

    @property
    def others(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The prompts of each side that each fold is ranked by; empty if impossible."""
        if not self.is_possible:
            return []
        return [
            (np.flatnonzero(~above), np.flatnonzero(~below))
            for above, below in self._folds
        ]

    def take(
        self, layer: int, positive: Rows, negative: Rows, scores: np.ndarray
    ) -> None:
        """Use one layer's activations of the two sides, [n, d_ff] each.

        Args:
            scores: of each neuron by :attr:`others`, [folds, d_ff].
        """
        if not self.is_possible:
            return
        own = max(1, round(self._fraction * positive.shape[1]))
        best = best_of(scores, self._k)
        found = []
        for held, seen, chosen in zip(self._folds, self.others, best, strict=True):
            columns = mx.array(chosen)
            sides = [side[:, columns] for side in (positive, negative)]
            above, below = (
                side[mx.array(rows)].mean(axis=0)
                for side, rows in zip(sides, seen, strict=True)
            )
            out = (
                side[mx.array(np.flatnonzero(rows))]
                for side, rows in zip(sides, held, strict=True)
            )
            found.append(
                (above - below, *((side - below) * (above - below) for side in out))
            )
        mx.eval(found)
        for kept, values, chosen, (delta, *terms) in zip(
            self._kept, scores, best, found, strict=True
        ):
            kept.append(
                _Candidates(
                    layer,
                    chosen,
                    values[chosen],
                    np.array(delta),
                    tuple(map(np.array, terms)),
                    own,
                )
            )

    def result(self, dropped: frozenset[tuple[int, int]]) -> HeldOutScores | None:
        """The held-out gauges without the universal neurons; None if impossible."""
        if not self.is_possible:
            return None
        layers = [candidates.layer for candidates in self._kept[0]]
        return HeldOutScores(
            *self._gauges(dropped, None),
            {layer: auc(*self._gauges(dropped, layer)) for layer in layers},
        )

    def folds(self, dropped: frozenset[tuple[int, int]]) -> tuple[Fold, ...]:
        """The folds, their circuits without the universal neurons."""
        if not self.is_possible:
            return ()
        return tuple(
            Fold(
                _circuit(kept, self._k, dropped),
                *(tuple(map(int, np.flatnonzero(side))) for side in held),
            )
            for held, kept in zip(self._folds, self._kept, strict=True)
        )

    def _gauges(
        self, dropped: frozenset[tuple[int, int]], only: int | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        values = tuple(np.zeros(size) for size in self._sizes)
        for held, kept in zip(self._folds, self._kept, strict=True):
            chosen = [c for c in kept if only is None or c.layer == only]
            k = self._k if only is None else chosen[0].own
            scale = 0.0
            parts = [np.zeros(int(side.sum())) for side in held]
            for candidates, members in zip(
                chosen, _members(chosen, k, dropped), strict=True
            ):
                scale += float((candidates.delta[members] ** 2).sum())
                for part, products in zip(parts, candidates.terms, strict=True):
                    part += products[:, members].sum(axis=1)
            for side, part, value in zip(held, parts, values, strict=True):
                value[side] = part / scale if scale else 0.0
        return tuple(map(float, values[0])), tuple(map(float, values[1]))


@dataclass(frozen=True)
class _Candidates:
    """A layer's best neurons in one fold, and the held-out prompts' gauge terms.

    The neurons are in ascending order.
    """

    layer: int
    indices: np.ndarray
    scores: np.ndarray
    delta: np.ndarray
    terms: tuple[np.ndarray, ...]
    own: int


def _members(
    chosen: Sequence[_Candidates], k: int, dropped: frozenset[tuple[int, int]]
) -> list[np.ndarray]:
    """The candidates in a circuit of ``k``: a mask for each layer."""
    scores = np.concatenate([candidates.scores for candidates in chosen])
    is_best = np.zeros(len(scores), dtype=bool)
    # stable: equal scores by layer and index, as a discovery ranks them
    is_best[np.argsort(-scores, kind="stable")[:k]] = True
    ends = np.cumsum([len(candidates.scores) for candidates in chosen])
    masks = np.split(is_best, ends[:-1])
    for candidates, mask in zip(chosen, masks, strict=True):
        mask &= [
            (candidates.layer, int(index)) not in dropped
            for index in candidates.indices
        ]
    return masks


def _circuit(
    kept: Sequence[_Candidates], k: int, dropped: frozenset[tuple[int, int]]
) -> Circuit:
    """The members as a circuit, largest score first."""
    ranked = [
        (float(candidates.scores[at]), candidates, int(at))
        for candidates, members in zip(kept, _members(kept, k, dropped), strict=True)
        for at in np.flatnonzero(members)
    ]
    ranked.sort(key=lambda entry: -entry[0])
    return Circuit(
        tuple(
            Neuron(
                candidates.layer,
                int(candidates.indices[at]),
                float(candidates.delta[at]),
            )
            for _, candidates, at in ranked
        )
    )
