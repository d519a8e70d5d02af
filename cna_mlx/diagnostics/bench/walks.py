"""Run prompts through a model, with and without reading its neurons."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics.model import bytes_per_token
from cna_mlx.discovery.activations import groups, last_activations, shared_prefix
from cna_mlx.models.families import experts_of, family_of
from cna_mlx.models.memory.forecast import Workload
from cna_mlx.models.memory.loaded import parameter_bytes
from cna_mlx.prompts import PromptSet

_T = TypeVar("_T")


def both_sides(contrast: PromptSet) -> list[str]:
    """Return the prompts of a contrast, alternating between its sides."""
    pairs = zip(contrast.positive, contrast.negative, strict=False)
    return list(chain.from_iterable(pairs))


def alternating(values: Sequence[_T], count: int) -> list[_T]:
    """Return values of two sides in turn: pairs at even distances among all.

    Args:
        count: how many at most, 2 or more; one less if it is odd.
    """
    pairs = list(zip(values[::2], values[1::2], strict=False))
    return list(chain.from_iterable(spread(pairs, count // 2)))


def spread(values: Sequence[_T], count: int) -> list[_T]:
    """Return so many of some values, at even distances; all if there are fewer."""
    count = min(count, len(values))
    return [values[(2 * n + 1) * len(values) // (2 * count)] for n in range(count)]


def sample_of(ids: Sequence[Sequence[int]], count: int) -> list[Sequence[int]]:
    """Return so many prompts, at even distances among all by their length."""
    return spread(sorted(ids, key=len), count)


def forward_each(model: Any, ids: Sequence[Sequence[int]]) -> None:
    """Run a plain forward pass of each prompt."""
    for prompt in ids:
        mx.eval(model(mx.array([list(prompt)])))


def deltas(model: Any, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Return the difference of the sides' mean activations, [d_ff] per layer.

    The prompts alternate between the sides.
    """
    return [
        np.array(found[0::2].mean(axis=0) - found[1::2].mean(axis=0))
        for _, found in last_activations(model, ids)
    ]


def multiplications(model: Any, ids: Sequence[Sequence[int]]) -> float:
    """Return how many times as many a forward pass of each prompt has as the walk.

    By tokens and weights: the walk reads what all prompts begin with once, stops at the
    last MLP's neurons, and computes no logits; but it pads prompts in a batch. The
    attention's products between tokens are not counted.
    """
    family = family_of(model)
    weights = bytes_per_token(model)
    layers = weights - parameter_bytes(family.unembedding(model))
    mlp = family.layers(model)[-1][family.mlp]
    last = 0 if experts_of(model)[-1] else parameter_bytes(mlp)
    work = workload(ids)
    read = work.tokens * (layers - last) + len(ids) * last * 2 / 3
    return sum(map(len, ids)) * weights / read


def shared_share(ids: Sequence[Sequence[int]]) -> float:
    """Return the share of all tokens that is in the prompts' common prefix."""
    return len(ids) * shared_prefix(ids) / sum(map(len, ids))


def workload(ids: Sequence[Sequence[int]]) -> Workload:
    """Return the workload of these prompts, for a memory forecast."""
    shared = shared_prefix(ids)
    return Workload.of([len(one) for one in ids], shared, groups(ids, shared))


def peak_of(work: Callable[[], object]) -> int:
    """Return MLX's peak memory during some work, in bytes beyond those held before."""
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return int(mx.get_peak_memory() - before)
