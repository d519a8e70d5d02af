"""Weights that stay on the disk: each part is read for its turn, and dropped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import mlx.core as mx

from cna_mlx.models.families import Family, family_of

# A part of a model, such as a layer: model -> module.
Part = Callable[[Any], Any]


class Disk:
    """Reads a model's weights again, as arrays that hold nothing before they are used.

    Args:
        read: makes a model of the same files, lazily loaded.

    Attributes:
        fingerprint: of the weights, once it is known: finding it out reads them all.
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        # Reading has a stream, and so a thread of MLX's own, beside the arithmetic's.
        self._stream = mx.new_stream(mx.cpu)
        self.fingerprint: str | None = None

    def read(self) -> Any:
        """A model of lazy weights."""
        with mx.stream(self._stream):
            return self._read()


def from_disk(read: Callable[[], Any]) -> Any:
    """A model whose weights are read when their turn comes; see :func:`turns`.

    Args:
        read: makes such a model, lazily loaded; called once more for every walk.
    """
    disk = Disk(read)
    model = disk.read()
    model._cna_disk = disk
    return model


def disk_of(model: Any) -> Disk | None:
    """Where a model's weights are read from; None if they are in memory."""
    return getattr(model, "_cna_disk", None)


def is_streamed(model: Any) -> bool:
    """Whether a model's weights stay on the disk."""
    return disk_of(model) is not None


class Turns:
    """The parts of a model, each in memory during its turn: see :func:`turns`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        disk = disk_of(model)
        # Once evaluated, an array keeps its numbers: what is dropped has to be
        # replaced by an array that was not, for the next walk.
        self._fresh = disk.read() if disk else None
        self._held: list[Part] = []

    def layers(self) -> Iterator[tuple[int, Any]]:
        """Each layer's index and the layer; the next one is read meanwhile."""
        family = family_of(self._model)
        count = len(family.layers(self._model))
        parts = [partial(_layer, family, index) for index in range(count)]
        for index, part in enumerate(parts):
            with self.turn(part, *parts[index + 1 : index + 2]) as layer:
                yield index, layer

    @contextmanager
    def turn(self, *parts: Part) -> Iterator[Any]:
        """Hold a part in memory inside the block; of a model in memory do nothing.

        Args:
            parts: which one; then those whose turn is next, to be read meanwhile.

        Yields:
            That part of the model.
        """
        part = parts[0]
        if self._fresh is not None:
            for one in parts:
                mx.async_eval(one(self._model).parameters())
            self._held += [one for one in parts if one not in self._held]
        try:
            yield part(self._model)
        finally:
            self._drop(part)

    def _drop(self, *parts: Part) -> None:
        for part in parts:
            if part in self._held:
                self._held.remove(part)
                part(self._model).update(part(self._fresh).parameters())
        if parts and self._fresh is not None:
            mx.clear_cache()

    def end(self) -> None:
        """Drop what is still there: the walk was left early."""
        self._drop(*self._held)


def _layer(family: Family, index: int, model: Any) -> Any:
    return family.layers(model)[index]


@contextmanager
def turns(model: Any) -> Iterator[Turns]:
    """Go through a model part by part, each of them once.

    The weights of a streamed model are read for their turn, the next part's during
    it; so two parts are in memory at a time. For a model in memory nothing happens.

    Args:
        model: as :func:`cna_mlx.load` returns it.
    """
    found = Turns(model)
    try:
        yield found
    finally:
        found.end()
