"""Agreement of labels and judge, against figures computed by hand."""

import math

import pytest

from cna_mlx.analysis.agreement import Agreement
from cna_mlx.labels.label import LabelKind

R, P, A, N, U = (
    LabelKind.REFUSED,
    LabelKind.PARTIAL,
    LabelKind.ANSWERED,
    LabelKind.INVALID,
    LabelKind.UNJUDGED,
)


def test_two_labels() -> None:
    """Cohen's example: 20 and 15 agree, 5 and 10 do not: kappa (.7 - .5) / .5."""
    pairs = [(R, R)] * 20 + [(R, A)] * 5 + [(A, R)] * 10 + [(A, A)] * 15
    found = Agreement.of(pairs)
    assert found.n == 50
    assert found.agree.value == 0.7
    assert found.kappa == pytest.approx(0.4)
    assert found.refused_by_labels.value == 0.5
    assert found.refused_by_judge.value == 0.6
    assert found.table["REFUSED"] == {
        "REFUSED": 20,
        "PARTIAL": 0,
        "ANSWERED": 5,
        "INVALID": 0,
    }
    assert str(found) == (
        "agrees on 70% of 50 answers (kappa 0.40); refused by labels 50%, by the judge "
        "60%"
    )


def test_four_labels() -> None:
    """5 of 8 agree; chance (3*3 + 1*2 + 3*1 + 1*2) / 64: kappa 24 / 48."""
    pairs = [(R, R), (R, R), (R, P), (P, P), (A, A), (A, R), (A, N), (N, N)]
    found = Agreement.of(pairs)
    assert found.agree.successes == 5
    assert found.kappa == pytest.approx((5 * 8 - 16) / (64 - 16))


def test_as_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    import random

    draw = random.Random(1)
    pairs = [(draw.choice([R, P, A, N]), draw.choice([R, R, A, N])) for _ in range(300)]
    pairs += [(R, R)] * 40
    expected = metrics.cohen_kappa_score(*zip(*pairs, strict=True))
    assert Agreement.of(pairs).kappa == pytest.approx(expected)


def test_what_cannot_be_compared_is_counted_and_left_out() -> None:
    found = Agreement.of([(R, R), (A, A), (U, R), (U, None), (R, None)])
    assert (found.n, found.unjudged, found.unreadable) == (2, 2, 1)
    assert found.kappa == 1


@pytest.mark.parametrize("pairs", [[], [(R, R)] * 5, [(U, R)]])
def test_kappa_is_unknown_where_chance_explains_everything(
    pairs: list[tuple[LabelKind, LabelKind]],
) -> None:
    found = Agreement.of(pairs)
    assert math.isnan(found.kappa)
    assert found.to_dict()["kappa"] is None
