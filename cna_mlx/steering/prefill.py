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
    BatchKVCache,
    BatchRotatingKVCache,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)
from cna_mlx.steering.interventions import Edits

# The place of a layer's cache; None if it has none.
Slot = int | None

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


class Header:
    """Token ids that several prompts begin with: fed once for each set of arms.

    Attributes:
        ids: the token ids; empty for none.
    """

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self.ids = list(ids)
        self._fed: tuple[Edits, list[Any]] | None = None

    def begins(self, ids: Sequence[int]) -> bool:
        """Whether these ids begin with the header, and go on."""
        size = len(self.ids)
        return 0 < size < len(ids) and list(ids[:size]) == self.ids

    def fed(self, edits: Edits) -> list[Any] | None:
        """Copies of the caches that were kept for these arms, or None."""
        if self._fed is None or not edits.is_like(self._fed[0]):
            return None
        return [copy_of(layer) for layer in self._fed[1]]

    def keep(self, edits: Edits, caches: list[Any]) -> None:
        """Keep the caches of these arms in place of others', which take memory."""
        self._fed = edits, [copy_of(layer) for layer in caches]


NO_HEADER = Header()


def shared_prefill(
    model: Any,
    ids: Sequence[int],
    edits: Edits,
    stop: Callable[[], bool],
    header: Header = NO_HEADER,
) -> list[Any] | None:
    """Feed one prompt to all arms of a batch, and compute what they share once.

    Arms share a row up to the first layer where their edits differ; equal arms share
    it to the end. Arguments are those of :func:`prefill`, and what the prompts of
    several calls begin with.

    Returns:
        The layers' KV caches, a row for each arm; None if stopped.
    """
    cache = make_prompt_cache(model)
    # a layer that is fed another's output would need it in its own rows
    is_plain = family_of(model).outputs == 1 and all(map(has_rows, cache))
    if edits.rows == 1 or not ids or not is_plain or is_steered(model):
        return cache if prefill(model, ids, cache, edits, stop) else None
    groups, slots = edits.groups(len(family_of(model).layers(model))), list[Slot]()
    # the first row of each group stands for it
    first = [[of.index(group) for group in range(max(of) + 1)] for of in groups]
    reduced = edits.of_rows(dict(enumerate(first)))

    def feed(part: Sequence[int]) -> bool:
        for start in range(0, len(part), _STEP):
            if stop():
                return False
            with reduced.installed():
                fed = part[start : start + _STEP]
                slots[:] = _forward_groups(model, fed, cache, groups, first)
                mx.eval([layer.state for layer in cache])
            mx.clear_cache()
        return True

    if header.begins(ids):
        kept = header.fed(edits)
        if kept is None:
            if not feed(header.ids):
                return None
            header.keep(edits, cache)
        else:
            cache = kept
        ids = ids[len(header.ids) :]
    if not feed(ids):
        return None
    for slot, of in zip(slots, groups, strict=True):
        if slot is not None and max(of) + 1 < edits.rows:
            take_rows(cache[slot], mx.array(of))
    mx.eval([layer.state for layer in cache])
    return cache


def _forward_groups(
    model: Any,
    ids: Sequence[int],
    cache: list[Any],
    groups: list[list[int]],
    first: list[list[int]],
) -> list[Slot]:
    """A forward pass with one row for each group of arms, layer by layer."""
    fed = Pass(model, mx.array([list(ids)]), cache)
    hidden = fed.hidden
    before = [0] * len(groups[0])  # one row for all
    for index in range(len(groups)):
        if len(first[index]) > len(hidden):
            hidden = hidden[mx.array([before[row] for row in first[index]])]
        before = groups[index]
        hidden = fed.layer(index, hidden)
    return fed.slots


def has_rows(cache: Any) -> bool:
    """Whether :func:`take_rows` knows the kind of a layer's cache."""
    kinds = KVCache, RotatingKVCache, ArraysCache, BatchKVCache, BatchRotatingKVCache
    return isinstance(cache, kinds)


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
    for name, value in vars(cache).items():
        if isinstance(value, mx.array):
            setattr(found, name, value[...])  # caches change their arrays in place
    if isinstance(cache, ArraysCache):
        found.cache = list(cache.cache)
    elif type(cache) is KVCache and cache.keys is not None:
        # without the room for more that mlx-lm makes, 256 tokens at a time
        found.keys, found.values = map(mx.contiguous, cache.keys_and_values())
    return found


def is_steered(model: Any) -> bool:
    """Whether the caller steers the model already."""
    family = family_of(model)
    return any(
        isinstance(layer[family.mlp], MLPBlock) for layer in family.layers(model)
    )
