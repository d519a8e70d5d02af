"""The first tokens of a model's own refusals, and how likely an answer has them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.errors import CnaError
from cna_mlx.models.memory.allocation import allocation_errors
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import prefill
from cna_mlx.util.progress import never

PROMPTS = 32
_TOKENS = 3
# An opening begins at least one in so many answers.
_SHARE = 10

Opening = tuple[int, ...]


def refusing_openings(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    rendering: Rendering,
    *,
    times: int | None = None,
) -> tuple[Opening, ...]:
    """Find the phrases that begin the model's answers to positive prompts only.

    A phrase is the first token of at least one in ten greedy answers to the positive
    prompts. If it also begins one in ten answers to the negative prompts, as "I" may,
    it is made longer, to three tokens at most, until it does not.

    Args:
        contrast: up to 32 prompts of each side are answered, evenly spaced.
        times: if every phrase is ambiguous, as for a model that also refuses harmless
            requests, take phrases that are so many times as frequent on the positive
            side.

    Returns:
        Token ids, the most frequent phrase first; no phrase begins with another.
        Empty if every phrase is ambiguous.
    """
    positive, negative = (
        _beginnings(model, tokenizer, side, rendering)
        for side in (contrast.positive, contrast.negative)
    )
    found = tuple(distinct_openings(positive, negative))
    if found or times is None:
        return found
    return tuple(distinct_openings(positive, negative, times=times))


def distinct_openings(
    positive: Sequence[Opening],
    negative: Sequence[Opening],
    start: Opening = (),
    times: int | None = None,
) -> Iterator[Opening]:
    """Choose the phrases that begin with ``start``; see :func:`refusing_openings`.

    Args:
        positive, negative: the first tokens of each answer.
    """
    length = len(start) + 1
    before, after = (
        Counter(ids[:length] for ids in side if len(ids) >= length)
        for side in (positive, negative)
    )
    for phrase, count in before.most_common():
        if phrase[:-1] != start or count * _SHARE < len(positive):
            continue
        rare = after[phrase] * _SHARE < len(negative)
        if times is not None:
            rare = after[phrase] * times * len(positive) <= count * len(negative)
        if rare:
            yield phrase
        elif length < _TOKENS:
            yield from distinct_openings(positive, negative, phrase, times)


@allocation_errors()
def opening_log_odds(
    model: Any, ids: Sequence[int], openings: Sequence[Opening]
) -> float:
    """Return the log-odds that the answer to a prompt has one of these openings.

    The phrases' probabilities are summed; a later token's is that after the phrase's
    earlier ones (teacher forcing). In float32 whatever the model's precision.

    Args:
        ids: the prompt's token ids.
        openings: at least one; no phrase begins with another.

    Raises:
        CnaError: the logits are NaN or infinite.
    """

    def following(tokens: Opening) -> mx.array:
        fed = [*ids, *tokens]
        cache = make_prompt_cache(model)
        prefill(model, fed[:-1], cache, Edits(model, ()), never)
        return model(mx.array([fed[-1:]]), cache=cache)[:, -1].astype(mx.float32)

    found = float(np.array(log_odds(following, openings))[0])
    if not np.isfinite(found):
        raise CnaError("the logits of the unsteered model are NaN or infinite")
    return found


def log_odds(
    following: Callable[[Opening], mx.array], openings: Sequence[Opening]
) -> mx.array:
    """Return the log-odds that what follows has one of these openings, [rows].

    Args:
        following: from the first tokens of an answer to the logits of the next one,
            [rows, vocabulary] in float32.
        openings: as for :func:`opening_log_odds`.
    """
    inside, outside = _log_shares(following, openings, ())
    return inside - outside


def _log_shares(
    following: Callable[[Opening], mx.array],
    openings: Sequence[Opening],
    start: Opening,
) -> tuple[mx.array, mx.array]:
    """The log-probabilities, [rows], that after ``start`` comes an opening, or not."""
    logits = following(start)
    shares = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    firsts = list(dict.fromkeys(opening[0] for opening in openings))
    is_other = np.ones(shares.shape[-1], dtype=bool)
    is_other[firsts] = False
    inside = []
    outside = [mx.logsumexp(mx.where(mx.array(is_other), shares, -mx.inf), axis=-1)]
    for token in firsts:
        own = shares[:, token]
        tails = [opening[1:] for opening in openings if opening[0] == token]
        if all(tails):
            more, other = _log_shares(following, tails, (*start, token))
            inside.append(own + more)
            outside.append(own + other)
        else:
            inside.append(own)
    return mx.logsumexp(mx.stack(inside), axis=0), mx.logsumexp(
        mx.stack(outside), axis=0
    )


def _beginnings(
    model: Any, tokenizer: Any, prompts: Sequence[str], rendering: Rendering
) -> list[Opening]:
    """The first tokens of the greedy answers to a side's prompts."""
    count = min(PROMPTS, len(prompts))
    chosen = [prompts[number * len(prompts) // count] for number in range(count)]
    ids = [render_prompt(tokenizer, prompt, rendering) for prompt in chosen]
    return [a.token_ids for a in answer_unsteered(model, tokenizer, ids, _TOKENS)]
