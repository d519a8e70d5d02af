"""Compute each layer's activations at the last token; forward passes only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.discovery.routed import RoutedRows
from cna_mlx.errors import InputError, NonFiniteError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import (
    block_of,
    experts_of,
    family_of,
    installed,
    widths,
)
from cna_mlx.models.forward import Embed, Pass, reading_caches, spread
from cna_mlx.models.memory.forecast import BATCH_TOKENS
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.mlp import replaced
from cna_mlx.models.offload.streaming import turns
from cna_mlx.util.progress import Progress, silent

_PADDING = [0]  # behind the shorter prompts of a batch; never seen


@dataclass
class _Batch:
    rows: list[int]  # which prompts these are
    last: mx.array  # [rows] index of each last token, [rows, positions] for several
    length: int  # of the longest prompt; shorter ones are padded on the right
    pieces: list[Pass]  # their tokens; all last tokens are in the last piece

    def at_last(self, values: mx.array) -> mx.array:
        """The last tokens of a last piece's [rows, length, n].

        A gather, not a slice: a slice would keep the whole buffer alive.

        Returns:
            [rows, n], or [rows, positions, n].
        """
        rows = mx.arange(len(self.rows))
        last = self.last + (values.shape[1] - self.length)
        return values[rows[:, None] if self.last.ndim > 1 else rows, last]


def last_activations(
    model: Any,
    ids: Sequence[Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    positions: int = 1,
    routed: bool = False,
) -> Iterator[tuple[int, Any]]:
    """Each layer's neurons at the last token of every prompt, layer after layer.

    All prompts go through a layer before the next one, so each weight is read once
    for a batch. Attention is causal, so no token sees the padding on the right. Ids
    that all prompts begin with are computed once; logits never are. A prompt of more
    than 512 tokens goes through a layer in pieces.

    Args:
        ids: token ids of each prompt.
        batch_tokens: about how many tokens go through a layer at a time.
        positions: read so many of each prompt's last tokens.
        routed: of a mixture's layer yield :class:`RoutedRows`, which keep the experts
            only that a prompt went to; not with several positions.

    Yields:
        The layer's index and ``a`` [n_prompts, d_ff] in float32, in the order given;
        for several positions [n_prompts, positions, d_ff]. Nothing of a layer without
        neurons.

    Raises:
        InputError: no prompts, one longer than the context, or one of fewer tokens
            than ``positions``.
        NonFiniteError: an activation is NaN or infinite; names layer and prompt.
    """
    sizes, experts = widths(model), experts_of(model)
    for layer, batches in _walk(model, ids, batch_tokens, positions):
        rows, own = _Rows(len(ids), layer.index), experts[layer.index]
        if routed and own is not None and positions == 1:
            size = sizes[layer.index]
            rows.routed = RoutedRows.empty(len(ids), *own[:2], size)
        for batch, cache in batches:
            found = layer.forward_batch(batch, cache)
            if found is not None:
                rows.take(batch.rows, found)
        if layer.has_neurons:
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
                found = batch.at_last(batch.pieces[-1].hidden).astype(mx.float32)
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
    check_lengths(model, ids)
    check_positions(ids, positions)
    sizes = widths(model)
    # what follows the last neurons is needed for the whole alone
    end = len(sizes) if whole else max(n for n, size in enumerate(sizes) if size) + 1
    shared = shared_prefix(ids, positions)
    with wired(), turns(model) as weights:
        with weights.embedding(chain(_PADDING, *ids)) as embed:
            first = [list(ids[0][:shared])]
            header = _pieces(model, first, embed, is_kept=True) if shared else []
            batches = list(_batches(model, embed, ids, shared, batch_tokens, positions))
        for index, _ in islice(weights.layers(), end):
            is_last = index == end - 1 and not whole
            layer = _Layer(model, index, is_last, bool(sizes[index]))
            prefix = layer.forward_prefix(header)
            caches = (_shared(prefix, len(one.rows)) for one in batches)
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


def _batches(
    model: Any,
    embed: Embed,
    ids: Sequence[Sequence[int]],
    shared: int,
    batch_tokens: int,
    positions: int,
) -> Iterator[_Batch]:
    """The batches of all prompts, without what they begin with."""
    for rows in groups(ids, shared, batch_tokens):
        tails = [list(ids[row][shared:]) for row in rows]
        length = len(tails[-1])
        padded = [tail + _PADDING * (length - len(tail)) for tail in tails]
        last = mx.array([len(tail) - 1 for tail in tails])
        if positions > 1:
            last = last[:, None] + mx.arange(1 - positions, 1)
        kept = length - len(tails[0]) + positions  # the first is the shortest
        pieces = _pieces(model, padded, embed, shared, kept)
        yield _Batch(rows, last, length, pieces)


def _pieces(
    model: Any,
    ids: list[list[int]],
    embed: Embed,
    before: int = 0,
    last: int = 1,
    *,
    is_kept: bool = False,
) -> list[Pass]:
    """Token ids in pieces of 512; the last one has ``last`` tokens or more.

    Args:
        before: how many tokens the caches will hold.
        is_kept: more tokens follow, of which the caches are needed.
    """
    length = len(ids[0])
    starts = [0, *range(BATCH_TOKENS, length - last + 1, BATCH_TOKENS)]
    found = []
    for start, end in zip(starts, [*starts[1:], length], strict=True):
        offset = before + start
        # whose places the caches take that hold what was read
        has_cache = is_kept or offset or end < length
        places = reading_caches(model, offset) if has_cache else None
        part = mx.array([row[start:end] for row in ids])
        found.append(Pass(model, part, places, embed))
        mx.eval(found[-1].hidden)
    return found


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
        self.routed: RoutedRows | None = None  # what takes the rows of a mixture
        self._layer = layer
        self._finite = np.ones(prompts, dtype=bool)
        self._found: mx.array | None = None

    def take(self, rows: list[int], found: mx.array) -> None:
        """Put the activations [len(rows), ..., d_ff] of these prompts in place."""
        finite = mx.isfinite(found).reshape(len(rows), -1).all(axis=1)
        if self.routed is not None:
            self._finite[rows] = np.array(finite)
            self.routed.put(rows, np.array(found))
            return
        if self._found is None:
            self._found = mx.zeros((len(self._finite), *found.shape[1:]))
        # in place: nothing else holds this buffer
        self._found[mx.array(rows)] = found
        mx.eval(self._found, finite)
        self._finite[rows] = np.array(finite)

    def all(self) -> Any:
        """Return all activations, [n_prompts, ..., d_ff], if they are finite."""
        if not self._finite.all():
            first = int(np.flatnonzero(~self._finite)[0])
            raise NonFiniteError(self._layer, first)
        if self.routed is not None:
            return self.routed
        assert self._found is not None
        found, self._found = self._found, None  # the caller's alone from here on
        return found


@dataclass(frozen=True)
class _Layer:
    """One layer of a model, by its index; of the last one less is needed."""

    model: Any
    index: int
    is_last: bool
    has_neurons: bool

    def forward_prefix(self, pieces: list[Pass]) -> Any:
        """The shared ids through the layer; its cache, or None if there are none."""
        cache = pieces[0].cache(self.index) if pieces else None
        for piece in pieces:
            self._forward(piece, cache)
        return cache

    def _forward(self, piece: Pass, cache: Any) -> None:
        piece.hidden = piece.layer(self.index, piece.hidden, cache)
        state = [] if cache is None else cache.state
        # nothing comes after the last layer: only its cache is needed
        mx.eval(state if self.is_last and cache is not None else [piece.hidden, state])

    def forward_batch(self, batch: _Batch, cache: Any) -> mx.array | None:
        """A batch through the layer; the last tokens' activations, by row, if any."""
        *early, final = batch.pieces
        if early and cache is None:
            cache = early[0].cache(self.index)
        for piece in early:
            self._forward(piece, cache)
        if self.is_last:
            return self._ends(batch, cache)
        if not self.has_neurons:
            self._forward(final, cache)
            return None
        with installed(self.model, [self.index]) as blocks:
            taken: list[mx.array] = []
            with blocks[self.index].tapped(taken.append, batch.at_last):
                final.hidden = final.layer(self.index, final.hidden, cache)
        found = taken[0].astype(mx.float32)
        mx.eval(final.hidden, found)
        return found

    def _ends(self, batch: _Batch, cache: Any) -> mx.array:
        """The activations in the last layer, computed for the last tokens only."""
        final, family = batch.pieces[-1], family_of(self.model)
        layer = family.layers(self.model)[self.index]
        block, taken = block_of(family, layer), []

        def read(x: mx.array) -> mx.array:
            taken.append(x)
            return x  # for what follows, which is never computed

        with replaced(layer, **{family.mlp: read}):
            final.layer(self.index, final.hidden, cache)
        ends = batch.at_last(taken[0])
        # a row of one token where one is read: as in a prompt of one token
        found = block.activations(ends if ends.ndim > 2 else ends[:, None])
        found = found.reshape(*ends.shape[:-1], -1).astype(mx.float32)
        mx.eval(found)
        return found


def _shared(prefix: Any, rows: int) -> Any:
    return None if prefix is None else spread(prefix, rows)
