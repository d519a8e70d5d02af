"""Every 95% interval that is printed holds the truth in at least 93% of samples."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from math import comb

import numpy as np
import pytest

from cna_mlx.analysis.statistics import mean_interval, paired_points, proportion
from cna_mlx.discovery.auc import auc

SIZES = (8, 20, 50, 100)
LEAST = 0.93
_SAMPLES = 1000


@pytest.mark.parametrize("n", SIZES)
def test_of_a_rate_at_every_rate(n: int) -> None:
    """Exactly, without samples: the chance of each count whose interval holds it."""
    found = [proportion(k, n) for k in range(n + 1)]
    for rate in np.linspace(0.002, 0.998, 499):
        chances = [comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
        held = sum(
            chance
            for one, chance in zip(found, chances, strict=True)
            if one.low <= rate <= one.high
        )
        assert held >= 0.95


@pytest.mark.parametrize("n", SIZES)
def test_of_a_change_of_paired_rates(n: int) -> None:
    rng = np.random.default_rng(n)
    for lost, rest in product((0, 0.01, 0.05, 0.1, 0.3, 0.6, 0.9), (0, 0.02, 0.2)):
        gained = rest * (1 - lost)
        drawn = rng.multinomial(n, (lost, gained, 1 - lost - gained), _SAMPLES)
        held = 0
        for (a, b), count in Counter((int(x), int(y)) for x, y, _ in drawn).items():
            one = paired_points(a, b, n)
            held += count * (one.low <= 100 * (gained - lost) + 1e-9 <= one.high + 2e-9)
        assert held / _SAMPLES >= LEAST


def _loops(share: float, quality: float) -> Callable[[np.random.Generator, int], list]:
    """Answers of quality 1, but for a share of loops."""
    return lambda rng, n: np.where(rng.random(n) < share, quality, 1.0).tolist()


def _spread(a: float, b: float) -> Callable[[np.random.Generator, int], list]:
    return lambda rng, n: rng.beta(a, b, n).tolist()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (_loops(0.01, 0.1), 0.991),
        (_loops(0.05, 0.2), 0.96),
        (_loops(0.2, 0.3), 0.86),
        (_loops(0.5, 0.0), 0.5),
        (_spread(8, 1), 8 / 9),
        (_spread(0.3, 0.3), 0.5),
    ],
    ids=("1% loops", "5% loops", "20% loops", "half", "high", "two heaps"),
)
def test_of_a_mean_quality(n: int, draw: Callable[..., list], mean: float) -> None:
    rng = np.random.default_rng(n)
    found = [mean_interval(draw(rng, n)) for _ in range(_SAMPLES)]
    assert np.mean([one.low <= mean <= one.high for one in found]) >= LEAST


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("spreads", [(1, 1), (3, 0.5), (0.3, 2)], ids=str)
@pytest.mark.parametrize("smaller", [False, True])
def test_of_an_auc(n: int, spreads: tuple[float, float], smaller: bool) -> None:
    """Of normal scores, equally spread or not, in groups of one size or of two."""
    rng = np.random.default_rng(n)
    others = n // 4 if smaller else n
    if others < 4:
        return
    for shift in (0.0, 1.0, 2.5):
        a, b = (rng.normal(0, s, 400_000) for s in spreads)
        truth = float((a + shift > b).mean())
        held = 0
        for _ in range(300):
            positive = rng.normal(shift, spreads[0], n)
            one = auc(positive, rng.normal(0, spreads[1], others))
            held += one.low <= truth <= one.high
        assert held / 300 >= LEAST - 0.01
