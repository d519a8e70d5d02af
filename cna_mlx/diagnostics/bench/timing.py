"""Time two ways of doing the same work in turn; the result is the ratio of the two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from cna_mlx.util.progress import Progress, silent

Clock = Callable[[], float]
Work = Callable[[], float]
_T = TypeVar("_T")
_FEWEST = 3


@dataclass(frozen=True)
class Comparison:
    """A plain way and another way of doing the same work, and their times.

    Attributes:
        name: the key in JSON, e.g. ``steered_decode``.
        title, against: descriptions of our way and of the plain way.
        work: how much is done each time.
        unit: of the work: ``tokens`` or ``prompts``.
        plain, ours: seconds of each pair.
    """

    name: str
    title: str
    against: str
    work: int
    unit: str
    plain: tuple[float, ...] = ()
    ours: tuple[float, ...] = ()

    def timed(self, plain: Work, ours: Work, budget: "Budget") -> "Comparison":
        """Time both ways in turn."""
        first, second = zip(*in_turn([plain, ours], budget, self.title), strict=True)
        return replace(self, plain=first, ours=second)

    @property
    def ratio(self) -> tuple[float, float, float]:
        """How many times faster than the plain way: quartiles over the pairs."""
        ratios = np.divide(self.plain, self.ours)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @property
    def plain_rate(self) -> float:
        """Median work per second of the plain way."""
        return self.work / median(self.plain)

    @property
    def rate(self) -> float:
        """Median work per second of our way."""
        return self.work / median(self.ours)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a dict; the ratio as low, median, high."""
        return {
            "what": self.title,
            "against": self.against,
            "ratio": [round(value, 4) for value in self.ratio],
            "pairs": len(self.plain),
            "work": self.work,
            "unit": self.unit,
            "plain_per_second": round(self.plain_rate, 2),
            "per_second": round(self.rate, 2),
        }


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes:
        rounds: the most repetitions.
        seconds: start no further round after this long, once there are three.
        clock: a monotonic clock in seconds.
        progress: called before the first and after each round.
    """

    rounds: int
    seconds: float
    clock: Clock
    progress: Progress = silent

    def timed(self, work: Callable[[], object]) -> Work:
        """Work that returns the seconds it took."""

        def run() -> float:
            mx.synchronize()
            started = self.clock()
            work()
            return self.clock() - started

        return run


def in_turn(
    steps: Sequence[Callable[[], _T]], budget: Budget, task: str = ""
) -> list[list[_T]]:
    """Run steps round by round, after a warm-up of the first and the last.

    Every other round runs backwards, so that a machine that slows down favours none.

    Args:
        steps: do some work and return what to keep.
        budget: how many rounds, and for how long.
        task: the name of the progress.

    Returns:
        The results of each round, in the order of the steps.
    """
    budget.progress(task, 0, budget.rounds)
    for step in (steps[0], steps[-1]):
        step()
    end = budget.clock() + budget.seconds
    found: list[list[_T]] = []
    while len(found) < budget.rounds:
        if len(found) >= _FEWEST and budget.clock() >= end:
            break
        way = -1 if len(found) % 2 else 1
        found.append([step() for step in steps[::way]][::way])
        budget.progress(task, len(found), budget.rounds)
    return found
