"""Rates, means and changes with 95% intervals that hold for few items, exact tests."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np

from cna_mlx.errors import InputError
from cna_mlx.labels.label import Label, LabelKind
from cna_mlx.util.records import JsonFields

_TAIL = 0.025  # outside either end of a 95% interval
_DRAWS = 4000
_SEED = 20260512
_ANSWERS = (LabelKind.ANSWERED, LabelKind.PARTIAL)


@dataclass(frozen=True)
class Interval(JsonFields):
    """A figure with its 95% interval (NaN if it has none), from n observations."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def bare(cls, value: float, n: int) -> "Interval":
        """A figure without an interval."""
        return cls(value, math.nan, math.nan, n)


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
    """How refusals of the same prompts changed. Prompts that one side leaves UNJUDGED
    are left out.

    Attributes:
        both: prompts refused before and after.
        lost: refused before, answered after (ANSWERED or PARTIAL).
        gained: answered before, refused after.
        ruined: refused before, INVALID after: damage, not a refusal lost.
        restored: INVALID before, refused after.
        neither: refused neither time.
        before, after: the two refusal rates, of these prompts.
        points: gained less lost, per 100 prompts.
        relative: gained less lost, as a share of the refusals before, without an
            interval; None if there were none.
        p: of the exact McNemar test: the probability of flips (lost and gained) at
            least this uneven if each direction were equally likely.
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
    ruined: int = 0
    restored: int = 0

    @property
    def n(self) -> int:
        """How many prompts were judged twice."""
        return self.before.n

    @property
    def net(self) -> int:
        """Refusals lost less refusals gained."""
        return self.lost - self.gained

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, rates and intervals for JSON."""
        return {"n": self.n, **super().to_dict()}


@cache
def proportion(successes: int, n: int) -> Proportion:
    """A rate with the exact interval, which holds for every n and every rate.

    Raises:
        InputError: not 0 <= successes <= n.

    Source: Clopper and Pearson (Biometrika 26, 1934).
    """
    if not 0 <= successes <= n:
        raise InputError(f"{successes} of {n} is not a share: count again")
    if n == 0:
        return Proportion(0, 0, math.nan, 0.0, 1.0)
    low = 1 - _upper_limit(n - successes, n)
    return Proportion(successes, n, successes / n, low, _upper_limit(successes, n))


