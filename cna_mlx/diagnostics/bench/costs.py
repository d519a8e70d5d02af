"""Measure what a model's rows cost, and derive how much a bench can measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import mlx.core as mx

from cna_mlx.diagnostics.bench.timing import FEWEST, Budget, Work, in_turn
from cna_mlx.diagnostics.rows import prefilled, step

# The shortest answers, and prompts where a longer one takes long beside them.
_FEWEST_TOKENS, _SHORTEST = 8, 4


@dataclass(frozen=True)
class Costs:
    """Seconds of one row's prefill, and of a step by its number of rows.

    Attributes:
        length: tokens in the caches of the steps, and of the prefill.
    """

    length: int
    prefill: float
    steps: Mapping[int, float]

    @classmethod
    def of(
        cls, model: Any, ids: Sequence[int], counts: Sequence[int], budget: Budget
    ) -> "Costs":
        """Measure a prompt's prefill once, and steps of so many rows in turn.

        The largest batches are left out where three steps of each would take too long.
        """
        prefilled(model, ids[:2])  # touches the weights and compiles
        started = budget.clock()
        cache = prefilled(model, ids)
        prefill = budget.clock() - started
        timed: list[Work] = []
        round_ = 0.0
        for count in counts:
            one = budget.timed(partial(_compute, step(model, cache, ids[-1], count)))
            round_ += one()
            if len(timed) > 1 and FEWEST * round_ > budget.seconds:
                break
            timed.append(one)
        seconds = map(median, in_turn(timed, budget, "rows of a batch"))
        return cls(len(ids), prefill, dict(zip(counts, seconds, strict=False)))

    def step(self, rows: int) -> float:
        """Return the seconds of a step; with more rows than measured, at most those."""
        most = max(self.steps)
        return self.steps[rows] if rows <= most else self.steps[most] * rows / most

    def relative(self, rows: int) -> float:
        """Return how many times as long as a step of one row a step takes."""
        return self.step(rows) / self.steps[1]

    def gain(self, rows: int) -> float:
        """Return how many times faster a batch decodes than its rows one by one."""
        return rows / self.relative(rows)

    @property
    def added(self) -> float | None:
        """Return the time that each further row adds, as a share of one row's step.

        From the largest batch; None if only single rows were timed.
        """
        most = max(self.steps)
        return (self.relative(most) - 1) / (most - 1) if most > 1 else None

    @property
    def prompt(self) -> float:
        """Return the share of a prompt to decode after: all if its prefill is short.

        The prefill may take half as long as the shortest answer.
        """
        tokens = (_FEWEST_TOKENS - 1) * self.steps[1] / 2 / self.prefill * self.length
        return min(1.0, max(_SHORTEST, tokens) / self.length)

    def tokens(self, batches: Sequence[int], seconds: float, most: int) -> int:
        """Return how many tokens these batches can decode in some time, 8 or more."""
        fixed = sum(batches) * self.prompt * self.prefill
        token = sum(map(self.step, batches))
        return min(most, max(_FEWEST_TOKENS, 1 + int((seconds - fixed) / token)))

    def seconds(self, batches: Sequence[int]) -> float:
        """Return the seconds of the shortest answers of these batches."""
        steps = sum(map(self.step, batches))
        fixed = sum(batches) * self.prompt * self.prefill
        return fixed + (_FEWEST_TOKENS - 1) * steps


def _compute(work: Callable[[], list[mx.array]]) -> None:
    mx.eval(work())
