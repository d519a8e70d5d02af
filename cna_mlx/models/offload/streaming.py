"""Leave weights on the disk: read each part of a model for its turn, then drop it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from operator import attrgetter
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from cna_mlx.models.families import Family, family_of
from cna_mlx.models.offload.rows import Rows

# A part of a model, such as a layer: model -> module.
Part = Callable[[Any], Any]


class Disk:
    """Reads a model's weights again, as lazy arrays.

    Args:
        read: makes a model of the same files, lazily loaded; called for every walk.
        rows: reads single rows of its matrices; None: an embedding is read whole.

    Attributes:
        fingerprint: of the weights, once it is known: it takes a read of all of them.
    """

    def __init__(self, read: Callable[[], Any], rows: Rows | None = None) -> None:
        self._read = read
        self.rows = rows
        # Reads run on their own stream, in parallel with compute.
        self._stream = mx.new_stream(mx.cpu)
        self.fingerprint: str | None = None

    def read(self) -> Any:
        """A model with lazy weights."""
        with mx.stream(self._stream):
            return self._read()


def from_disk(read: Callable[[], Any], rows: Rows | None = None) -> Any:
    """A model whose weights are read for their turn; see :func:`turns`."""
    disk = Disk(read, rows)
    model = disk.read()
    model._cna_disk = disk
    return model


def disk_of(model: Any) -> Disk | None:
    """The disk that a model's weights are on; None if they are in memory."""
    return getattr(model, "_cna_disk", None)


def is_streamed(model: Any) -> bool:
    """Whether a model's weights stay on the disk."""
    return disk_of(model) is not None


class LayerStream:
    """The parts of a model, each in memory during its turn: see :func:`turns`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        disk = disk_of(model)
        # An evaluated array keeps its values: to drop it, replace it by a lazy one.
        self._fresh = disk.read() if disk else None
        self._held: list[Part] = []

    def layers(self) -> Iterator[tuple[int, Any]]:
        """Each layer's index and the layer, while the next one is read."""
        family = family_of(self._model)
        count = len(family.layers(self._model))
        parts = [partial(_layer, family, index) for index in range(count)]
        for index, part in enumerate(parts):
            with self.turn(part, *parts[index + 1 : index + 2]) as layer:
                yield index, layer

    @contextmanager
    def turn(self, *parts: Part) -> Iterator[Any]:
        """Hold a part in memory inside the block; nothing to do for a model in memory.

        Yields:
            That part of the model.
        """
        part = parts[0]
        if self._fresh is not None:
            for one in parts:
                mx.async_eval(one(self._model).parameters())
            self._held += [one for one in parts if one not in self._held]
            # A GPU stops work that waits for a slow disk: wait here, before any of the
            # part's arithmetic is submitted.
            mx.eval(part(self._model).parameters())
        try:
            yield part(self._model)
        finally:
            self._drop(part)

    @contextmanager
    def embedding(self, ids: Iterable[int]) -> Iterator[Callable[[mx.array], mx.array]]:
        """Hold the embeddings of some ids in memory inside the block.

        A table of 128,000 rows is larger than two layers of a small model, and a
        discovery needs a few thousand rows.

        Yields:
            A function from ids [batch, length] to the table's rows [batch, length,
            hidden].
        """
        model, family = self._model, family_of(self._model)
        path = family.embedding_path(model)
        rows = _rows(model, path)
        if rows is None:
            with self.turn(family.embedding):
                yield family.embedding(model)
            return
        used = np.unique(np.fromiter(ids, dtype=np.int64)).tolist()
        few = copy(table := family.embedding(model))
        few.update(rows.read(table, path, used))
        yield lambda ids: few(mx.array(np.searchsorted(used, np.array(ids))))

    @contextmanager
    def heads(self, path: str) -> Iterator[list[tuple[str, mx.array, mx.array]]]:
        """Hold the first row of each array of a part in memory inside the block.

        Yields:
            For each array its name, the array (for its shape and dtype only), and its
            first row, or a whole vector.
        """
        rows = _rows(self._model, path)
        if rows is not None:
            module = _at(path, self._model)
            first = rows.read(module, path, [0])
            yield [(name, array, first[name][0]) for name, array in arrays_of(module)]
            return
        with self.turn(partial(_at, path)) as held:
            yield [
                (name, array, array[0] if array.ndim > 1 else array)
                for name, array in arrays_of(held)
            ]

    def _drop(self, *parts: Part) -> None:
        for part in parts:
            if part in self._held:
                self._held.remove(part)
                part(self._model).update(part(self._fresh).parameters())

    def end(self) -> None:
        """Drop what is still in memory, and free the buffers that the parts shared."""
        self._drop(*self._held)
        if self._fresh is not None:
            mx.clear_cache()


def arrays_of(module: Any) -> list[tuple[str, mx.array]]:
    """The arrays of a module and its parts, sorted by name."""
    arrays: list[Any] = tree_flatten(module.parameters())  # type: ignore[assignment]
    return sorted(arrays, key=lambda item: item[0])


def read_whole(model: Any) -> int:
    """Bytes of a streamed model's embedding that can only be read whole, else 0."""
    family = family_of(model)
    if _rows(model, family.embedding_path(model)) is not None:
        return 0
    return sum(array.nbytes for _, array in arrays_of(family.embedding(model)))


def _rows(model: Any, path: str) -> Rows | None:
    """The reader of a part's rows; None if it is in memory, or read whole."""
    disk = disk_of(model)
    if disk is None or disk.rows is None:
        return None
    return disk.rows if disk.rows.can_read(_at(path, model), path) else None


def _at(path: str, model: Any) -> Any:
    return attrgetter(path)(model)


def _layer(family: Family, index: int, model: Any) -> Any:
    return family.layers(model)[index]


@contextmanager
def turns(model: Any) -> Iterator[LayerStream]:
    """Go through a model part by part, once.

    The weights of a streamed model are read for their turn, and the next part's during
    it: two parts are in memory at a time. A model in memory is left as it is.
    """
    found = LayerStream(model)
    try:
        yield found
    finally:
        found.end()
