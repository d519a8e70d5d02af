"""Time two ways of doing the same work in turn, and compute their ratio."""

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
    """The times of plain mlx-lm and of our code for the same work.

    Attributes:
        title, against: descriptions of our code and of the plain code.
        work: the amount of work of each repetition, in `unit`: tokens or prompts.
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
        """Time both in turn."""
        first, second = zip(*in_turn([plain, ours], budget, self.title), strict=True)
        return replace(self, plain=first, ours=second)

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Return how many times faster ours is than plain: quartiles over the pairs."""
        ratios = np.divide(self.plain, self.ours)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @property
    def plain_rate(self) -> float:
        """Return the median work per second of the plain code."""
        return self.work / median(self.plain)

    @property
    def rate(self) -> float:
        """Return the median work per second of our code."""
        return self.work / median(self.ours)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as a dict, with the ratio as low, median, high."""
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
        rounds: the maximum number of rounds.
        seconds: the time after which no round starts, once three are done.
    """

    rounds: int
    seconds: float
    clock: Clock
    progress: Progress = silent

    def timed(self, work: Callable[[], object]) -> Work:
        """Wrap work so that it returns the seconds it took."""

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

    Every other round runs backwards, so that a machine that slows down favours no step.
    Returns the results of each round, in the order of the steps.
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
