"""What an answer begins with, as a function of the neurons at the last tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import mlx.core as mx

from cna_mlx.discovery.activations import check_positions, shared_prefix
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import family_of, installed
from cna_mlx.models.memory.forecast import BATCH_TOKENS
from cna_mlx.models.mlx_lm_internals import ConcatenateKVCache
from cna_mlx.models.offload.streaming import is_streamed

# Token ids -> logits [rows, vocabulary] of what follows them after the prompt.
Following = Callable[[tuple[int, ...]], mx.array]
# What follows -> a figure of each row, such as its log-odds of a refusal, [rows].
Outcome = Callable[[Following], mx.array]
# A scale or a shift of a block's neurons: see GatedMLP.set_edit.
Edit = tuple[mx.array | None, mx.array | None]


@dataclass(frozen=True)
class LastTokens:
    """Prompts of one length, read up to their last tokens.

    Attributes:
        rows: which prompts these are.
        ids: the last tokens, [rows, positions].
        caches: each layer's keys and values of the tokens before.
    """

    model: Any
    rows: list[int]
    ids: mx.array
    caches: list[Any]

    def run(self, edits: Mapping[int, Edit] | None = None) -> Following:
        """Feed the last tokens, with some layers edited, and say what follows."""
        hidden, caches = self.hidden(edits)
        return following(self.model, hidden, caches)

    def hidden(
        self, edits: Mapping[int, Edit] | None = None
    ) -> tuple[mx.array, list[Any]]:
        """The last layer's output, [rows, positions, hidden], and all caches."""
        caches = [copy(cache) for cache in self.caches]
        with edited(self.model, edits or {}):
            hidden = family_of(self.model).embed(self.model, self.ids)
            return forward(self.model, hidden, caches), caches


def forward(
    model: Any,
    hidden: mx.array,
    caches: list[Any],
    first: int = 0,
    end: int | None = None,
) -> mx.array:
    """Hidden states [rows, length, hidden] through the layers ``first`` to ``end``."""
    family = family_of(model)
    for index, layer in list(enumerate(family.layers(model)))[first:end]:
        mask = family.attention_mask(model, index, hidden, caches[index])
        hidden = layer(hidden, mask, caches[index])
    return hidden


def following(model: Any, hidden: mx.array, caches: list[Any]) -> Following:
    """What follows the prompts, from the last layer's hidden states and all caches."""
    family = family_of(model)

    def logits(tokens: tuple[int, ...]) -> mx.array:
        last = hidden
        if tokens:
            fed = family.embed(model, mx.array([tokens] * len(hidden)))
            last = forward(model, fed, [copy(cache) for cache in caches])
        return family.unembed(model, last[:, -1]).astype(mx.float32)

    return logits


def read_prompts(
    model: Any, ids: Sequence[Sequence[int]], positions: int = 1
) -> Iterator[LastTokens]:
    """Read prompts up to their last tokens, those of a length together.

    Ids that all prompts begin with are read once; no token is padding.

    Raises:
        InputError: a prompt is too long or too short; the weights are on the disk.
    """
    if is_streamed(model):
        raise InputError(
            "this rank reads how the model's answers begin, which needs all weights in "
            "memory: choose --rank residual, delta, normalized or weighted"
        )
    check_lengths(model, ids)
    check_positions(ids, positions)
    shared = shared_prefix(ids, positions)
    header = _read(model, [ids[0][:shared]], [None] * len(model.layers))
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for length, alike in groupby(order, key=lambda row: len(ids[row])):
        rows, size = list(alike), max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            caches = [spread(cache, len(part)) for cache in header]
            before = [ids[row][shared : length - positions] for row in part]
            last = mx.array([list(ids[row][length - positions :]) for row in part])
            yield LastTokens(model, part, last, _read(model, before, caches))


def _read(model: Any, ids: Sequence[Sequence[int]], caches: list[Any]) -> list[Any]:
    caches = [cache or ConcatenateKVCache() for cache in caches]
    for start in range(0, len(ids[0]), BATCH_TOKENS):
        part = [list(row[start : start + BATCH_TOKENS]) for row in ids]
        forward(model, family_of(model).embed(model, mx.array(part)), caches)
        mx.eval([cache.state for cache in caches])
    return caches


def spread(cache: Any, rows: int) -> Any:
    """A cache of one row as that of several; a copy, so that neither changes."""
    found = ConcatenateKVCache()
    if cache.keys is not None:
        found.state = tuple(
            mx.broadcast_to(part, (rows, *part.shape[1:])) for part in cache.state
        )
    return found


@contextmanager
def edited(model: Any, edits: Mapping[int, Edit]) -> Iterator[None]:
    """Edit layers inside the block; within ``steered`` it replaces their steering."""
    with installed(model, list(edits)) as blocks:
        before = {layer: block.edit for layer, block in blocks.items()}
        try:
            for layer, block in blocks.items():
                block.set_edit(*edits[layer])
            yield
        finally:
            for layer, block in blocks.items():
                block.set_edit(*before[layer])
