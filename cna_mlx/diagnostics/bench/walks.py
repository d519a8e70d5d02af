"""Run prompts through a model, with and without reading its neurons."""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.activations import groups, last_activations, shared_prefix
from cna_mlx.models.memory.forecast import Workload
from cna_mlx.prompts import PromptSet


def both_sides(contrast: PromptSet, count: int) -> list[str]:
    """Return the first prompts of a contrast, alternating between its sides."""
    pairs = zip(contrast.positive, contrast.negative, strict=False)
    return list(islice(chain.from_iterable(pairs), count))


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
