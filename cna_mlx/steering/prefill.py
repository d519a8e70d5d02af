"""A prompt into the KV caches of several arms; what they share is computed once."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from cna_mlx.models.families import family_of
from cna_mlx.models.mlp import GatedMLP
from cna_mlx.models.mlx_lm_internals import KVCache, make_prompt_cache
from cna_mlx.steering.interventions import Edits

# Small enough to be interrupted in the middle of a long prompt.
_STEP = 512


def prefill(
    model: Any,
    ids: Sequence[Sequence[int]],
    cache: list[Any],
    edits: Edits,
    stop: Callable[[], bool],
) -> bool:
    """Feed rows of one length to the model.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: token ids of each row; the last of a prompt is left to the decoding.
        cache: the layers' KV caches of these rows, which are filled.
        edits: what is done to each row.
        stop: asked before each step of 512 tokens.

    Returns:
        Whether the end was reached.
    """
    for start in range(0, len(ids[0]), _STEP):
        if stop():
            return False
        part = [list(row[start : start + _STEP]) for row in ids]
        with edits.installed():
            model(mx.array(part), cache=cache)
            mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    return True


def shared_prefill(
    model: Any, ids: Sequence[int], edits: Edits, stop: Callable[[], bool]
) -> list[Any] | None:
    """Feed one prompt to all arms of a batch.

    Arms are the same up to the first layer where one of them is edited and another is
    not, or otherwise: until then they are one row, and equal arms are to the end.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: token ids without the last one.
        edits: of the batch's rows.
        stop: asked before each step of 512 tokens.

    Returns:
        The layers' KV caches, a row for each arm; None if stopped.
    """
    cache = make_prompt_cache(model)
    plain = all(type(layer) is KVCache for layer in cache)
    if edits.rows == 1 or not ids or not plain or _is_steered(model):
        rows = [ids] * edits.rows
        return cache if prefill(model, rows, cache, edits, stop) else None
    groups = edits.groups(len(cache))
    # the first row of each group stands for it
    first = [[of.index(group) for group in range(max(of) + 1)] for of in groups]
    reduced = edits.of_rows(dict(enumerate(first)))
    for start in range(0, len(ids), _STEP):
        if stop():
            return None
        with reduced.installed():
            _step(model, ids[start : start + _STEP], cache, groups, first)
            mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    for layer, of in zip(cache, groups, strict=True):
        if max(of) + 1 < edits.rows:
            rows_of = mx.array(of)
            layer.keys, layer.values = layer.keys[rows_of], layer.values[rows_of]
    mx.eval([layer.state for layer in cache])
    return cache


def _step(
    model: Any,
    ids: Sequence[int],
    cache: list[Any],
    groups: list[list[int]],
    first: list[list[int]],
) -> None:
    family = family_of(model)
    hidden = family.embed(model, mx.array([list(ids)]))
    before = [0] * len(groups[0])  # one row for all
    for index, layer in enumerate(family.layers(model)):
        if len(first[index]) > len(hidden):
            hidden = hidden[mx.array([before[row] for row in first[index]])]
        before = groups[index]
        mask = family.attention_mask(model, index, hidden, cache[index])
        hidden = layer(hidden, mask, cache[index])


def _is_steered(model: Any) -> bool:
    """Whether the caller steers already, perhaps with a multiplier for each row."""
    layers = family_of(model).layers(model)
    return any(isinstance(layer.mlp, GatedMLP) for layer in layers)
