"""Choose the next token of every row, each in its own way."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from cna_mlx.errors import CnaError, InputError
from cna_mlx.serve.work import TokenScore
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.sampling import Greedy, Sampling, chooser
from cna_mlx.util import ranks

#: From logits [1, vocabulary] to the next token [1]; None takes the most likely.
Choose = Callable[[mx.array], mx.array] | None


def choose_by(sampling: Sampling) -> Choose:
    """A request's way of choosing; its noise is the same in every arm."""
    return None if isinstance(sampling, Greedy) else chooser(sampling, 0)


class NextTokens(NamedTuple):
    """The next token of each row, computed lazily.

    Attributes:
        ids: [rows].
        logprobs: of these tokens, [rows] in float32; NaN if a logit is not finite.
        top_ids, top: the most likely tokens and their log-probabilities, [rows, k].
    """

    ids: mx.array
    logprobs: mx.array
    top_ids: mx.array
    top: mx.array

    def rows(self, rows: mx.array) -> "NextTokens":
        """These rows alone."""
        return NextTokens(*(part[rows] for part in self))

    def start(self) -> "NextTokens":
        """Start to compute them."""
        mx.async_eval(*self)
        return self

    def scores(self) -> list[TokenScore]:
        """The tokens of all rows, the most likely ones in order."""
        return token_scores(*(np.array(part) for part in self))


def next_tokens(logits: mx.array, ways: Sequence[Choose], top: int = 0) -> NextTokens:
    """Choose from logits, [rows, vocabulary].

    Args:
        ways: how each row chooses.
        top: the number of most likely tokens to give.
    """
    ids = mx.argmax(logits, axis=-1)
    if any(ways):
        ids = mx.concatenate(
            [
                ids[row : row + 1] if choose is None else choose(logits[row : row + 1])
                for row, choose in enumerate(ways)
            ]
        )
    # rank 0's: the sums of more than two ranks may differ in their last bits
    return scored(logits, ranks.chosen(ids), top)


def scored(logits: mx.array, ids: mx.array, top: int) -> NextTokens:
    """The log-probabilities of tokens [...], from logits [..., vocabulary]."""
    logits = logits.astype(mx.float32)
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    chosen = mx.take_along_axis(logits, ids[..., None], axis=-1) - total
    size = min(top, logits.shape[-1])
    if size == 0:
        found = mx.zeros((*ids.shape, 0), mx.int32)
    elif size == 1:
        found = mx.argmax(logits, axis=-1, keepdims=True)
    else:
        found = mx.argpartition(-logits, size - 1, axis=-1)[..., :size]
    best = mx.take_along_axis(logits, found, axis=-1) - total
    return NextTokens(ids, chosen[..., 0], found, best)


def not_finite(arm: Arm) -> CnaError:
    """The error for logits that are NaN or infinite: a multiplier is the client's."""
    error = logits_error(arm)
    return InputError(str(error)) if arm.steering else error


def token_scores(
    ids: np.ndarray, logprobs: np.ndarray, top_ids: np.ndarray, top: np.ndarray
) -> list[TokenScore]:
    """The tokens of rows, [rows] and [rows, k], as values."""
    order = np.argsort(-top, axis=-1, kind="stable")
    best_ids = np.take_along_axis(top_ids, order, -1).tolist()
    best = np.take_along_axis(top, order, -1).tolist()
    likely = (zip(*pair, strict=True) for pair in zip(best_ids, best, strict=True))
    return [
        TokenScore(token, logprob, tuple(pairs))
        for token, logprob, pairs in zip(
            ids.tolist(), logprobs.tolist(), likely, strict=True
        )
    ]
