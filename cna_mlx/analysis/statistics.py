"""Rates, means and changes with 95% intervals, and an exact test for paired flips."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cna_mlx.errors import InputError
from cna_mlx.labels.label import Label, LabelKind
from cna_mlx.util.records import JsonFields

_Z95 = 1.959963984540054
_RESAMPLES = 2000
_SEED = 20260512


@dataclass(frozen=True)
class Interval(JsonFields):
    """A figure with its 95% interval (NaN if unknown), from n observations."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Proportion(JsonFields):
    """A share of n with its 95% interval; for n = 0 it is NaN, from 0 to 1."""

    successes: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedChange(JsonFields):
    """How a property of the same items changed, e.g. which prompts are refused.

    Attributes:
        both, neither: items that have it before and after, or neither time.
        lost, gained: items that have it only before, or only after.
        before, after: the two rates.
        points: after minus before, in percentage points.
        relative: after minus before, as a share of before; None if before is 0.
        p: of the exact McNemar test: the probability of flips at least this uneven
            if each direction were equally likely.
    """

    both: int
    lost: int
    gained: int
    neither: int
    before: Proportion
    after: Proportion
    points: Interval
    relative: Interval | None
    p: float

    @property
    def n(self) -> int:
        """How many items were seen twice."""
        return self.both + self.lost + self.gained + self.neither

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, rates and intervals for JSON."""
        return {"n": self.n, **super().to_dict()}


def wilson(successes: int, n: int) -> Proportion:
    """A rate with Wilson's score interval, which also holds at 0 and at n.

    Raises:
        InputError: not 0 <= successes <= n.

    Source: Wilson (Journal of the American Statistical Association 22, 1927);
    recommended by Brown, Cai and DasGupta (Statistical Science 16, 2001).
    """
    if not 0 <= successes <= n:
        raise InputError(f"{successes} of {n} is not a share: count again")
    if n == 0:
        return Proportion(0, 0, math.nan, 0.0, 1.0)
    return Proportion(successes, n, successes / n, *_wilson(successes, n, _Z95))


def paired_change(before: Sequence[bool], after: Sequence[bool]) -> PairedChange:
    """How a property of the same items changed, e.g. which prompts are refused.

    The interval of the difference is Newcombe's method 10, which joins Wilson's
    intervals of the two rates by their correlation. That of the relative change is
    Bonett and Price's, also made of Wilson's intervals.

    Raises:
        InputError: different lengths.

    Source: Newcombe (Statistics in Medicine 17, 1998, pp. 2635-2650), method 10;
    Bonett and Price (Computational Statistics & Data Analysis 50, 2006, pp. 3001-3011)
    for the ratio of paired proportions; McNemar (Psychometrika 12, 1947), exact.
    """
    if len(before) != len(after):
        raise InputError(
            f"{len(before)} items before and {len(after)} after; pair the same items"
        )
    pairs = [(bool(x), bool(y)) for x, y in zip(before, after, strict=True)]
    both, lost = pairs.count((True, True)), pairs.count((True, False))
    gained, neither = pairs.count((False, True)), pairs.count((False, False))
    n = len(pairs)
    return PairedChange(
        both,
        lost,
        gained,
        neither,
        wilson(both + lost, n),
        wilson(both + gained, n),
        _difference(both, gained, lost, neither),
        _relative(both, lost, gained, n),
        mcnemar_exact(lost, gained),
    )


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return the two-sided p of uneven flips, from the binomial distribution.

    It is the probability of flips at least this uneven if both directions were equally
    likely; 1 if nothing flipped.
    """
    n, fewer = lost + gained, min(lost, gained)
    tail = sum(math.comb(n, i) for i in range(fewer + 1))
    # a quotient of integers, rounded once; a Fraction, as the power outgrows a float
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with a percentile bootstrap interval; deterministic.

    Quality piles up at 1 and KL has a long tail. The bootstrap assumes no normal
    distribution and stays within the range of the values. It is slightly too narrow
    for fewer than about 20 values.

    Args:
        values: one for each item; an empty list gives no value, a single one no
            interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13;
    2,000 resamples.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    if n == 1:
        return Interval(float(data[0]), math.nan, math.nan, 1)
    drawn = np.random.default_rng(_SEED).integers(0, n, (_RESAMPLES, n))
    low, high = np.quantile(data[drawn].mean(axis=1), (0.025, 0.975))
    return Interval(float(data.mean()), float(low), float(high), n)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation; equal values share the mean of their ranks.

    Returns:
        Between -1 and 1; None for fewer than two items or a list of equal values.

    Raises:
        InputError: different lengths.
    """
    if len(x) != len(y):
        raise InputError(f"{len(x)} values against {len(y)}; pair the same items")
    if len(x) < 2:
        return None
    ranks = [_ranks(np.asarray(side, dtype=np.float64)) for side in (x, y)]
    a, b = (rank - rank.mean() for rank in ranks)
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / scale)) if scale else None


def _wilson(successes: int, n: int, z: float) -> tuple[float, float]:
    center = (successes + z * z / 2) / (n + z * z)
    variance = successes * (n - successes) / n + z * z / 4
    half = z / (n + z * z) * math.sqrt(variance)
    # exactly, where rounding would miss the ends
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return low, high


def _difference(both: int, first: int, second: int, neither: int) -> Interval:
    """Newcombe's method 10 for p1 - p2, in percentage points.

    ``first`` counts the items of 1 alone, ``second`` those of 2 alone.
    """
    n = both + first + second + neither
    if n == 0:
        return Interval(math.nan, -100.0, 100.0, 0)
    one, two = wilson(both + first, n), wilson(both + second, n)
    phi = _phi(both, first, second, neither)

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))

    value = (first - second) / n
    low = value - distance(one.value - one.low, two.high - two.value)
    high = value + distance(one.high - one.value, two.value - two.low)
    return Interval(100 * value, 100 * max(-1.0, low), 100 * min(1.0, high), n)


def _phi(both: int, first: int, second: int, neither: int) -> float:
    """The correlation of two properties, a positive one drawn towards 0."""
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    product: float = both * neither - first * second
    if product > 0:
        product = max(0.0, product - (both + first + second + neither) / 2)
    return product / math.sqrt(margins) if margins else 0.0


def _relative(both: int, lost: int, gained: int, n: int) -> Interval | None:
    """Bonett and Price's interval of after / before, less 1."""
    before, after = both + lost, both + gained
    if before == 0:
        return None
    m = both + lost + gained
    spread = math.sqrt((lost + gained + 2) / ((after + 1) * (before + 1)))
    apart = sum(math.sqrt((1 - (x + 1) / (m + 2)) / (x + 1)) for x in (after, before))
    z = _Z95 * spread / apart
    one, two = _wilson(after, m, z), _wilson(before, m, z)
    return Interval(after / before - 1, one[0] / two[1] - 1, one[1] / two[0] - 1, n)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def label_shares(labels: Iterable[Label]) -> dict[LabelKind, Proportion]:
    """Return the share of each label, with Wilson's 95% interval."""
    counts = Counter(label.kind for label in labels)
    return {kind: wilson(counts[kind], counts.total()) for kind in LabelKind}
