"""The log-probabilities of prompts' tokens, as evaluation harnesses ask for them."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.context import vocabulary
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.serve.batch_edits import BatchEdits
from cna_mlx.serve.tokens import (
    choose_by,
    next_tokens,
    not_finite,
    scored,
    token_scores,
)
from cna_mlx.serve.work import Failed, Scored, ScorePrompt, TokenScore

# Logits in float32 at a time: 2^24 of them are 67 MB, of which a few copies are made.
_LOGITS = 1 << 24
#: Prompts that are scored together, and the tokens in them.
TOGETHER, TOKENS = 32, 4096


def score_prompts(model: Any, works: Sequence[ScorePrompt], edits: BatchEdits) -> None:
    """Deliver the log-probabilities of several prompts, which are rows of one batch.

    Shorter ones are padded on the right, where no token sees the padding.
    """
    prompts = [list(work.prompt) for work in works]
    length = max(map(len, prompts))
    padded = np.array([ids + [0] * (length - len(ids)) for ids in prompts], np.int32)
    top = max(work.top for work in works)
    found: list[list[TokenScore]] = [
        [TokenScore(ids[0], float("nan"))] for ids in prompts
    ]
    cache = make_prompt_cache(model)
    step = max(1, _LOGITS // (len(works) * vocabulary(model)))
    for start in range(0, length, step):
        end = min(start + step, length)
        with edits.installed([work.arm for work in works]):
            logits = model(mx.array(padded[:, start:end]), cache=cache)
        # the token after each position; what follows the last one is not known
        targets = np.zeros((len(works), end - start), np.int32)
        targets[:, : min(end, length - 1) - start] = padded[:, start + 1 : end + 1]
        scores = scored(logits, mx.array(targets), top)
        mx.eval(scores, [layer.state for layer in cache])
        arrays = [np.array(part) for part in scores]
        for row, (work, ids) in enumerate(zip(works, prompts, strict=True)):
            if (real := min(end, len(ids) - 1) - start) > 0:
                found[row] += token_scores(*(part[row, :real] for part in arrays))
            if work.follows and start < len(ids) <= end:
                last = logits[row : row + 1, len(ids) - 1 - start]
                follows = next_tokens(last, [choose_by(work.sampling)], top)
                found[row] += follows.scores()
        mx.clear_cache()
    for work, tokens in zip(works, found, strict=True):
        is_finite = np.isfinite([one.logprob for one in tokens[1:]]).all()
        work.deliver(
            Scored(tuple(tokens)) if is_finite else Failed(not_finite(work.arm))
        )
