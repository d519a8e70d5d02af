"""Compute each layer's activations at the last token; forward passes only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.errors import InputError, NonFiniteError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import Family, block_of, family_of
from cna_mlx.models.memory.forecast import BATCH_TOKENS
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.mlx_lm_internals import ConcatenateKVCache
from cna_mlx.models.offload.streaming import Embed, turns
from cna_mlx.util.progress import Progress, silent

_PADDING = [0]  # behind the shorter prompts of a batch; never seen


@dataclass
class _Batch:
    rows: list[int]  # which prompts these are
    last: mx.array  # [rows] index of each last token, [rows, positions] for several
    hidden: mx.array  # [rows, length, hidden], padded on the right
    kept: int  # from the first of the last tokens to the end

    def at_last(self, values: mx.array) -> mx.array:
        """The last tokens of [rows, length, n], [rows, n] or [rows, positions, n].

        A gather, not a slice: a slice would keep the whole buffer alive.
        """
        rows = mx.arange(len(self.rows))
        # of a long prompt `values` are the last piece's
        last = self.last + (values.shape[1] - self.hidden.shape[1])
        return values[rows[:, None] if self.last.ndim > 1 else rows, last]

    def pieces(self) -> list[mx.array]:
        """The hidden states in pieces; all last tokens are in the last one."""
        return _pieces(self.hidden, self.kept)


def last_activations(
    model: Any,
    ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    positions: int = 1,
) -> Iterator[tuple[int, mx.array]]:
    """Each layer's neurons at the last token of every prompt, layer after layer.

    All prompts go through a layer before the next one, so each weight is read once
    for a batch. Attention is causal, so no token sees the padding on the right. Ids
    that all prompts begin with are computed once; logits never are. A prompt of more
    than 512 tokens goes through a layer in pieces.

    Args:
        ids: token ids of each prompt.
        batch_tokens: about how many tokens go through a layer at a time.
        positions: read so many of each prompt's last tokens.

    Yields:
        The layer's index and ``a`` [n_prompts, d_ff] in float32, in the order given;
        for several positions [n_prompts, positions, d_ff].

    Raises:
        InputError: no prompts, one longer than the context, or one of fewer tokens
            than ``positions``.
        NonFiniteError: an activation is NaN or infinite; names layer and prompt.
    """
    for layer, batches in _walk(model, ids, batch_tokens, positions):
        rows = _Rows(len(ids), layer.index)
        for batch, cache in batches:
            rows.take(batch.rows, layer.forward_batch(batch, cache))
        yield layer.index, rows.all()


def last_residuals(
    model: Any,
    ids: Sequence[Sequence[int]],
    layer: int,
    *,
    positions: int = 1,
    progress: Progress = silent,
) -> mx.array:
    """The residual stream after a layer at the last token of every prompt.

    Args:
        positions: take the mean of so many of each prompt's last tokens.
        progress: called after each layer.

    Returns:
        [n_prompts, hidden] in float32.

    Raises:
        as :func:`last_activations`.
    """
    rows = _Rows(len(ids), layer)
    for step, batches in _walk(model, ids, BATCH_TOKENS, positions, whole=True):
        for batch, cache in batches:
            step.forward_batch(batch, cache)
            if step.index == layer:
                found = batch.at_last(batch.hidden).astype(mx.float32)
                rows.take(batch.rows, found if positions == 1 else found.mean(axis=1))
        progress("Reading the residual stream", step.index + 1, layer + 1)
        if step.index == layer:
            break
    return rows.all()


def _walk(
    model: Any,
    ids: Sequence[Sequence[int]],
    batch_tokens: int,
    positions: int,
    *,
    whole: bool = False,
) -> Iterator[tuple["_Layer", Iterator[tuple[_Batch, Any]]]]:
    """Each layer, and the batches to take through it with the shared ids' cache.

    Args:
        whole: also take all tokens through the last layer.
    """
    family = family_of(model)
    check_lengths(model, ids)
    check_positions(ids, positions)
    count = len(family.layers(model))
    # A sliding window's cache forgets: it cannot be shared between prompts.
    shared = 0 if family.slides(model) else shared_prefix(ids, positions)
    with wired(), turns(model) as weights:
        with weights.embedding(family, chain(_PADDING, *ids)) as embed:
            header, batches = _embedded(embed, ids, shared, batch_tokens, positions)
        for index, weight in weights.layers():
            is_last = index == count - 1 and not whole
            layer = _Layer(family, model, index, weight, is_last)
            prefix = ConcatenateKVCache() if header is not None else None
            if header is not None:
                header = layer.forward_prefix(header, prefix)
            caches = (_shared_cache(prefix, len(one.rows)) for one in batches)
            yield layer, zip(batches, caches, strict=True)


def check_positions(ids: Sequence[Sequence[int]], positions: int) -> None:
    """Check that every prompt has so many tokens; InputError if not."""
    if (shortest := min(map(len, ids))) < positions:
        raise InputError(
            f"a prompt has only {shortest} tokens: give --positions {shortest} or fewer"
        )


def shared_prefix(ids: Sequence[Sequence[int]], own: int = 1) -> int:
    """How many ids all prompts share at the start; leaves each at least ``own``."""
    shortest = min(len(prompt) for prompt in ids)
    first, last = min(ids, key=list), max(ids, key=list)
    common = 0
    while common < shortest - own and first[common] == last[common]:
        common += 1
    return common


def _embedded(
    embed: Embed,
    ids: Sequence[Sequence[int]],
    shared: int,
    batch_tokens: int,
    positions: int,
) -> tuple[mx.array | None, list[_Batch]]:
    """The hidden states of what all prompts begin with, and of their own ids."""
    header = embed([list(ids[0][:shared])]) if shared else None
    batches = []
    for rows in groups(ids, shared, batch_tokens):
        tails = [list(ids[row][shared:]) for row in rows]
        length = len(tails[-1])
        padded = [tail + _PADDING * (length - len(tail)) for tail in tails]
        last = mx.array([len(tail) - 1 for tail in tails])
        if positions > 1:
            last = last[:, None] + mx.arange(1 - positions, 1)
        kept = length - len(tails[0]) + positions  # the first is the shortest
        batches.append(_Batch(rows, last, embed(padded), kept))
        mx.eval(batches[-1].hidden)
    if header is not None:
        mx.eval(header)
    return header, batches


def groups(
    ids: Sequence[Sequence[int]], shared: int, batch_tokens: int = BATCH_TOKENS
) -> list[list[int]]:
    """Which prompts go through a layer together, sorted by length.

    A batch has at most ``batch_tokens`` ids after the ``shared`` ones, or one prompt.
    """
    found: list[list[int]] = []
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        length = len(ids[row]) - shared  # the longest so far: rows come sorted
        if found and (len(found[-1]) + 1) * length <= batch_tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found


class _Rows:
    """The last tokens' activations of one layer, batch by batch in any order."""

    def __init__(self, prompts: int, layer: int) -> None:
        self._layer = layer
        self._finite = np.ones(prompts, dtype=bool)
        self._found: mx.array | None = None

    def take(self, rows: list[int], found: mx.array) -> None:
        """Put the activations [len(rows), ..., d_ff] of these prompts in place."""
        finite = mx.isfinite(found).reshape(len(rows), -1).all(axis=1)
        if self._found is None:
            self._found = mx.zeros((len(self._finite), *found.shape[1:]))
        # in place: nothing else holds this buffer
        self._found[mx.array(rows)] = found
        mx.eval(self._found, finite)
        self._finite[rows] = np.array(finite)

    def all(self) -> mx.array:
        """Return all activations, [n_prompts, ..., d_ff], if they are finite."""
        if not self._finite.all():
            first = int(np.flatnonzero(~self._finite)[0])
            raise NonFiniteError(self._layer, first)
        assert self._found is not None
        found, self._found = self._found, None  # the caller's alone from here on
        return found


