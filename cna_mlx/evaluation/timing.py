"""Time trials of a run: how long it will take, and how many rows answer fastest."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cna_mlx.evaluation.asked import Evaluation, Pending
from cna_mlx.evaluation.batches import begin_answers
from cna_mlx.evaluation.further import OPENED_TOKENS, SAMPLED
from cna_mlx.evaluation.kl import kl_after_prefill
from cna_mlx.steering.events import Token
from cna_mlx.util import ranks
from cna_mlx.util.progress import Progress, silent

#: The numbers of rows that are tried.
WIDTHS = (8, 16, 32, 64)
_GAIN = 1.1  # a wider batch takes more memory: so much faster it must be
_TRIAL_TOKENS = 6

Clock = Callable[[], float]


class TrialTimes(NamedTuple):
    """Seconds of a batch: up to its first tokens, for each further one, and what the
    KL adds for each token of the baseline.
    """

    first: float
    step: float
    kl: float


def pace(
    evaluation: Evaluation, numbers: Sequence[int], clock: Clock = time.perf_counter
) -> TrialTimes:
    """Time the first tokens of these prompts, as one batch."""
    asked = [
        Pending(number, evaluation.ids(evaluation.prompts[number][1]))
        for number in numbers
    ]
    fed: list[list[Any]] = []
    tokens: dict[int, list[int]] = {}
    steps: list[float] = []
    started = clock()
    for event in begin_answers(
        evaluation,
        asked,
        max_tokens=_TRIAL_TOKENS,
        prefilled=fed.append if evaluation.kl_tokens else None,
    ):
        if isinstance(event, Token):
            own = tokens.setdefault(event.arm, [])
            own.append(event.id)
            if len(own) > len(steps):
                steps.append(clock())
    first = (steps[0] if steps else clock()) - started
    step = (steps[-1] - steps[0]) / (len(steps) - 1) if len(steps) > 1 else 0.0
    if not fed:
        return TrialTimes(first, step, 0.0)
    arms = len(evaluation.arms)
    begun = [tokens.get(row * arms, []) for row in range(len(asked))]
    started = clock()
    last = [one.ids[-1] for one in asked]
    kl_after_prefill(evaluation.model, fed.pop(), last, begun, evaluation.arms)
    return TrialTimes(first, step, (clock() - started) / max(1, *map(len, begun)))


def expected_seconds(
    evaluation: Evaluation, clock: Clock = time.perf_counter
) -> tuple[float, float]:
    """Estimate a run's time from a trial with the longest prompts.

    Returns:
        The longest that the answers can take; and what continuing one in
        :data:`SAMPLED` of them adds.
    """
    limit = evaluation.max_tokens
    first, step, kl = pace(evaluation, _longest(evaluation), clock)
    tokens = limit - 1
    if evaluation.main is not None:  # some answers begin anew, as refusals
        tokens += min(limit, OPENED_TOKENS) + len(evaluation.openings)
    batch = first + step * tokens + kl * min(evaluation.kl_tokens, limit)
    more = step * max(0, evaluation.extend_to - limit) / SAMPLED
    batches = -(-len(evaluation.prompts) // evaluation.size)
    return batch * batches, more * batches


def _longest(evaluation: Evaluation) -> list[int]:
    """The numbers of a batch of the longest prompts."""
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
    best, best_speed = 0, 0.0
    for done, rows in enumerate(WIDTHS):
        progress(f"Timing {rows} rows", done, len(WIDTHS))
        trial = replace(evaluation, rows=rows, kl_tokens=0)
        prompts = _longest(trial)
        if best and len(prompts) == len(_longest(replace(evaluation, rows=best))):
            continue  # the same batch: one prompt fills it, or all do not
        step = ranks.share(pace(trial, prompts, clock).step)
        speed = len(prompts) / max(1e-9, step)
        if speed < _GAIN * best_speed:
            break
        best, best_speed = rows, speed
    return best
