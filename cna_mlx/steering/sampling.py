"""Choose the next token of every row from its logits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from cna_mlx.errors import InputError


@dataclass(frozen=True)
class Greedy:
    """Always the most probable token."""


@dataclass(frozen=True)
class Sampled:
    """Draw from the distribution, with the same noise for all arms.

    The largest log-probability plus Gumbel noise is a sample of the distribution.
    One draw of noise per step serves all arms, so they differ only by the steering.

    Attributes:
        temperature: above 0; smaller is closer to greedy.
        top_p: keep the smallest set of tokens with this total probability.
        seed: of the noise.
        top_k: keep this many of the most probable tokens; 0 keeps all.
        min_p: keep tokens with at least this share of the most probable one's
            probability; 0 keeps all.
    """

    temperature: float
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature}: give a number above 0")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p {self.top_p}: give a number above 0 and up to 1")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed}: give a whole number from 0 to 2^63-1")
        if self.top_k < 0:
            raise InputError(f"top-k {self.top_k}: give a whole number, 0 for all")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min-p {self.min_p}: give a number from 0 to 1")


@dataclass(frozen=True)
class Among:
    """The most probable of these token ids."""

    ids: tuple[int, ...]


Sampling = Greedy | Sampled | Among


def chooser(sampling: Sampling, number: int) -> Callable[[mx.array], mx.array]:
    """Return a function from logits [rows, vocabulary] to the next token of each row.

    The prompt's number seeds its noise.
    """
    if isinstance(sampling, Greedy):
        return lambda logits: mx.argmax(logits, axis=-1)
    if isinstance(sampling, Among):
        ids = mx.array(sampling.ids)
        return lambda logits: ids[mx.argmax(logits[:, ids], axis=-1)]
    key = mx.random.key(sampling.seed + 1_000_003 * number)

    def choose(logits: mx.array) -> mx.array:
        nonlocal key
        key, drawn = mx.random.split(key)
        logits = logits.astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        logprobs = _filtered(logprobs, sampling)
        noise = mx.random.gumbel((1, logits.shape[-1]), key=drawn)  # one draw for all
        return mx.argmax(logprobs / sampling.temperature + noise, axis=-1)

    return choose


def _filtered(logprobs: mx.array, sampling: Sampled) -> mx.array:
    """Drop improbable tokens, in the order of mlx-lm's sampler."""
    from cna_mlx.models.mlx_lm_internals import apply_top_p

    if sampling.top_p < 1:
        logprobs = apply_top_p(logprobs, sampling.top_p)
    if sampling.min_p:
        least = logprobs.max(axis=-1, keepdims=True) + math.log(sampling.min_p)
        logprobs = mx.where(logprobs < least, -mx.inf, logprobs)
    if 0 < sampling.top_k < logprobs.shape[-1]:
        least = mx.sort(logprobs, axis=-1)[..., -sampling.top_k, None]
        logprobs = mx.where(logprobs < least, -mx.inf, logprobs)
    return logprobs
