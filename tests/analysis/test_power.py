"""The whole verdict on simulated runs: how often it is wrong, and how often right."""

import sys
from pathlib import Path

import pytest

from cna_mlx.analysis.decision import Outcome

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from verdict_power import BASELINE, constant, drawn, rates

RUNS = 60


@pytest.mark.parametrize(
    "share",
    [drawn(0.1), drawn(0.4), pytest.param(constant(0.3), marks=pytest.mark.slow)],
    ids=["mean 10%", "mean 40%", "30% each"],
)
def test_a_circuit_like_its_controls_is_seldom_beyond_them(share) -> None:
    """One in twenty at most, with 19 of them; six of sixty are three errors more."""
    found = rates(RUNS, 50, 19, share, share)
    assert found[Outcome.FELL] <= 6 / RUNS
    assert found[Outcome.MORE] == 0


def test_a_circuit_that_does_nothing_is_not_said_to_do_anything() -> None:
    found = rates(RUNS, 50, 19, constant(0.0), constant(0.0))
    assert found[Outcome.HELD] == 1.0
    # so few prompts cannot exclude a fall
    assert rates(10, 8, 5, constant(0.0), constant(0.0))[Outcome.HELD] == 0.0


def test_a_large_fall_is_seen() -> None:
    """Fifty points, where random neurons lose a tenth of the refusals."""
    share = constant(0.5 / BASELINE)
    assert rates(RUNS, 50, 19, share, constant(0.1))[Outcome.FELL] >= 0.9


def test_few_controls_are_never_enough() -> None:
    share = constant(0.5 / BASELINE)
    found = rates(20, 50, 5, share, constant(0.1))
    assert found[Outcome.FELL] == 0.0
    assert found[Outcome.MORE] >= 0.8
