"""Select a circuit's neurons, and measure how much two circuits share."""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from cna_mlx.errors import InputError

DEFAULT_FRACTION = 0.001
# Below it, fewer than two in five neurons are found in both halves.
LOW_OVERLAP = 0.25

Rank = Literal[
    "delta", "normalized", "weighted", "residual", "direct", "influence", "causal"
]
#: The part of the layers, from the last one, that a rank leaves out unless told: late
#: neurons write words more than they decide. The other ranks are of all layers.
_LATE = {"residual": 2 / 5, "direct": 1 / 10, "influence": 1 / 3, "causal": 1 / 3}


@dataclass(frozen=True)
class Selection:
    """Which neurons to keep.

    Attributes:
        fraction: of all the model's neurons, in (0, 1].
        rank: the score: ``delta`` is |delta|, the paper's; ``normalized`` divides it
            by the RMS activation of its layer; ``weighted`` multiplies it by the norm
            of the neuron's ``down_proj`` column. The others are signed, positive where
            ablation lowers the refusal, or for ``residual`` the difference of the
            residual stream: see :mod:`cna_mlx.discovery.rankings`.
        layers: first and last layer to rank within; None for all, or for ``direct``
            all but the last tenth, for ``influence`` and ``causal`` the last third,
            for ``residual`` the last two fifths.
        universal: leave out neurons that respond to every contrast.
        positions: score at so many of the prompt's last tokens.
    """

    fraction: float = DEFAULT_FRACTION
    rank: Rank = "delta"
    layers: tuple[int, int] | None = None
    universal: bool = True
    positions: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.fraction, int | float) and 0 < self.fraction <= 1):
            raise InputError(
                f"fraction {self.fraction} is out of range: give a share of the "
                "neurons above 0 and up to 1, such as 0.001"
            )
        if self.rank not in get_args(Rank):
            raise InputError(
                f"rank {self.rank!r} is unknown: choose {', '.join(get_args(Rank))}"
            )
        if type(self.positions) is not int or self.positions < 1:
            raise InputError(
                f"positions {self.positions} is out of range: give the number of last "
                "prompt tokens, from 1"
            )

    @property
    def is_signed(self) -> bool:
        """Whether the score says what a neuron decides, and its sign which way."""
        return self.rank in _LATE

    @property
    def reads_answers(self) -> bool:
        """Whether the score rests on how the model's own refusals begin."""
        return self.is_signed and self.rank != "residual"

    def identity(self) -> dict[str, Any]:
        """What decides the choice, for a cache key."""
        values = asdict(self)
        if self.positions == 1:  # the key of versions without positions
            del values["positions"]
        return values

    def k(self, sizes: Sequence[int]) -> int:
        """The number of neurons in a model of these widths.

        Raises:
            InputError: the layers do not exist, or have fewer.
        """
        k = max(1, round(self.fraction * sum(sizes)))
        first, last = self.band(len(sizes))
        held = sum(sizes[first : last + 1])
        if k > held:
            raise InputError(
                f"fraction {self.fraction} is {k} neurons, but layers {first}-{last} "
                f"hold {held}: take a smaller fraction or a wider band"
            )
        return k

    def band(self, n_layers: int) -> tuple[int, int]:
        """The first and the last ranked layer; InputError if they do not exist."""
        late = round(_LATE.get(self.rank, 0) * n_layers)
        first, last = self.layers or (0, n_layers - 1 - late)
        if not 0 <= first <= last < n_layers:
            raise InputError(
                f"layers {first}-{last}: the model has layers 0-{n_layers - 1}"
            )
        return first, last


class TopNeurons:
    """The running top k of one or more rankings, fed layer by layer from the first."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._held: tuple[np.ndarray, ...] = ()  # layers, indices, scores

    def take(self, layer: int, scores: np.ndarray) -> None:
        """Use a layer's scores, [d_ff], or [rankings, d_ff]."""
        scores = np.atleast_2d(scores)
        best = best_of(scores, self._k)
        found = np.take_along_axis(scores, best, 1)
        new: tuple[np.ndarray, ...] = np.full_like(best, layer), best, found
        if self._held:
            pairs = zip(self._held, new, strict=True)
            new = tuple(np.concatenate(pair, axis=1) for pair in pairs)
        kept = best_of(new[2], self._k)
        self._held = tuple(np.take_along_axis(part, kept, 1) for part in new)

    def best(self, ranking: int = 0) -> list[tuple[int, int]]:
        """The k neurons with the highest scores, the highest first."""
        return list(self.scores(ranking))

    def scores(self, ranking: int = 0) -> dict[tuple[int, int], float]:
        """These neurons with their scores."""
        layers, indices, scores = (part[ranking] for part in self._held)
        # stable, so that equal scores stay in the order of layer and index
        order = np.argsort(-scores, kind="stable")
        return {(int(layers[i]), int(indices[i])): float(scores[i]) for i in order}


def best_of(scores: np.ndarray, k: int) -> np.ndarray:
    """The places of the k highest scores of each ranking, in ascending order.

    The first of equal scores count; NaN is the lowest score.

    Args:
        scores: [rankings, n].

    Returns:
        [rankings, min(k, n)].
    """
    rankings, n = scores.shape
    if k >= n:
        return np.tile(np.arange(n), (rankings, 1))
    if np.isnan(scores).any():
        scores = np.where(np.isnan(scores), -np.inf, scores)
    least = np.partition(scores, n - k, axis=1)[:, n - k, None]
    above, equal = scores > least, scores == least
    missing = k - above.sum(axis=1, keepdims=True)
    is_best = above | (equal & (equal.cumsum(axis=1) <= missing))
    return np.nonzero(is_best)[1].reshape(rankings, k)


@dataclass(frozen=True)
class SplitHalf:
    """Jaccard overlap of the circuits of the odd and even prompts, and by chance."""

    jaccard: float
    chance: float

    @property
    def is_low(self) -> bool:
        """Whether the circuit depends on which prompts it is found from."""
        # twice what chance gives, or halfway from there to the same neurons
        beyond_chance = min(2 * self.chance, (1 + self.chance) / 2)
        return self.jaccard < max(LOW_OVERLAP, beyond_chance)


def expected_overlap(k: int, total: int, other: int | None = None) -> float:
    """About the Jaccard overlap of random sets of ``k`` and ``other`` of ``total``.

    The expected number of shared members is k * other / total (hypergeometric mean).
    """
    other = k if other is None else other
    return jaccard(k * other / total, k, other)


def jaccard(shared: float, one: int, other: int) -> float:
    """The Jaccard index of sets of these sizes; 1 for two empty sets."""
    return shared / (one + other - shared) if one or other else 1.0


def overlap(a: Set[object], b: Set[object]) -> float:
    """The Jaccard index: shared members over all members; 1 for two empty sets."""
    return jaccard(len(a & b), len(a), len(b))
