"""Try ablation on a few held-out prompts."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cna_mlx.discovery.controls import matched_control
from cna_mlx.discovery.cross_validation import Fold
from cna_mlx.discovery.discover import Discovery
from cna_mlx.discovery.trial_counts import ArmCounts, Expectation
from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, diff, rates
from cna_mlx.util import ranks
from cna_mlx.util.progress import Progress, never, silent

PROMPTS = 8
MAX_TOKENS = 48
SECONDS = 60.0


@wired()
def expect(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    discovery: Discovery,
    rendering: Rendering | None = None,
    *,
    prompts: int = PROMPTS,
    max_tokens: int = MAX_TOKENS,
    seconds: float = SECONDS,
    seed: int = 0,
    stop: Callable[[], bool] = never,
    progress: Progress = silent,
) -> Expectation | None:
    """Answer a few held-out positive prompts without and with ablation.

    Each prompt is answered by a circuit of the discovery's cross-validation that was
    ranked without it.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        max_tokens: new tokens of each answer: enough to recognize a refusal.
        seconds: time limit; no prompt starts that would exceed it at the average pace.
        stop: called before each token; an interrupted prompt is not counted.

    Returns:
        The counts; None if nothing can be held out, a circuit is too large for a
        control or empty, or no prompt was answered in time.

    Raises:
        InputError: the contrast is not the discovery's, or a value is out of range.
    """
    if not discovery.circuit.is_from(contrast.sha256):
        raise InputError("the circuit was discovered on other prompts")
    trials = [
        (contrast.positive[position], fold)
        for fold, position in held_out_prompts(discovery.folds, prompts)
    ]
    arms = _arms(discovery, [fold for _, fold in trials], seed)
    if arms is None:
        return None
    answer = partial(
        diff, model, tokenizer, rendering=rendering, max_tokens=max_tokens, stop=stop
    )
    results: list[PromptResult] = []
    started = time.perf_counter()
    for (prompt, _), own in zip(trials, arms, strict=True):
        elapsed = time.perf_counter() - started
        ends = elapsed + elapsed / max(1, len(results))  # as long as the others
        if stop() or ranks.share(ends > seconds):
            break
        results += [
            event
            for event in answer([prompt], own)
            if isinstance(event, PromptResult) and event.is_whole
        ]
        progress("Trying held-out prompts", len(results), len(trials))
    return tally(results, len(trials), max_tokens) if results else None


def held_out_prompts(folds: Sequence[Fold], count: int) -> list[tuple[Fold, int]]:
    """Choose positive prompts with their folds, from as few folds as possible."""
    chosen: list[tuple[Fold, int]] = []
    for fold in folds:
        taken = min(count - len(chosen), len(fold.positive))
        step = len(fold.positive) / max(1, taken)
        chosen += [(fold, fold.positive[int(n * step)]) for n in range(taken)]
    return chosen


def tally(
    results: Sequence[PromptResult], planned: int, max_tokens: int
) -> Expectation:
    """Count the answers of the baseline, the ablated and the control arm."""
    arms = [
        ArmCounts(
            rate.counts[LabelKind.REFUSED],
            rate.counts[LabelKind.PARTIAL],
            rate.counts[LabelKind.INVALID],
            sum(result.divergence(arm) is not None for result in results),
            rate.quality,
        )
        for arm, rate in enumerate(rates(results))
    ]
    return Expectation(len(results), planned, max_tokens, *arms)


def _arms(
    discovery: Discovery, folds: Sequence[Fold], seed: int
) -> list[list[Arm]] | None:
    """The three arms of each fold; None if one has no neurons or no control."""
    made: dict[int, list[Arm]] = {}
    for fold in folds:
        if id(fold) in made:
            continue
        if not fold.circuit.neurons:
            return None
        try:
            control = matched_control(fold.circuit, discovery.magnitudes, seed)
        except InputError:
            return None
        ablated = Arm.of(fold.circuit, 0.0, "ablated")
        made[id(fold)] = [BASELINE, ablated, Arm.of(control, 0.0, "matched control")]
    return [made[id(fold)] for fold in folds]
