"""Measure how many rows of a batch answer fastest on this machine."""

import time
from collections.abc import Callable
from dataclasses import replace

from cna_mlx.evaluation.batches import Evaluation

#: The numbers of rows that are tried.
WIDTHS = (8, 16, 32, 64)
# New tokens of a trial; the first ones are compared with more of them.
_SHORT, _LONG = 2, 10
_GAIN = 1.1  # a wider batch takes more memory: so much faster it must be


def fastest(
    evaluation: Evaluation, clock: Callable[[], float] = time.perf_counter
) -> int:
    """The number of rows that makes a run fastest; the smallest of about equal ones.

    Decodes a few tokens of the longest prompts with 8, 16, 32 and 64 rows, and ends
    where more rows help no more.
    """
    best, best_pace = 0, 0.0
    for rows in WIDTHS:
        trial = replace(evaluation, rows=rows)
        prompts = trial.longest()
        if best and len(prompts) == len(replace(evaluation, rows=best).longest()):
            continue  # the same batch: one prompt fills it, or all do not
        times = []
        for tokens in (_SHORT, _LONG):
            started = clock()
            trial.bare(tokens).group(prompts)
            times.append(clock() - started)
        step = max(1e-9, times[1] - times[0]) / (_LONG - _SHORT)
        pace = len(prompts) / step
        if pace < _GAIN * best_pace:
            break
        best, best_pace = rows, pace
    return best
