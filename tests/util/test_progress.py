"""The time left: from all steps of a task, however slow they are."""

import pytest

from cna_mlx.util.progress import Pace


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_of_minutes_have_a_time_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.take("Answering", 0, 10)
    assert pace.left is None
    clock.now = 300.0
    pace.take("Answering", 1, 10)
    assert pace.left == pytest.approx(9 * 300)
    clock.now = 400.0  # within the second step
    assert pace.left == pytest.approx(9 * 300 - 100)
    clock.now = 900.0
    pace.take("Answering", 2, 10)
    assert pace.left == pytest.approx(8 * 450)


def test_what_was_done_before_is_not_counted_as_fast() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.take("Answering", 90, 100)  # resumed
    clock.now = 10.0
    pace.take("Answering", 91, 100)
    assert pace.left == pytest.approx(90)


@pytest.mark.parametrize(
    "then", [("Other", 1, 10), ("Reading", 1, 4), ("Reading", 1, 10)]
)
def test_another_task_is_timed_anew(then: tuple[str, int, int]) -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.take("Reading", 2, 10)
    clock.now = 1000.0
    pace.take("Reading", 3, 10)
    pace.take(*then)
    assert pace.left is None
    clock.now = 1001.0
    task, done, total = then
    pace.take(task, done + 1, total)
    assert pace.left == pytest.approx(total - done - 1)


@pytest.mark.parametrize(("total", "left"), [(2, 0), (10, 8)])
def test_a_slow_step_delays_only_those_after_it(total: int, left: float) -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.take("Reading", 0, total)
    clock.now = 1.0
    pace.take("Reading", 1, total)
    clock.now = 60.0
    assert pace.left == left
