"""Reading the neurons of many prompts, against a plain forward pass of each."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics.bench.timing import Budget, Clock, Comparison, in_turn
from cna_mlx.discovery.activations import groups, last_activations, shared_prefix
from cna_mlx.models.memory.forecast import Workload
from cna_mlx.prompts import PromptSet
from cna_mlx.util.progress import Progress, silent

Walk = Callable[[Any, Sequence[Sequence[int]]], Any]


def both_sides(contrast: PromptSet, count: int) -> list[str]:
    """As many prompts of a contrast, from its two sides in turn."""
    pairs = zip(contrast.positive, contrast.negative, strict=False)
    return list(islice(chain.from_iterable(pairs), count))


def compare_walks(
    model: Any,
    ids: Sequence[Sequence[int]],
    ways: tuple[Walk, Walk],
    names: tuple[str, str, str],
    budget: Budget,
    progress: Progress = silent,
) -> Comparison:
    """Time two ways of taking prompts through a model.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: token ids of each prompt, its two sides in turn.
        ways: the plain one, and the one that is held against it.
        names: of the result for programs, of the second way and of the first.
        budget: how many pairs.
        progress: told after each pair.
    """
    plain, ours = (partial(_seconds, way, model, ids, budget.clock) for way in ways)
    name, title, against = names
    found = in_turn(plain, ours, budget, task=title, progress=progress)
    return Comparison(name, *found, len(ids), "prompts", title, against)


def forward_each(model: Any, ids: Sequence[Sequence[int]]) -> None:
    """A plain forward pass of one prompt after the other; nothing is read."""
    for prompt in ids:
        mx.eval(model(mx.array([list(prompt)])))


def deltas(model: Any, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The difference of the two sides' mean activations, [d_ff] for each layer.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: token ids of each prompt, its two sides in turn.
    """
    return [
        np.array(found[0::2].mean(axis=0) - found[1::2].mean(axis=0))
        for _, found in last_activations(model, ids)
    ]


def shared_share(ids: Sequence[Sequence[int]]) -> float:
    """Which share of all tokens lies in what every prompt begins with."""
    return len(ids) * shared_prefix(ids) / sum(map(len, ids))


def workload(ids: Sequence[Sequence[int]]) -> Workload:
    """What a walk of these prompts comes to, for a forecast."""
    shared = shared_prefix(ids)
    return Workload.of([len(one) for one in ids], shared, groups(ids, shared))


def _seconds(
    way: Walk, model: Any, ids: Sequence[Sequence[int]], clock: Clock
) -> float:
    mx.synchronize()
    started = clock()
    way(model, ids)
    return clock() - started


def peak_of(work: Callable[[], Any]) -> int:
    """The most memory that MLX held during some work beyond what it held before.

    Args:
        work: anything that computes.

    Returns:
        Bytes.
    """
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return int(mx.get_peak_memory() - before)
