"""Two ways to do the same work, timed in turn; what is told is their ratio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cna_mlx.util.progress import Progress, silent

Clock = Callable[[], float]
Work = Callable[[], float]
_FEWEST = 3


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and the quartiles beside it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one value or more; between two of them it interpolates."""
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        return cls(float(low), float(median), float(high))

    def to_json(self) -> list[float]:
        """Lower quartile, median, upper quartile."""
        return [round(value, 4) for value in (self.low, self.median, self.high)]


@dataclass(frozen=True)
class Comparison:
    """The same work done in a plain way and in another, some times each.

    Attributes:
        name: what programs know it by, e.g. ``steered_decode``.
        plain, ours: seconds, pair by pair.
        work: how much of it was done each time.
        unit: of the work: ``tokens`` or ``prompts``.
        title: what people know it by.
        against: what the plain way is.
    """

    name: str
    plain: tuple[float, ...]
    ours: tuple[float, ...]
    work: int
    unit: str
    title: str
    against: str

    @property
    def ratio(self) -> Spread:
        """How many times faster than the plain way, over the pairs."""
        pairs = zip(self.plain, self.ours, strict=True)
        return Spread.of([plain / ours for plain, ours in pairs])

    @property
    def plain_rate(self) -> float:
        """Work per second in the plain way, at the median."""
        return self.work / Spread.of(self.plain).median

    @property
    def rate(self) -> float:
        """Work per second in the other way, at the median."""
        return self.work / Spread.of(self.ours).median

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data; quartiles as low, median, high."""
        return {
            "what": self.title,
            "against": self.against,
            "ratio": self.ratio.to_json(),
            "pairs": len(self.plain),
            "work": self.work,
            "unit": self.unit,
            "plain_per_second": round(self.plain_rate, 2),
            "per_second": round(self.rate, 2),
        }


@dataclass(frozen=True)
class Budget:
    """How long to go on measuring.

    Attributes:
        pairs: at most.
        seconds: begin no further pair after this long, once there are three: a median
            of fewer tells nothing.
        clock: seconds that only grow.
    """

    pairs: int
    seconds: float
    clock: Clock

    def goes_on(self, done: int, started: float) -> bool:
        """Whether to begin another pair after so many, begun at this time."""
        if done >= self.pairs or done < _FEWEST:
            return done < self.pairs
        return self.clock() < started + self.seconds


def in_turn(
    plain: Work,
    ours: Work,
    budget: Budget,
    *,
    task: str = "",
    progress: Progress = silent,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two ways in turn, after one warm-up of each: plain, ours, ours, plain, ...

    The order changes from pair to pair, so that a machine that slows down or warms up
    favours neither.

    Args:
        plain, ours: do the work and return the seconds that count.
        budget: how many pairs, and for how long.
        task: what the progress is called.
        progress: told before the first and after each pair.

    Returns:
        Seconds of the plain way and of the other, pair by pair.
    """
    progress(task, 0, budget.pairs)
    plain()
    ours()
    started = budget.clock()
    found: list[tuple[float, float]] = []
    while budget.goes_on(len(found), started):
        if len(found) % 2:
            own = ours()
            found.append((plain(), own))
        else:
            found.append((plain(), ours()))
        progress(task, len(found), budget.pairs)
    return tuple(a for a, _ in found), tuple(b for _, b in found)