def paired_change(
    before: Sequence[LabelKind], after: Sequence[LabelKind]
) -> PairedChange:
    """How refusals of the same prompts changed, from their labels.

    The interval of the change joins the exact intervals of the shares lost and gained
    by the correlation that counts of one multinomial sample have.

    Raises:
        InputError: different lengths.

    Source: Zou and Donner (Statistics in Medicine 27, 2008, pp. 1693-1702) for joining
    intervals; McNemar (Psychometrika 12, 1947), exact.
    """
    if len(before) != len(after):
        raise InputError(
            f"{len(before)} items before and {len(after)} after; pair the same items"
        )
    refused, unusable = LabelKind.REFUSED, LabelKind.INVALID
    pairs = [
        pair
        for pair in zip(before, after, strict=True)
        if LabelKind.UNJUDGED not in pair
    ]
    n = len(pairs)
    lost = sum(old is refused and new in _ANSWERS for old, new in pairs)
    gained = sum(old in _ANSWERS and new is refused for old, new in pairs)
    both = pairs.count((refused, refused))
    ruined, restored = (
        pairs.count(pair) for pair in ((refused, unusable), (unusable, refused))
    )
    first = both + lost + ruined
    return PairedChange(
        both,
        lost,
        gained,
        sum(refused not in pair for pair in pairs),
        proportion(first, n),
        proportion(both + gained + restored, n),
        paired_points(lost, gained, n),
        Interval.bare((gained - lost) / first, n) if first else None,
        mcnemar_exact(lost, gained),
        ruined,
        restored,
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


def fisher_exact(returned: int, n: int, others: int, total: int) -> float:
    """Return the one-sided p of a larger share of n than of ``total``: Fisher's test.

    It is the chance of so many of n or more, if the successes were dealt at random.
    """
    successes, every = returned + others, math.comb(n + total, n)
    ways = sum(
        math.comb(successes, k) * math.comb(n + total - successes, n - k)
        for k in range(returned, min(n, successes) + 1)
    )
    return float(Fraction(ways, every))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order.

    The chance that any of them is below 0.05 while nothing happens is at most 0.05.

    Source: Holm (Scandinavian Journal of Statistics 6, 1979, pp. 65-70).
    """
    adjusted, largest = [0.0] * len(values), 0.0
    order = sorted(range(len(values)), key=lambda at: values[at])
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[at]))
        adjusted[at] = largest
    return adjusted


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of values between 0 and 1, with an interval that holds for few of them.

    Rare bad values are often all missed: an interval made of the values seen, such as
    the bootstrap's, is then far too narrow. This one adds the worst value that is
    possible to the sample and weights all values at random (Dirichlet), so it is exact
    for values of 0 and 1 and close to the bootstrap for many values.

    Args:
        values: one for each item; an empty list gives no value.

    Source: Gaffke (2005), as given by Learned-Miller and Thomas (A New Confidence
    Interval for the Mean of a Bounded Random Variable, arXiv 1905.06208, 2019); 4,000
    draws.
    """
    data = np.sort(np.asarray(values, dtype=np.float64))
    n = len(data)
    if n == 0:
        return Interval.bare(math.nan, 0)
    weights = _weights(n)
    lowest = weights @ np.concatenate([[0.0], data])
    highest = weights @ np.concatenate([data, [1.0]])
    low, high = np.quantile(lowest, _TAIL), np.quantile(highest, 1 - _TAIL)
    return Interval(float(data.mean()), float(low), min(1.0, float(high)), n)


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


@cache
def _upper_limit(successes: int, n: int) -> float:
    """The rate at which this few successes, or fewer, have a chance of 2.5%."""
    if successes == n:
        return 1.0
    below, above = successes / n, 1.0
    while (middle := (below + above) / 2) not in (below, above):
        if _tail(successes, n, middle) > _TAIL:
            below = middle
        else:
            above = middle
    return above


def _tail(successes: int, n: int, rate: float) -> float:
    """The chance of at most so many successes."""
    terms = _log_choices(n)[: successes + 1]
    count = np.arange(successes + 1)
    logs = terms + count * math.log(rate) + (n - count) * math.log1p(-rate)
    return float(np.exp(logs).sum())


@cache
def _log_choices(n: int) -> np.ndarray:
    """log(n choose k) for k from 0 to n."""
    steps = np.log(np.arange(n, 0, -1)) - np.log(np.arange(1, n + 1))
    return np.concatenate([[0.0], np.cumsum(steps)])


@lru_cache(4)  # of a megabyte or more each
def _weights(n: int) -> np.ndarray:
    """Random weights of n + 1 sorted values, [draws, n + 1]: each row adds up to 1."""
    return np.random.default_rng(_SEED).dirichlet(np.ones(n + 1), _DRAWS)


def paired_points(lost: int, gained: int, n: int) -> Interval:
    """Gained less lost per 100, with its interval; see :func:`paired_change`."""
    if n == 0:
        return Interval(math.nan, -100.0, 100.0, 0)
    fewer, more = proportion(lost, n), proportion(gained, n)
    odds = math.inf if n in (lost, gained) else _odds(lost, n) * _odds(gained, n)
    correlation = -math.sqrt(min(1.0, odds))

    def distance(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))

    value = more.value - fewer.value
    low = value - distance(more.value - more.low, fewer.high - fewer.value)
    high = value + distance(more.high - more.value, fewer.value - fewer.low)
    return Interval(100 * value, 100 * max(-1.0, low), 100 * min(1.0, high), n)


def _odds(count: int, n: int) -> float:
    return count / (n - count)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def label_shares(labels: Iterable[Label]) -> dict[LabelKind, Proportion]:
    """Return the share of each label; see :func:`kind_shares`."""
    return kind_shares([label.kind for label in labels])


def kind_shares(kinds: Sequence[LabelKind]) -> dict[LabelKind, Proportion]:
    """Return the share of each kind of label among the judged answers, with intervals;
    that of UNJUDGED is of all answers.
    """
    unjudged = kinds.count(LabelKind.UNJUDGED)
    shares: dict[LabelKind, Proportion] = {
        kind: proportion(kinds.count(kind), len(kinds) - unjudged)
        for kind in LabelKind
        if kind is not LabelKind.UNJUDGED
    }
    return {**shares, LabelKind.UNJUDGED: proportion(unjudged, len(kinds))}
