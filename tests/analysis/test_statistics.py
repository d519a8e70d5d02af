"""Intervals and tests, against scipy and against published examples."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cna_mlx.analysis.statistics import (
    PairedChange,
    holm,
    kind_shares,
    mcnemar_exact,
    mean_interval,
    paired_change,
    proportion,
    spearman,
)
from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind

SIZES = (1, 2, 3, 8, 17, 100, 450)


REFUSED, ANSWERED, PARTIAL, INVALID, UNJUDGED = LabelKind


def change(both: int, lost: int, gained: int, neither: int) -> PairedChange:
    """The paired change of a table of counts."""
    counts = (both, lost, gained, neither)
    kinds = (
        (REFUSED, REFUSED),
        (REFUSED, ANSWERED),
        (PARTIAL, REFUSED),
        (ANSWERED, PARTIAL),
    )
    pairs = [kind for kind, n in zip(kinds, counts, strict=True) for _ in range(n)]
    return paired_change([x for x, _ in pairs], [y for _, y in pairs])


# -------------------------------------------------------------------------- rates


@pytest.mark.parametrize("n", SIZES)
def test_a_rate_has_scipys_exact_interval(n: int) -> None:
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        ours = proportion(successes, n)
        theirs = stats.binomtest(successes, n).proportion_ci(method="exact")
        assert ours.value == successes / n
        assert ours.low == pytest.approx(theirs.low, abs=1e-12)
        assert ours.high == pytest.approx(theirs.high, abs=1e-12)
        assert 0 <= ours.low <= ours.value <= ours.high <= 1


def test_a_rate_says_something_at_the_ends() -> None:
    none, all_ = proportion(0, 100), proportion(100, 100)
    assert (none.low, all_.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - all_.low)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_a_rate_of_nothing_is_unknown() -> None:
    nothing = proportion(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)
    assert nothing.to_dict()["value"] is None


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (1, 0)])
def test_a_share_lies_within_the_whole(counts: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{counts[0]} of {counts[1]}"):
        proportion(*counts)


def test_shares_leave_out_what_cannot_be_judged() -> None:
    kinds = [REFUSED] * 3 + [ANSWERED] * 4 + [INVALID] + [UNJUDGED] * 2
    shares = kind_shares(kinds)
    assert (shares[REFUSED].successes, shares[REFUSED].n) == (3, 8)
    assert (shares[PARTIAL].successes, shares[INVALID].n) == (0, 8)
    assert (shares[UNJUDGED].successes, shares[UNJUDGED].n) == (2, 10)
    assert kind_shares([]).keys() == shares.keys()


# ------------------------------------------------------------------------ changes


def test_the_change_depends_on_flips_alone() -> None:
    """Which of the other prompts are refused both times is of no matter."""
    one, other = change(36, 2, 12, 0).points, change(0, 2, 12, 36).points
    assert one == other
    assert one.value == pytest.approx(20)
    assert (one.low, one.high) == pytest.approx((4.56, 34.98), abs=0.01)


def test_the_interval_of_a_share_alone_is_exact() -> None:
    """Where nothing appears and nothing can, the change is a share."""
    found = change(0, lost=20, gained=0, neither=0).points
    lowest = 100 * proportion(20, 20).low
    assert (found.value, found.low) == (-100, -100)
    assert -lowest <= found.high <= 0


@pytest.mark.parametrize(
    ("pair", "counted"),
    [
        ((REFUSED, REFUSED), {"both": 1}),
        ((REFUSED, ANSWERED), {"lost": 1}),
        ((REFUSED, PARTIAL), {"lost": 1}),
        ((REFUSED, INVALID), {"ruined": 1}),
        ((ANSWERED, REFUSED), {"gained": 1}),
        ((PARTIAL, REFUSED), {"gained": 1}),
        ((INVALID, REFUSED), {"restored": 1}),
        ((ANSWERED, INVALID), {"neither": 1}),
        ((REFUSED, UNJUDGED), {}),
        ((UNJUDGED, REFUSED), {}),
        ((UNJUDGED, ANSWERED), {}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_what_each_pair_of_labels_counts_as(
    pair: tuple[LabelKind, LabelKind], counted: dict[str, int]
) -> None:
    found = paired_change([pair[0]], [pair[1]])
    names = ("both", "lost", "gained", "ruined", "restored", "neither")
    assert {name: n for name in names if (n := getattr(found, name))} == counted
    assert found.n == bool(counted)
    assert found.p == 1.0


def test_damage_is_no_fall() -> None:
    """Six of ninety refusals became garbage: none is lost, though the rate is lower."""
    before = [REFUSED] * 90 + [ANSWERED] * 10
    found = paired_change(before, [INVALID] * 6 + before[6:])
    assert (found.lost, found.ruined, found.net, found.p) == (0, 6, 0, 1.0)
    assert (found.before.successes, found.after.successes) == (90, 84)
    assert found.points.value == 0
    assert found.relative
    assert found.relative.value == 0


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
    kinds = [REFUSED, ANSWERED, PARTIAL, INVALID]
    for _ in range(200):
        before, after = ([kinds[at] for at in rng.integers(0, 4, 40)] for _ in "ab")
        there, back = paired_change(before, after), paired_change(after, before)
        assert there.points.value == pytest.approx(-back.points.value)
        assert there.points.low == pytest.approx(-back.points.high)
        assert there.p == back.p
        assert (there.lost, there.gained) == (back.gained, back.lost)
        assert (there.ruined, there.restored) == (back.restored, back.ruined)


def test_an_interval_holds_its_value_and_stays_in_range() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.multinomial(rng.integers(1, 60), rng.dirichlet([0.4] * 4))]
    tables += [rng.multinomial(30, rng.dirichlet([0.3] * 4)) for _ in range(300)]
    for table in [*tables, (9, 0, 0, 0), (0, 9, 0, 0), (0, 0, 9, 0), (0, 0, 0, 9)]:
        found = change(*(int(count) for count in table))
        assert -100 <= found.points.low <= found.points.value
        assert found.points.value <= found.points.high <= 100
        assert found.points.low < found.points.high
        json.dumps(found.to_dict(), allow_nan=False)


def test_no_relative_change_from_nothing() -> None:
    assert change(0, lost=0, gained=4, neither=6).relative is None


def test_nothing_at_all_changes_nothing() -> None:
    found = paired_change([], [])
    assert (found.n, found.p, found.relative) == (0, 1.0, None)
    assert math.isnan(found.points.value)
    json.dumps(found.to_dict(), allow_nan=False)


def test_pairs_must_pair() -> None:
    with pytest.raises(InputError, match=r"\b2\b.*\b1\b"):
        paired_change([REFUSED, ANSWERED], [REFUSED])


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


def test_a_mean_of_shares_has_their_exact_interval() -> None:
    """Of values that are 0 or 1 the interval is Clopper and Pearson's."""
    for successes, n in ((8, 8), (7, 8), (0, 20), (18, 20), (97, 100)):
        exact = proportion(successes, n)
        found = mean_interval([1.0] * successes + [0.0] * (n - successes))
        assert found.value == pytest.approx(exact.value)
        assert found.low == pytest.approx(exact.low, abs=0.02)
        assert found.high == pytest.approx(exact.high, abs=0.02)
        assert found == mean_interval([0.0] * (n - successes) + [1.0] * successes)


