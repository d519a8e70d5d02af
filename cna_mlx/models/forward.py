"""Take token ids through a model layer by layer; each layer's own call does the work.

What the layers are fed (embeddings, masks, positions, inputs of their own) is asked of
the model: its forward pass runs once with recorders in the place of its layers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from cna_mlx.errors import UnsupportedModelError
from cna_mlx.models.families import family_of
from cna_mlx.models.family import Family, text_of
from cna_mlx.models.mlp import replaced
from cna_mlx.models.mlx_lm_internals import (
    ArraysCache,
    BatchKVCache,
    ConcatenateKVCache,
    KVCache,
    RotatingKVCache,
    make_prompt_cache,
)

# Token ids [batch, length] to the embedding's rows [batch, length, hidden].
Embed = Callable[[mx.array], mx.array]


class _Later:
    """An output of a layer that a later one takes, until it is known."""

    def __init__(self, layer: int, output: int) -> None:
        self.layer, self.output = layer, output


class _Recorder:
    """Stands for a layer, and keeps what it is called with besides hidden states."""

    def __init__(self, layer: Any, number: int, outputs: int) -> None:
        self._layer, self._number = layer, number
        self._later = tuple(_Later(number, output) for output in range(1, outputs))
        self.fed: mx.array | None = None
        self.others: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, hidden: mx.array, *others: Any, **named: Any) -> Any:
        self.others, self.named = others, named
        if self._number == 0:
            self.fed = hidden
        return (hidden, *self._later) if self._later else hidden

    def values(self) -> list[Any]:
        return [*self.others, *self.named.values()]

    def filled(self, change: Callable[[Any], Any]) -> tuple[list[Any], dict[str, Any]]:
        """What it was called with, each value changed."""
        named = {name: change(value) for name, value in self.named.items()}
        return [change(value) for value in self.others], named


class Pass:
    """Token ids on their way through a model, from layer to layer.

    Args:
        ids: [batch, length].
        caches: as :func:`reading_caches` or mlx-lm makes them; None for none. Masks
            are made for their offsets.
        embed: looks up embeddings in the place of the model's own table.

    Attributes:
        hidden: what the next layer is fed, [batch, length, hidden]; at first the
            embeddings.
        slots: the place of each layer's cache among the caches, or None.
    """

    def __init__(
        self,
        model: Any,
        ids: mx.array,
        caches: Sequence[Any] | None = None,
        embed: Embed | None = None,
    ) -> None:
        self._family = family_of(model)
        self._layers = self._family.layers(model)
        held = None if caches is None else list(caches)
        self._calls = _recorded(model, self._family, ids, held, embed)
        self._caches = held or []
        self.slots = [_slot(call, self._caches) for call in self._calls]
        self._awaited = {
            (value.layer, value.output)
            for call in self._calls
            for value in call.values()
            if isinstance(value, _Later)
        }
        self._outputs: dict[tuple[int, int], Any] = {}
        fed = self._calls[0].fed
        assert fed is not None
        self.hidden, self._calls[0].fed = fed, None

    def cache(self, index: int) -> Any:
        """A copy of a layer's cache as it was given; None if it has none."""
        slot = self.slots[index]
        return None if slot is None else spread(self._caches[slot])

    def layer(self, index: int, hidden: mx.array, cache: Any = None) -> mx.array:
        """One layer's output, [rows, length, hidden].

        Args:
            hidden: its input; several rows for a pass of one are copies of that row.
            cache: takes the place of the layer's own.
        """
        own = None if (slot := self.slots[index]) is None else self._caches[slot]

        def given(value: Any) -> Any:
            if isinstance(value, _Later):
                return _spread(self._outputs[value.layer, value.output], len(hidden))
            return cache if cache is not None and value is own else value

        others, named = self._calls[index].filled(given)
        found = self._layers[index](hidden, *others, **named)
        if self._family.outputs == 1:
            return found
        hidden, *rest = found
        for output, value in enumerate(rest, 1):
            if (index, output) in self._awaited:
                self._outputs[index, output] = value
        return hidden

    def through(
        self,
        hidden: mx.array,
        caches: Sequence[Any] | None = None,
        first: int = 0,
        end: int | None = None,
    ) -> mx.array:
        """The layers ``first`` to ``end``; ``caches`` take the place of the pass's."""
        for index in range(len(self._layers))[first:end]:
            slot = self.slots[index]
            cache = None if caches is None or slot is None else caches[slot]
            hidden = self.layer(index, hidden, cache)
        return hidden


