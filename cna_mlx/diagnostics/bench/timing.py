"""Time two ways of doing the same work in turn, and compute their ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from cna_mlx.util.progress import Progress, silent

Clock = Callable[[], float]
Work = Callable[[], float]
_T = TypeVar("_T")
FEWEST = 3
# The standard error of a median of n normal values is 1.2533 sigma / sqrt(n), and
# sigma is the distance of the quartiles / 1.349.
_ERROR_OF_MEDIAN = 1.2533 / 1.349
# With an error of 5%, a ratio of 1.8 may be 1.7 or 1.9: no second digit is known.
_LARGEST_ERROR = 0.05


@dataclass(frozen=True)
class Comparison:
    """The times of plain mlx-lm and of our code for the same work.

    Attributes:
        title, against: descriptions of our code and of the plain code.
        work: the amount of work of each repetition, in `unit`: tokens or prompts.
        plain, ours: seconds of each pair.
        expected: the ratio that other figures predict; None if none do.
        expected_by: which figures these are.
    """

    name: str
    title: str
    against: str
    work: int
    unit: str
    plain: tuple[float, ...] = ()
    ours: tuple[float, ...] = ()
    expected: float | None = None
    expected_by: str = ""

    @property
    def ratio(self) -> tuple[float, float, float]:
        """Return how many times faster ours is than plain: quartiles over the pairs."""
        ratios = np.divide(self.plain, self.ours)
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        return low, middle, high

    @property
    def error(self) -> float:
        """Return the median ratio's standard error as a share of it."""
        low, middle, high = self.ratio
        return float(_ERROR_OF_MEDIAN * (high - low) / middle / len(self.plain) ** 0.5)

    @property
    def is_noisy(self) -> bool:
        """Return whether the pairs are too few, or too different for their median."""
        return len(self.plain) < FEWEST or self.error > _LARGEST_ERROR

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
            "error": round(self.error, 4),
            "too_noisy": self.is_noisy,
            "expected": self.expected and round(self.expected, 4),
            "expected_by": self.expected_by or None,
            "work": self.work,
            "unit": self.unit,
            "plain_per_second": round(self.plain_rate, 2),
            "per_second": round(self.rate, 2),
        }


@dataclass
class Budget:
    """How long to measure.

    Attributes:
        rounds: the maximum number of rounds.
        seconds: no round starts that would end later, once three are done.
        is_interrupted: Ctrl-C ended a measurement after its first round.
    """

    rounds: int
    seconds: float
    clock: Clock
    progress: Progress = silent
    is_interrupted: bool = False

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
) -> list[tuple[_T, ...]]:
    """Run steps round by round, until the rounds or the time are used up.

    Every other round runs backwards, so that a machine that slows down favours no step.

    Returns:
        The results of each step, a value for each whole round.

    Raises:
        KeyboardInterrupt: Ctrl-C in the first round; later it ends the rounds.
    """
    budget.progress(task, 0, budget.rounds)
    started = budget.clock()
    found: list[list[_T]] = []
    while len(found) < budget.rounds:
        if len(found) >= FEWEST:
            spent = budget.clock() - started
            if spent + spent / len(found) > budget.seconds:
                break
        way = -1 if len(found) % 2 else 1
        try:
            found.append([step() for step in steps[::way]][::way])
        except KeyboardInterrupt:
            if not found:
                raise
            budget.is_interrupted = True
            break
        budget.progress(task, len(found), budget.rounds)
    return list(zip(*found, strict=True))
