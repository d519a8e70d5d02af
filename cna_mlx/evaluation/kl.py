"""Measure how far steering shifts the next-token distributions."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.context import vocabulary
from cna_mlx.models.memory.machine import wired
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import shared_prefill

KL_TOKENS = 32
# Logits in float32 at a time: 2^25 of them are 134 MB.
_LOGITS = 1 << 25


@wired()
def kl_from_baseline(
    model: Any,
    prompt: Sequence[int],
    answer: Sequence[int],
    arms: Sequence[Arm],
    *,
    tokens: int = KL_TOKENS,
    stop: Callable[[], bool] = lambda: False,
) -> list[float] | None:
    """Return the KL(baseline || arm) of the next token, along the baseline's answer.

    Feeds every arm the same token ids (teacher forcing): the prompt and the greedy
    answer's first ``tokens``. Compares the distributions of each of these answer
    tokens; for an empty answer, of the first token.

    Returns:
        The mean over the tokens for each arm, in nats; 0 for the first arm, which is
        the baseline. None if stopped.

    Raises:
        OutOfMemoryError: MLX cannot allocate.
        CnaError: an arm's logits are NaN or infinite.
    """
    edits = Edits(model, [arm.steering for arm in arms])
    cache = shared_prefill(model, prompt[:-1], edits, stop)
    if cache is None:
        return None
    count = max(1, min(tokens, len(answer)))
    fed = [prompt[-1], *answer[: count - 1]]
    step = max(1, _LOGITS // (len(arms) * vocabulary(model)))
    total = np.zeros(len(arms))
    for start in range(0, count, step):
        if stop():
            return None
        part = mx.array([fed[start : start + step]] * len(arms))
        with edits.installed():
            logits = model(part, cache=cache)
        total += _divergences(logits)
    means = total / count
    if not np.isfinite(means).all():
        raise logits_error(arms[int(np.flatnonzero(~np.isfinite(means))[0])])
    return [float(value) for value in np.maximum(means, 0.0)]


def _divergences(logits: mx.array) -> np.ndarray:
    """KL(row 0 || row) summed over the tokens: [rows, tokens, vocabulary] to [rows]."""
    logits = logits.astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    first = logprobs[:1]
    # where the baseline has no probability at all, 0 * inf counts for nothing
    parts = mx.where(first > -mx.inf, mx.exp(first) * (first - logprobs), 0.0)
    return np.array(parts.sum(axis=-1).sum(axis=-1), dtype=np.float64)
