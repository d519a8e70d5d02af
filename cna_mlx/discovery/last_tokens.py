"""What an answer begins with, as a function of the neurons at the last tokens."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import mlx.core as mx

from cna_mlx.discovery.activations import check_positions, shared_prefix
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.families import installed
from cna_mlx.models.forward import Pass, logits, reading_caches, spread
from cna_mlx.models.memory.forecast import BATCH_TOKENS
from cna_mlx.models.offload.streaming import is_streamed

# Token ids -> logits [rows, vocabulary] of what follows them after the prompt.
Following = Callable[[tuple[int, ...]], mx.array]
# What follows -> a figure of each row, such as its log-odds of a refusal, [rows].
Outcome = Callable[[Following], mx.array]
# A scale or a shift of a block's neurons: see MLPBlock.set_edit.
Edit = tuple[mx.array | None, mx.array | None]


@dataclass(frozen=True)
class LastTokens:
    """Prompts of one length, read up to their last tokens.

    Attributes:
        rows: which prompts these are.
        ids: the last tokens, [rows, positions].
        caches: each layer's keys and values of the tokens before.
        length: of a prompt in tokens.
    """

    model: Any
    rows: list[int]
    ids: mx.array
    caches: list[Any]
    length: int

    def run(self, edits: Mapping[int, Edit] | None = None) -> Following:
        """Feed the last tokens, with some layers edited, and say what follows."""
        hidden, caches = self.hidden(edits)
        return following(self.model, hidden, caches)

    def hidden(
        self, edits: Mapping[int, Edit] | None = None
    ) -> tuple[mx.array, list[Any]]:
        """The last layer's output, [rows, positions, hidden], and all caches."""
        caches = [spread(cache) for cache in self.caches]
        with edited(self.model, edits or {}):
            fed = Pass(self.model, self.ids, caches)
            return fed.through(fed.hidden), caches


def following(model: Any, hidden: mx.array, caches: list[Any]) -> Following:
    """What follows the prompts, from the last layer's hidden states and all caches."""

    def found(tokens: tuple[int, ...]) -> mx.array:
        last = hidden
        if tokens:
            held = [spread(cache) for cache in caches]
            fed = Pass(model, mx.array([tokens] * len(hidden)), held)
            last = fed.through(fed.hidden)
        return logits(model, last[:, -1]).astype(mx.float32)

    return found


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
    header = _read(model, [ids[0][:shared]], reading_caches(model))
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for length, alike in groupby(order, key=lambda row: len(ids[row])):
        rows, size = list(alike), max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            caches = [spread(cache, len(part)) for cache in header]
            before = [ids[row][shared : length - positions] for row in part]
            last = mx.array([list(ids[row][length - positions :]) for row in part])
            yield LastTokens(model, part, last, _read(model, before, caches), length)


def _read(model: Any, ids: Sequence[Sequence[int]], caches: list[Any]) -> list[Any]:
    for start in range(0, len(ids[0]), BATCH_TOKENS):
        part = [list(row[start : start + BATCH_TOKENS]) for row in ids]
        fed = Pass(model, mx.array(part), caches)
        fed.through(fed.hidden)
        mx.eval([cache.state for cache in caches])
    return caches


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