def test_a_mean_of_many_values_has_nearly_the_bootstraps_interval() -> None:
    values = np.random.default_rng(3).beta(2, 2, size=1000)
    found = mean_interval(list(values))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=999, rng=4
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert found.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_a_mean_allows_for_what_was_not_seen() -> None:
    few, many = mean_interval([1.0] * 8), mean_interval([1.0] * 100)
    assert (few.value, few.high, many.high) == (1.0, 1.0, 1.0)
    assert few.low < 0.7 < 0.95 < many.low < 1.0


def test_no_values_have_no_mean() -> None:
    none = mean_interval([])
    assert math.isnan(none.value)
    assert none.to_dict() == {"value": None, "low": None, "high": None, "n": 0}
    assert mean_interval([0.7]).low < 0.1


# --------------------------------------------------------------------- many p-values


def test_p_values_are_adjusted_for_their_number() -> None:
    """By hand: the smallest times their number, the next times one less, and so on."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_few_reports_of_a_sweep_find_what_is_not_there() -> None:
    """Fifteen arms that flip answers at random: unadjusted a third find a fall."""
    rng = np.random.default_rng(7)
    flips = rng.binomial(12, 0.5, (1000, 15))
    values = [[mcnemar_exact(int(x), 12 - int(x)) for x in row] for row in flips]
    assert np.mean([min(row) < 0.05 for row in values]) > 0.28
    assert np.mean([min(holm(row)) < 0.05 for row in values]) <= 0.05


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