@dataclass(frozen=True)
class _Layer:
    """One layer of a model, by its index; of the last one less is needed."""

    family: Family
    model: Any
    index: int
    layer: Any
    is_last: bool

    def _attend(self, hidden: mx.array, cache: Any) -> mx.array:
        mask = self.family.attention_mask(self.model, self.index, hidden, cache)
        own = self.layer.input_layernorm(hidden)
        return hidden + self.layer.self_attn(own, mask, cache)

    def forward_prefix(self, hidden: mx.array, cache: Any) -> mx.array:
        """The shared ids through the layer; of the last one only the cache."""
        parts = [self._forward(part, cache) for part in _pieces(hidden)]
        return mx.concatenate(parts, axis=1)

    def _forward(self, hidden: mx.array, cache: Any) -> mx.array:
        attended = self._attend(hidden, cache)
        if self.is_last:
            mx.eval(cache.keys, cache.values)
            return attended
        block = block_of(self.family, self.layer)
        hidden = attended + block(self.layer.post_attention_layernorm(attended))
        mx.eval(hidden, cache.keys, cache.values)
        return hidden

    def forward_batch(self, batch: _Batch, cache: Any) -> mx.array:
        """A batch through the layer; the last tokens' activations, by row."""
        *early, hidden = batch.pieces()
        if early and cache is None:
            cache = ConcatenateKVCache()
        done = [self._forward(part, cache) for part in early]
        attended = self._attend(hidden, cache)
        block = block_of(self.family, self.layer)
        norm = self.layer.post_attention_layernorm
        if self.is_last:  # nothing comes after: only the last tokens are needed
            several = batch.last.ndim > 1
            ends = batch.at_last(attended)
            read = block.activations(norm(ends if several else ends[:, None]))
            found = (read if several else read[:, 0]).astype(mx.float32)
            mx.eval(found)
            return found
        activations = block.activations(norm(attended))
        found = batch.at_last(activations).astype(mx.float32)
        done.append(attended + block.down_proj(activations))
        batch.hidden = mx.concatenate(done, axis=1)
        mx.eval(batch.hidden, found)
        return found


def _pieces(hidden: mx.array, last: int = 1) -> list[mx.array]:
    """[rows, length, hidden] in pieces of 512 tokens; the last has ``last`` or more."""
    cuts = list(range(BATCH_TOKENS, hidden.shape[1] - last + 1, BATCH_TOKENS))
    return list(mx.split(hidden, cuts, axis=1)) if cuts else [hidden]


def _shared_cache(prefix: Any, rows: int) -> Any:
    if prefix is None:
        return None
    cache = ConcatenateKVCache()
    cache.state = tuple(
        mx.broadcast_to(part, (rows, *part.shape[1:])) for part in prefix.state
    )
    return cache