def _slot(call: _Recorder, caches: Sequence[Any]) -> int | None:
    values = call.values()
    places = (i for i, one in enumerate(caches) if any(one is v for v in values))
    return next(places, None)


def _recorded(
    model: Any, family: Family, ids: mx.array, caches: Any, embed: Embed | None
) -> list[_Recorder]:
    """What each layer is called with in a forward pass."""
    recorders = [
        _Recorder(layer, number, family.outputs)
        for number, layer in enumerate(family.layers(model))
    ]
    body, table = family.decoder(model), embed or family.embedding(model)
    with replaced(body, **{"layers": recorders, family.table: table}):
        body(ids, caches)
    return recorders


def logits(model: Any, hidden: mx.array) -> mx.array:
    """The last layer's output [..., hidden] through the final norm to logits.

    Returns:
        [..., vocab], as the model makes them.
    """
    family = family_of(model)
    shape = hidden.shape
    rows = hidden.reshape(1, -1, shape[-1])
    rest = (None,) * (family.outputs - 1)
    layers = [
        _Constant(layer, (rows, *rest) if rest else rows)
        for layer in family.layers(model)
    ]
    text = text_of(model)
    with replaced(family.decoder(model), layers=layers):
        found = text(mx.zeros(rows.shape[:2], mx.int32))
    return found.reshape(*shape[:-1], -1)


class _Constant:
    """Stands for a layer, and always has the same output."""

    def __init__(self, layer: Any, output: Any) -> None:
        self._layer, self._output = layer, output

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self._output


def reading_caches(model: Any, offset: int = 0) -> list[Any]:
    """An empty cache for each that mlx-lm would make, to read prompts with.

    Keys and values are concatenated: a sliding window is a matter of the mask, so
    what prompts share can be read once. A recurrent state is shared by copying it.

    Args:
        offset: say that so many tokens were read.

    Raises:
        UnsupportedModelError: the model has a cache of another kind.
    """
    found: list[Any] = []
    for cache in make_prompt_cache(model):
        if isinstance(cache, ArraysCache):
            found.append(ArraysCache(len(cache.cache)))
        elif isinstance(cache, KVCache | RotatingKVCache):
            found.append(one := ConcatenateKVCache())
            one.offset = offset
        else:
            kind = type(cache).__name__
            raise UnsupportedModelError(f"the model has a cache of kind {kind}")
    return found


class _WideMasks(BatchKVCache):
    @classmethod
    def merge(cls, caches: list[Any]) -> Any:
        # mlx-lm makes empty caches of its own class
        has_any = any(cache.size() for cache in caches)
        return super().merge(caches) if has_any else cls([0] * len(caches))

    def make_mask(self, *args: Any, **named: Any) -> Any:
        mask = super().make_mask(*args, **named)
        return mask[:, :, None] if isinstance(mask, mx.array) else mask


def merged(model: Any, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The caches of several rows, each with its own history, as those of one batch."""
    args = text_of(model).args
    shares = family_of(model).wide_masks and (
        args.num_attention_heads > args.num_key_value_heads
    )
    return [
        (_WideMasks if shares else type(layers[0])).merge(list(layers))
        for layers in zip(*rows, strict=True)
    ]


def spread(cache: Any, rows: int | None = None) -> Any:
    """A copy of a reading cache; for several rows, of one row as that of several."""
    if isinstance(cache, ArraysCache):
        found = ArraysCache(len(cache.cache))
        found.cache = [_spread(part, rows) for part in cache.cache]
        return found
    copied = ConcatenateKVCache()
    if cache.keys is not None:
        copied.state = tuple(_spread(part, rows) for part in cache.state)
    copied.offset = cache.offset
    return copied


def _spread(values: Any, rows: int | None) -> Any:
    """Arrays [1, ...] as [rows, ...]; others are left as they are."""

    def one(value: Any) -> Any:
        if rows is None or not isinstance(value, mx.array) or value.ndim < 2:
            return value
        return mx.broadcast_to(value, (rows, *value.shape[1:]))

    return tree_map(one, values)
