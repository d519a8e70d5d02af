"""Time trials of a run: how long it will take, and how many rows answer fastest."""

import time
from collections.abc import Callable
from dataclasses import replace

from cna_mlx.evaluation.batches import Evaluation
from cna_mlx.evaluation.further import SAMPLED
from cna_mlx.util.progress import Progress, silent

#: The numbers of rows that are tried.
WIDTHS = (8, 16, 32, 64)
# New tokens of a trial; the first ones are compared with more of them.
_SHORT, _LONG = 2, 10
_GAIN = 1.1  # a wider batch takes more memory: so much faster it must be
_TRIAL_TOKENS = 8

Clock = Callable[[], float]


def expected_seconds(
    evaluation: Evaluation, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Estimate a run's time from trials with the longest prompts.

    Returns:
        The longest that the answers can take; and what continuing one in
        :data:`SAMPLED` of them adds.
    """
    longest, times = _longest(evaluation), []
    more_tokens = evaluation.bare(1 + _TRIAL_TOKENS)
    # the first run also warms up
    trials = [evaluation.bare(1), more_tokens]
    if evaluation.kl_tokens:
        trials.append(replace(more_tokens, kl_tokens=evaluation.kl_tokens))
    for trial in trials:
        started = clock()
        trial.group(longest)
        times.append(clock() - started)
    step = max(0.0, times[1] - times[0]) / _TRIAL_TOKENS
    first = max(0.0, min(times) - step)
    group = first + step * evaluation.max_tokens
    if evaluation.kl_tokens:
        own = max(step, times[2] - times[1]) / (1 + _TRIAL_TOKENS)
        group += own * min(evaluation.kl_tokens, evaluation.max_tokens)
    more = step * max(0, evaluation.extend_to - evaluation.max_tokens) / SAMPLED
    groups = -(-len(evaluation.prompts) // evaluation.size)
    return group * groups, more * groups


def _longest(evaluation: Evaluation) -> list[int]:
    """The numbers of a group of the longest prompts."""
    lengths = [len(evaluation.ids(prompt)) for _, prompt in evaluation.prompts]
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    return order[: evaluation.size]


def fastest(
    evaluation: Evaluation,
    progress: Progress = silent,
    clock: Clock = time.perf_counter,
) -> int:
    """The number of rows that makes a run fastest; the smallest of about equal ones.

    Decodes a few tokens of the longest prompts with 8, 16, 32 and 64 rows, and ends
    where more rows help no more.
    """
    best, best_pace = 0, 0.0
    for done, rows in enumerate(WIDTHS):
        progress(f"Timing {rows} rows", done, len(WIDTHS))
        trial = replace(evaluation, rows=rows)
        prompts = _longest(trial)
        if best and len(prompts) == len(_longest(replace(evaluation, rows=best))):
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
