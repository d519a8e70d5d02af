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
# Tokens of all arms that go through the model together.
_TOGETHER = 1024


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
    found = prefill_prompts(model, [ids], edits, stop, header)
    return None if found is None else found[0]


def prefill_prompts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    edits: Edits,
    stop: Callable[[], bool],
    header: Header = NO_HEADER,
) -> list[list[Any]] | None:
    """As :func:`shared_prefill` for several prompts, each in the same arms.

    Where all layers have a plain KV cache, short prompts go through the model together:
    padded on the right, where no token sees the padding, which is then cut off.

    Returns:
        The layers' KV caches of each prompt; None if stopped.
    """
    cache = make_prompt_cache(model)
    # a layer that is fed another's output would need it in its own rows
    is_plain = family_of(model).outputs == 1 and all(map(has_rows, cache))
    found: list[list[Any]] = []
    is_single = edits.rows == len(prompts) == 1
    if is_single or not is_plain or not all(prompts) or is_steered(model):
        for ids in prompts:
            found.append(own := make_prompt_cache(model))
            if not prefill(model, ids, own, edits, stop):
                return None
        return found
    shared = _Shared(model, edits, stop)
    begun = header if all(map(header.begins, prompts)) else NO_HEADER
    if begun.ids and begun.fed(edits) is None:
        if not shared.feed([begun.ids], cache):
            return None
        begun.keep(edits, cache)
    size = 1
    if all(type(layer) is KVCache for layer in cache):
        size = max(1, _TOGETHER // (edits.rows * max(map(len, prompts))))
    for start in range(0, len(prompts), size):
        tails = [list(ids[len(begun.ids) :]) for ids in prompts[start : start + size]]
        cache = begun.fed(edits) or make_prompt_cache(model)
        if not shared.feed(tails, cache):
            return None
        found += shared.split(cache, [len(begun.ids) + len(tail) for tail in tails])
    return found


class _Shared:
    """Prompts on their way through the layers, with a row for each group of arms."""

    def __init__(self, model: Any, edits: Edits, stop: Callable[[], bool]) -> None:
        self._model, self._edits, self._stop = model, edits, stop
        self._groups = edits.groups(len(family_of(model).layers(model)))
        # the first row of each group stands for it
        self._first = [
            [of.index(group) for group in range(max(of) + 1)] for of in self._groups
        ]
        self._slots: list[Slot] = []

    def feed(self, prompts: Sequence[list[int]], cache: list[Any]) -> bool:
        """Feed prompts to caches that hold what all of them begin with, or nothing.

        Returns False if stopped.
        """
        count, length = len(prompts), max(map(len, prompts))
        if count > 1:
            for layer in cache:
                if layer.keys is not None:
                    take_rows(layer, mx.array([*range(len(layer.keys))] * count))
        padded = [ids + [0] * (length - len(ids)) for ids in prompts]
        edits = self._edits.of_rows(
            {layer: rows * count for layer, rows in enumerate(self._first)}
        )
        for start in range(0, length, _STEP):
            if self._stop():
                return False
            part = mx.array([ids[start : start + _STEP] for ids in padded])
            with edits.installed():
                self._forward(part, cache)
                mx.eval([layer.state for layer in cache])
            mx.clear_cache()
        return True

    def _forward(self, ids: mx.array, cache: list[Any]) -> None:
        fed = Pass(self._model, ids, cache)
        hidden, before, groups = fed.hidden, [0] * self._edits.rows, 1
        for index, (of, first) in enumerate(
            zip(self._groups, self._first, strict=True)
        ):
            if len(first) > groups:
                rows = [
                    prompt * groups + before[row]
                    for prompt in range(len(ids))
                    for row in first
                ]
                hidden = hidden[mx.array(rows)]
            before, groups = of, len(first)
            hidden = fed.layer(index, hidden)
        self._slots = fed.slots

    def split(self, cache: list[Any], lengths: Sequence[int]) -> list[list[Any]]:
        """The caches of each prompt, without padding, a row for each arm."""
        found = []
        for prompt, length in enumerate(lengths):
            own = cache if len(lengths) == 1 else [copy(layer) for layer in cache]
            for slot, of, first in zip(
                self._slots, self._groups, self._first, strict=True
            ):
                if slot is None:
                    continue
                if len(first) < self._edits.rows or len(lengths) > 1:
                    rows = [prompt * len(first) + group for group in of]
                    take_rows(own[slot], mx.array(rows))
                if len(lengths) > 1:
                    own[slot].trim(own[slot].offset - length)
            mx.eval([layer.state for layer in own])
            found.append(own)
        return found


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
    found = [copy(cache) for _ in range(count)]
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
