"""Measure how far steering shifts the next-token distributions."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.context import vocabulary
from cna_mlx.models.memory.machine import wired
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.forced import ForcedTokens
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import NO_HEADER, Header, shared_prefill

KL_TOKENS = 32
#: Logits in float32 at a time: 2^24 of them are 67 MB, of which four copies are made.
LOGITS = 1 << 24


@wired()
def kl_from_baseline(
    model: Any,
    prompt: Sequence[int],
    answer: Sequence[int],
    arms: Sequence[Arm],
    *,
    tokens: int = KL_TOKENS,
    header: Header = NO_HEADER,
    stop: Callable[[], bool] = lambda: False,
) -> list[float] | None:
    """Return the KL(baseline || arm) of the next token, along the baseline's answer.

    Feeds every arm the same token ids (teacher forcing): the prompt and the greedy
    answer's first ``tokens``. Compares the distributions of each of these answer
    tokens; for an empty answer, of the first token. ``header`` is what the prompts of
    several calls begin with.

    Returns:
        The mean over the tokens for each arm, in nats; 0 for the first arm, which is
        the baseline. None if stopped.

    Raises:
        OutOfMemoryError: MLX cannot allocate.
        CnaError: an arm's logits are NaN or infinite.
    """
    edits = Edits(model, [arm.steering for arm in arms])
    cache = shared_prefill(model, prompt[:-1], edits, stop, header)
    if cache is None:
        return None
    found = kl_after_prefill(
        model, cache, prompt[-1:], [answer], arms, tokens=tokens, stop=stop
    )
    return None if found is None else found[0]


def kl_after_prefill(
    model: Any,
    cache: list[Any],
    last: Sequence[int],
    answers: Sequence[Sequence[int]],
    arms: Sequence[Arm],
    *,
    tokens: int = KL_TOKENS,
    stop: Callable[[], bool] = lambda: False,
) -> list[list[float]] | None:
    """As :func:`kl_from_baseline` for several prompts that were fed already.

    Args:
        cache: the KV caches of the prompts without their last tokens, a row for each
            arm of each prompt. It is used up.
        last: the last token of each prompt.
        answers: the baseline's answer to each.

    Returns:
        The KL of each arm, for each prompt; None if stopped.
    """
    edits = Edits(model, [arm.steering for arm in arms] * len(last))
    counts = [max(1, min(tokens, len(answer))) for answer in answers]
    longest = max(counts)
    fed = [
        [first, *answer[: count - 1]] + [first] * (longest - count)
        for first, answer, count in zip(last, answers, counts, strict=True)
    ]
    forced = ForcedTokens(model, edits, cache, len(last))
    step = max(1, LOGITS // (edits.rows * vocabulary(model)))
    total = np.zeros((len(last), len(arms)))
    for start in range(0, longest, step):
        if stop():
            return None
        part = [line[start : start + step] for line in fed]
        logits = forced.logits(part)
        places = start + mx.arange(len(part[0]))
        total += _divergences(logits, places < mx.array(counts)[:, None], len(arms))
    means = total / np.array(counts)[:, None]
    if not np.isfinite(means).all():
        raise logits_error(arms[int(np.argwhere(~np.isfinite(means))[0, 1])])
    return [[float(value) for value in row] for row in np.maximum(means, 0.0)]


def _divergences(logits: mx.array, is_real: mx.array, arms: int) -> np.ndarray:
    """KL(first arm || arm), summed over the real tokens.

    Args:
        logits: [prompts * arms, tokens, vocabulary].
        is_real: [prompts, tokens]; False beyond an answer's end.

    Returns:
        [prompts, arms].
    """
    logits = logits.astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    logprobs = logprobs.reshape(-1, arms, *logprobs.shape[1:])
    first = logprobs[:, :1]
    # where the baseline has no probability at all, 0 * inf counts for nothing
    parts = mx.where(first > -mx.inf, mx.exp(first) * (first - logprobs), 0.0)
    sums = mx.where(is_real[:, None], parts.sum(axis=-1), 0.0).sum(axis=-1)
    return np.array(sums, dtype=np.float64)
