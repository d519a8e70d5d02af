"""The most likely first tokens of an answer, in several arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from cna_mlx.models.context import check_lengths
from cna_mlx.models.memory.machine import wired
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import shared_prefill
from cna_mlx.util.progress import never


class FirstToken(NamedTuple):
    """A token and its probability in each arm."""

    text: str
    id: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class FirstTokens:
    """What answers to a prompt may begin with, the most likely in any arm first."""

    arms: tuple[str, ...]
    tokens: tuple[FirstToken, ...]

    def to_dict(self) -> list[dict[str, Any]]:
        """The tokens for JSON, with a probability for each arm."""
        return [
            {
                "text": token.text,
                "id": token.id,
                "probabilities": dict(zip(self.arms, token.probabilities, strict=True)),
            }
            for token in self.tokens
        ]


@wired()
def first_tokens(
    model: Any,
    tokenizer: Any,
    ids: Sequence[int],
    arms: Sequence[Arm],
    *,
    count: int = 8,
    stop: Callable[[], bool] = never,
) -> FirstTokens | None:
    """Return the ``count`` most likely first tokens of an answer, in one prefill.

    Ranked by their largest probability in any arm. All arms are rows of one batch.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        ids: the prompt's token ids.
        arms: at least one.

    Returns:
        None if stopped.

    Raises:
        CircuitError: a circuit does not fit the model.
        CnaError: an arm's logits are NaN or infinite.
        InputError: the prompt is empty or too long.
        OutOfMemoryError: MLX cannot allocate.
    """
    check_lengths(model, [ids])
    edits = Edits(model, [arm.steering for arm in arms])
    cache = shared_prefill(model, ids[:-1], edits, stop)
    if cache is None:
        return None
    return first_tokens_after(model, tokenizer, cache, ids[-1:], arms, count=count)[0]


def first_tokens_after(
    model: Any,
    tokenizer: Any,
    cache: list[Any],
    last: Sequence[int],
    arms: Sequence[Arm],
    *,
    count: int = 8,
) -> list[FirstTokens]:
    """As :func:`first_tokens` for several prompts that were fed already.

    Args:
        cache: the KV caches of the prompts without their last tokens, a row for each
            arm of each prompt. It is used up.
        last: the last token of each prompt.
    """
    edits = Edits(model, [arm.steering for arm in arms] * len(last))
    rows = mx.array([[token] for token in last for _ in arms])
    with edits.installed():
        logits = model(rows, cache=cache)[:, -1].astype(mx.float32)
    found = np.array(mx.softmax(logits, axis=-1)).reshape(len(last), len(arms), -1)
    is_finite = np.isfinite(found).all(axis=(0, 2))
    if not is_finite.all():
        raise logits_error(arms[int(np.flatnonzero(~is_finite)[0])])
    return [_most_likely(tokenizer, one, arms, count) for one in found]


def _most_likely(
    tokenizer: Any, found: np.ndarray, arms: Sequence[Arm], count: int
) -> FirstTokens:
    """From probabilities, [arms, vocabulary]."""
    best = np.argsort(-found.max(axis=0), kind="stable")[:count]
    tokens = [
        FirstToken(tokenizer.decode([token]), token, tuple(found[:, token].tolist()))
        for token in best.tolist()
    ]
    return FirstTokens(tuple(arm.label for arm in arms), tuple(tokens))
