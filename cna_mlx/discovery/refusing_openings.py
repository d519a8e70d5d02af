"""The phrases that begin a model's own refusals, and how likely an answer has one."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.errors import CnaError
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import copy_of, prefill
from cna_mlx.util.progress import Progress, never, silent

PROMPTS = 32
#: New tokens of an answer, enough to tell a refusal from an answer.
TOKENS = 32
# Tokens of a phrase.
_LONGEST = 3
# An opening begins at least one in so many answers.
_SHARE = 10
# With fewer labelled refusals all answers count.
_FEWEST = 4

Opening = tuple[int, ...]


def refusing_openings(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    rendering: Rendering,
    *,
    progress: Progress = silent,
) -> tuple[Opening, ...]:
    """Find the phrases that begin the model's refusals, and not its answers.

    Args:
        contrast: up to 32 prompts of each side are answered, evenly spaced.
        progress: called after each batch of answers.

    Returns:
        as :func:`openings_of`.
    """
    sides = [_some(side) for side in (contrast.positive, contrast.negative)]
    ids = [render_prompt(tokenizer, one, rendering) for side in sides for one in side]
    answers = answer_unsteered(model, tokenizer, ids, TOKENS, progress=progress)
    middle = len(sides[0])
    return openings_of(answers[:middle], answers[middle:])


def openings_of(
    positive: Sequence[Answer], negative: Sequence[Answer]
) -> tuple[Opening, ...]:
    """Find the phrases that begin refusals of positive prompts.

    A phrase is the first token of at least one in ten refusals. If it also begins one
    in ten of the answered negative prompts, as "I" may, it is made longer, to three
    tokens at most, until it does not. With fewer than four refusals, as where answers
    are not English or the contrast is of another behaviour, all answers count.

    Args:
        positive, negative: the answers of each side, of about 32 tokens.

    Returns:
        Token ids, the most frequent phrase first; no phrase begins with another.
        Empty if every phrase is ambiguous.
    """
    refused = [one for one in positive if _kind(one) is LabelKind.REFUSED]
    answered = [one for one in negative if _kind(one) is LabelKind.ANSWERED]
    if len(refused) < _FEWEST:
        refused, answered = list(positive), list(negative)
    return tuple(distinct_openings(_starts(refused), _starts(answered)))


def distinct_openings(
    positive: Sequence[Opening], negative: Sequence[Opening], start: Opening = ()
) -> Iterator[Opening]:
    """Choose the phrases that begin with ``start``; see :func:`openings_of`.

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
        if after[phrase] * _SHARE < len(negative):
            yield phrase
        elif length < _LONGEST:
            yield from distinct_openings(positive, negative, phrase)


@wired()
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

    cache = make_prompt_cache(model)
    prefill(model, ids[:-1], cache, Edits(model, ()), never)
    return log_odds_after(model, cache, ids[-1:], openings)[0]


def log_odds_after(
    model: Any, cache: list[Any], last: Sequence[int], openings: Sequence[Opening]
) -> list[float]:
    """As :func:`opening_log_odds` for several prompts that were fed already.

    Args:
        cache: the KV caches of the prompts without their last tokens, a row for each,
            unsteered. They stay as they are.
        last: the last token of each prompt.
    """

    def following(tokens: Opening) -> mx.array:
        fed = [copy_of(layer) for layer in cache]
        rows = mx.array([[one, *tokens] for one in last])
        return model(rows, cache=fed)[:, -1].astype(mx.float32)

    found = np.array(log_odds(following, openings))
    if not np.isfinite(found).all():
        raise CnaError("the logits of the unsteered model are NaN or infinite")
    return [float(one) for one in found]


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


def _some(prompts: Sequence[str]) -> list[str]:
    """Up to 32 prompts, evenly spaced."""
    count = min(PROMPTS, len(prompts))
    return [prompts[number * len(prompts) // count] for number in range(count)]


def _starts(answers: Sequence[Answer]) -> list[Opening]:
    return [answer.token_ids[:_LONGEST] for answer in answers]


def _kind(answer: Answer) -> LabelKind:
    return label(answer.text, opens_thought=answer.opens_thought).kind
