"""Intervals and tests, against scipy and against published examples."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cna_mlx.analysis.statistics import (
    PairedChange,
    mcnemar_exact,
    mean_interval,
    paired_change,
    spearman,
    wilson,
)
from cna_mlx.errors import InputError

SIZES = (1, 2, 3, 8, 17, 100, 450)


def change(both: int, lost: int, gained: int, neither: int) -> PairedChange:
    """The paired change of a table of counts."""
    counts = (both, lost, gained, neither)
    kinds = ((True, True), (True, False), (False, True), (False, False))
    pairs = [kind for kind, n in zip(kinds, counts, strict=True) for _ in range(n)]
    return paired_change([x for x, _ in pairs], [y for _, y in pairs])


# -------------------------------------------------------------------------- rates


@pytest.mark.parametrize("n", SIZES)
def test_wilson_is_what_scipy_computes(n: int) -> None:
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        ours = wilson(successes, n)
        theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert ours.value == successes / n
        assert ours.low == pytest.approx(theirs.low, abs=1e-12)
        assert ours.high == pytest.approx(theirs.high, abs=1e-12)
        assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_wilson_says_something_at_the_ends() -> None:
    none, all_ = wilson(0, 100), wilson(100, 100)
    assert (none.low, all_.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - all_.low)
    assert 0.03 < none.high < 0.04  # the rule of three, about


def test_wilson_knows_nothing_of_nothing() -> None:
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)
    assert nothing.to_dict()["value"] is None


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (1, 0)])
def test_a_share_lies_within_the_whole(counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{counts[0]} of {counts[1]}"):
        wilson(*counts)


# ------------------------------------------------------------------------ changes


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe (1998), method 10: a, b, c, d and p1 - p2
        ((36, 12, 2, 0), 0.0569, 0.3404),
        # Cavo et al. (2012) in Fagerland, Lydersen and Laake (2017), chapter 8
        ((59, 6, 16, 80), -0.1186, -0.0046),
    ],
)
def test_the_change_has_newcombes_interval(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    both, first, second, neither = table
    found = change(both, lost=second, gained=first, neither=neither).points
    assert found.value == pytest.approx(100 * (first - second) / sum(table))
    assert found.low / 100 == pytest.approx(low, abs=5e-5)
    assert found.high / 100 == pytest.approx(high, abs=5e-5)
    assert found.n == sum(table)


def test_the_relative_change_has_bonett_and_prices_interval() -> None:
    """Cavo et al. (2012) in Fagerland, Lydersen and Laake (2017), chapter 8."""
    found = change(59, lost=16, gained=6, neither=80).relative
    assert found is not None
    assert found.value + 1 == pytest.approx(0.8667, abs=5e-5)
    assert found.low + 1 == pytest.approx(0.7579, abs=5e-5)
    assert found.high + 1 == pytest.approx(0.9910, abs=5e-5)


def test_flips_are_counted() -> None:
    found = change(3, lost=5, gained=1, neither=2)
    assert (found.both, found.lost, found.gained, found.neither) == (3, 5, 1, 2)
    assert (found.before.successes, found.after.successes, found.n) == (8, 4, 11)
    assert found.points.value == pytest.approx(-400 / 11)
    assert found.relative is not None
    assert found.relative.value == pytest.approx(-0.5)
    assert found.p == mcnemar_exact(5, 1)


def test_a_change_seen_backwards_is_its_mirror_image() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        before, after = rng.random((2, 40)) < rng.random((2, 1))
        there, back = paired_change(before, after), paired_change(after, before)
        assert there.points.value == pytest.approx(-back.points.value)
        assert there.points.low == pytest.approx(-back.points.high)
        assert there.p == back.p
        assert (there.lost, there.gained) == (back.gained, back.lost)
        if there.relative and back.relative and back.relative.low > -1:
            assert 1 + there.relative.high == pytest.approx(1 / (1 + back.relative.low))


def test_an_interval_holds_its_value_and_stays_in_range() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.multinomial(rng.integers(1, 60), rng.dirichlet([0.4] * 4))]
    tables += [rng.multinomial(30, rng.dirichlet([0.3] * 4)) for _ in range(300)]
    for table in [*tables, (9, 0, 0, 0), (0, 9, 0, 0), (0, 0, 9, 0), (0, 0, 0, 9)]:
        found = change(*(int(count) for count in table))
        assert -100 <= found.points.low <= found.points.value
        assert found.points.value <= found.points.high <= 100
        assert found.points.low < found.points.high
        if found.relative:
            assert -1 <= found.relative.low <= found.relative.value + 1e-12
            assert found.relative.value <= found.relative.high + 1e-12
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("n", [20, 100])
def test_the_intervals_cover_the_truth_about_as_often_as_they_say(n: int) -> None:
    """A refusal rate of 0.8 before and 0.35 after, over random runs."""
    rng = np.random.default_rng(2)
    chances = (0.3, 0.5, 0.05, 0.15)  # both, lost, gained, neither
    runs = [change(*map(int, rng.multinomial(n, chances))) for _ in range(1000)]
    points = np.mean([run.points.low <= -45 <= run.points.high for run in runs])
    ratio = 0.35 / 0.8 - 1
    relative = np.mean(
        [run.relative.low <= ratio <= run.relative.high for run in runs if run.relative]
    )
    assert 0.93 <= points <= 0.98
    assert 0.93 <= relative <= 0.98


def test_no_relative_change_from_nothing() -> None:
    assert change(0, lost=0, gained=4, neither=6).relative is None


def test_nothing_at_all_changes_nothing() -> None:
    found = paired_change([], [])
    assert (found.n, found.p, found.relative) == (0, 1.0, None)
    assert math.isnan(found.points.value)
    json.dumps(found.to_dict(), allow_nan=False)


def test_pairs_must_pair() -> None:
    with pytest.raises(InputError, match=r"\b2\b.*\b1\b"):
        paired_change([True, False], [True])


# ------------------------------------------------------------------------ McNemar


def test_mcnemar_is_scipys_binomial_test() -> None:
    tables = [(b, c) for b in range(14) for c in range(14) if b + c]
    tables += [(60, 2), (225, 225), (400, 50), (449, 1), (999, 2), (1200, 1300)]
    for b, c in tables:
        theirs = stats.binomtest(b, b + c).pvalue
        assert mcnemar_exact(b, c) == pytest.approx(theirs, rel=1e-9)
        assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_mcnemar_of_known_tails() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 0) == 2 / 2**5
    assert mcnemar_exact(7, 7) == 1.0
    assert mcnemar_exact(1000, 0) == pytest.approx(2.0**-999)


# --------------------------------------------------------- means and rank correlation


def test_a_mean_has_the_bootstraps_interval() -> None:
    values = np.random.default_rng(3).gamma(0.5, size=100)  # a long tail, as of KL
    found = mean_interval(list(values))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9999, rng=4
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.n == 100
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.05 * width)
    assert mean_interval(list(values)) == found


def test_a_mean_stays_within_its_values() -> None:
    quality = mean_interval([1.0] * 97 + [0.2, 0.4, 0.9])
    assert 0.2 <= quality.low < quality.value < quality.high <= 1.0
    assert mean_interval([1.0] * 50) == mean_interval([1.0] * 50)
    same = mean_interval([0.5] * 9)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)


def test_a_mean_moves_and_stretches_with_its_values() -> None:
    values = np.random.default_rng(5).random(30)
    one, two = mean_interval(list(values)), mean_interval(list(3 * values - 1))
    for part in ("value", "low", "high"):
        assert getattr(two, part) == pytest.approx(3 * getattr(one, part) - 1)


def test_too_few_values_have_no_interval() -> None:
    one, none = mean_interval([0.7]), mean_interval([])
    assert (one.value, one.n) == (0.7, 1)
    assert math.isnan(one.low)
    assert math.isnan(none.value)
    assert none.to_dict() == {"value": None, "low": None, "high": None, "n": 0}


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_spearman_is_scipys_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for n in (2, 3, 10, 200):
        x, y = rng.integers(0, levels, (2, n))
        if len(set(x)) < 2 or len(set(y)) < 2:
            continue
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert spearman(x, x) == pytest.approx(1)
        assert spearman(x, -y) == pytest.approx(-spearman(x, y))


def test_spearman_knows_where_it_is_undefined() -> None:
    assert spearman([], []) is None
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    with pytest.raises(InputError, match="2 values against 1"):
        spearman([1.0, 2.0], [1.0])
