"""The scores that rank neurons: what tells two sides apart, and what decides.

One score serves the circuit, its odd and even halves, its folds and the bank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.routed import RoutedRows, Rows, Some
from cna_mlx.discovery.selection import Rank
from cna_mlx.discovery.weight_norms import column_norms, columns_along
from cna_mlx.models.families import downs, family_of

# (positive, negative, some, others): the sides' activations, [n, d_ff] each, and which
# prompts of them to use -> the score of each neuron of a layer, [d_ff] in float32.
# It is not evaluated: a walk evaluates a layer's scores together.
LayerScore = Callable[[Rows, Rows, Some, Some], mx.array]
ALL = slice(None)


class Ranking(Protocol):
    """A score of neurons."""

    def at(self, layer: int) -> LayerScore:
        """The score in one layer."""


def _written(model: Any, layer: int) -> tuple[list[Any], mx.array | None]:
    """A layer's down-projections, and what a norm multiplies their output by."""
    return downs(model, layer), family_of(model).written(model, layer)


@dataclass(frozen=True)
class Difference:
    """|delta|, the paper's score, or a variant of it; see :class:`Selection`."""

    model: Any
    rank: Rank = "delta"

    def at(self, layer: int) -> LayerScore:
        weights = None
        if self.rank == "weighted":
            weights = column_norms(*_written(self.model, layer))
        return partial(self._score, weights)

    def _score(
        self,
        weights: mx.array | None,
        positive: Rows,
        negative: Rows,
        some: Some,
        others: Some,
    ) -> mx.array:
        positive, negative = take(positive, some), take(negative, others)
        score = mx.abs(positive.mean(axis=0) - negative.mean(axis=0))
        if self.rank == "normalized":
            square = _mean_square(positive, negative)
            score = score / mx.maximum(mx.sqrt(square), 1e-30)
        elif weights is not None:
            score = score * weights
        return score


@dataclass(frozen=True)
class Direct:
    """delta times the part of the neuron's column along a direction, [hidden]."""

    model: Any
    direction: mx.array

    def at(self, layer: int) -> LayerScore:
        along = columns_along(*_written(self.model, layer), self.direction)
        return lambda *sides: _delta(*sides) * along


@dataclass(frozen=True)
class Residual:
    """delta times the column's part along the residual stream's mean difference.

    That is how far the difference falls, along itself and directly, when the neuron's
    own difference goes.

    Attributes:
        stream: after the last ranked layer, for each side, [n, hidden] in float32.
    """

    model: Any
    stream: tuple[mx.array, mx.array]

    def at(self, layer: int) -> LayerScore:
        written = _written(self.model, layer)
        above, below = (columns_along(*written, side) for side in self.stream)

        def score(positive: Rows, negative: Rows, some: Some, others: Some) -> mx.array:
            length = mx.linalg.norm(_delta(*self.stream, some, others))
            along = _delta(above, below, some, others) / mx.maximum(length, 1e-30)
            return _delta(positive, negative, some, others) * along

        return score


@dataclass(frozen=True)
class Influence:
    """delta times the mean gradients over both sides (arXiv 2605.08513, Eq. 3).

    Neurons that are more active on the negative prompts come last, as in the source:
    ablation moves them away from their negative mean, not to it.

    Attributes:
        gradients: of each layer and side, [n, d_ff].
    """

    gradients: Mapping[int, tuple[Rows, Rows]]

    def at(self, layer: int) -> LayerScore:
        above, below = self.gradients[layer]

        def score(positive: Rows, negative: Rows, some: Some, others: Some) -> mx.array:
            slope = take(above, some).mean(axis=0) + take(below, others).mean(axis=0)
            means = (
                take(positive, some).mean(axis=0),
                take(negative, others).mean(axis=0),
            )
            found = slope * (means[0] - means[1])
            return mx.where(mx.abs(means[0]) > mx.abs(means[1]), found, -mx.inf)

        return score


@dataclass(frozen=True)
class Causal:
    """The mean effect of ablating a neuron alone; -inf where it was not tried.

    Attributes:
        prompts: the positive prompts that were tried, by position.
        candidates: the neurons of each layer that were tried.
        effects: of each layer, [prompts, candidates].
    """

    prompts: Sequence[int]
    candidates: Mapping[int, np.ndarray]
    effects: Mapping[int, np.ndarray]

    def at(self, layer: int) -> LayerScore:
        return partial(self._score, layer)

    def _score(
        self,
        layer: int,
        positive: Rows,
        negative: Rows,
        some: Some,
        others: Some,
    ) -> mx.array:
        scores = np.full(positive.shape[1], -np.inf, np.float32)
        if layer in self.candidates:
            held = np.isin(self.prompts, np.arange(len(positive))[some])
            found = self.effects[layer]
            mean = (found[held] if held.any() else found).mean(axis=0)
            scores[self.candidates[layer]] = mean
        return mx.array(scores)


def take(array: Any, some: Some) -> Any:
    """Some rows of an array, or of what a mixture's prompts went to."""
    if isinstance(some, slice) or isinstance(array, RoutedRows):
        return array[some]
    return array[mx.array(some)]


def _mean_square(positive: Rows, negative: Rows) -> mx.array:
    """The mean square of all values of both sides."""
    if isinstance(positive, mx.array) and isinstance(negative, mx.array):
        return mx.concatenate([positive, negative]).square().mean()
    sides = [side for side in (positive, negative) if isinstance(side, RoutedRows)]
    count = sum(len(side) * side.d_ff for side in sides)
    return mx.array(sum(side.squares() for side in sides) / count)


def _delta(positive: Rows, negative: Rows, some: Some, others: Some) -> mx.array:
    found: mx.array = take(positive, some).mean(axis=0)
    return found - take(negative, others).mean(axis=0)
