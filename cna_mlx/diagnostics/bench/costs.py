"""Measure what a model's rows cost, and derive how much a bench can measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import mlx.core as mx

from cna_mlx.diagnostics.bench.timing import Budget, in_turn
from cna_mlx.diagnostics.rows import prefilled, step

_FEWEST_TOKENS = 8


@dataclass(frozen=True)
class Costs:
    """Seconds of one row's prefill, and of a step by its number of rows.

    Attributes:
        length: tokens in the caches of the steps.
    """

    length: int
    prefill: float
    steps: Mapping[int, float]

    @classmethod
    def of(
        cls, model: Any, ids: Sequence[int], counts: Sequence[int], budget: Budget
    ) -> "Costs":
        """Measure a prompt's prefill once, and steps of so many rows in turn."""
        prefilled(model, ids[:2])  # touches the weights and compiles
        started = budget.clock()
        cache = prefilled(model, ids)
        prefill = budget.clock() - started
        steps = [step(model, cache, ids[-1], count) for count in counts]
        for one in steps:
            mx.eval(one())
        timed = [budget.timed(partial(_computed, one)) for one in steps]
        seconds = map(median, in_turn(timed, budget, "rows of a batch"))
        return cls(len(ids), prefill, dict(zip(counts, seconds, strict=True)))

    def relative(self, rows: int) -> float:
        """Return how many times as long as a step of one row a step takes."""
        return self.steps[rows] / self.steps[1]

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

    def tokens(self, batches: Sequence[int], seconds: float, most: int) -> int:
        """Return how many tokens these batches can decode in some time, 8 or more."""
        fixed = sum(batches) * self.prefill
        token = sum(self.steps[rows] for rows in batches)
        return min(most, max(_FEWEST_TOKENS, 1 + int((seconds - fixed) / token)))

    def seconds(self, batches: Sequence[int]) -> float:
        """Return the seconds of the shortest answers of these batches."""
        steps = sum(self.steps[rows] for rows in batches)
        return sum(batches) * self.prefill + (_FEWEST_TOKENS - 1) * steps


def _computed(work: Any) -> None:
    mx.eval(work())
