"""Feed prompts into the KV caches of several arms; compute what they share once."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import mlx.core as mx

from cna_mlx.models.families import family_of
from cna_mlx.models.forward import Pass
from cna_mlx.models.mlp import MLPBlock
from cna_mlx.models.mlx_lm_internals import (
    ArraysCache,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)
from cna_mlx.steering.interventions import Edits

# Small enough that Ctrl-C interrupts a long prompt.
_STEP = 512


def prefill(
    model: Any,
    ids: Sequence[int],
    cache: list[Any],
    edits: Edits,
    stop: Callable[[], bool],
) -> bool:
    """Feed a prompt to every row of a batch; return False if stopped.

    Args:
        ids: token ids without the last one, which the decoding feeds.
        stop: called before each step of 512 tokens.
    """
    for start in range(0, len(ids), _STEP):
        if stop():
            return False
        part = list(ids[start : start + _STEP])
        with edits.installed():
            model(mx.array([part] * edits.rows), cache=cache)
            mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    return True


def shared_prefill(
    model: Any, ids: Sequence[int], edits: Edits, stop: Callable[[], bool]
) -> list[Any] | None:
    """Feed one prompt to all arms of a batch, and compute what they share once.

    Arms share a row up to the first layer where their edits differ; equal arms share
    it to the end. Arguments are those of :func:`prefill`.

    Returns:
        The layers' KV caches, a row for each arm; None if stopped.
    """
    cache = make_prompt_cache(model)
    # a layer that is fed another's output would need it in its own rows
    is_plain = family_of(model).outputs == 1 and all(map(_has_rows, cache))
    if edits.rows == 1 or not ids or not is_plain or _is_steered(model):
        return cache if prefill(model, ids, cache, edits, stop) else None
    groups = edits.groups(len(cache))
    # the first row of each group stands for it
    first = [[of.index(group) for group in range(max(of) + 1)] for of in groups]
    reduced = edits.of_rows(dict(enumerate(first)))
    for start in range(0, len(ids), _STEP):
        if stop():
            return None
        with reduced.installed():
            _forward_groups(model, ids[start : start + _STEP], cache, groups, first)
            mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    for layer, of in zip(cache, groups, strict=True):
        if max(of) + 1 < edits.rows:
            take_rows(layer, mx.array(of))
    mx.eval([layer.state for layer in cache])
    return cache


def _forward_groups(
    model: Any,
    ids: Sequence[int],
    cache: list[Any],
    groups: list[list[int]],
    first: list[list[int]],
) -> None:
    """A forward pass with one row for each group of arms, layer by layer."""
    fed = Pass(model, mx.array([list(ids)]), cache)
    hidden = fed.hidden
    before = [0] * len(groups[0])  # one row for all
    for index in range(len(groups)):
        if len(first[index]) > len(hidden):
            hidden = hidden[mx.array([before[row] for row in first[index]])]
        before = groups[index]
        hidden = fed.layer(index, hidden)


def _has_rows(cache: Any) -> bool:
    return type(cache) in (KVCache, RotatingKVCache, ArraysCache)


def take_rows(cache: Any, rows: mx.array) -> None:
    """Keep these rows of a layer's cache, in this order."""
    if hasattr(cache, "filter"):
        cache.filter(rows)
    elif cache.keys is not None:
        cache.keys, cache.values = cache.keys[rows], cache.values[rows]


def rows_of(cache: Any, count: int) -> list[Any]:
    """A layer's cache of several rows as caches of one row each."""
    found = [copy_of(cache) for _ in range(count)]
    for row, one in enumerate(found):
        take_rows(one, mx.array([row]))
    return found


def copy_of(cache: Any) -> Any:
    """A copy that stays as it is when the other goes on."""
    found = copy(cache)
    if isinstance(cache, ArraysCache):
        found.cache = list(cache.cache)
    elif cache.keys is not None:
        # a new array: the cache writes into its own
        found.keys, found.values = cache.keys[:], cache.values[:]
    return found


def _is_steered(model: Any) -> bool:
    """Whether the caller steers the model already."""
    family = family_of(model)
    return any(
        isinstance(layer[family.mlp], MLPBlock) for layer in family.layers(model)
    )
