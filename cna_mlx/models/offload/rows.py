"""Single rows of a model's matrices, such as the embeddings of some ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.offload.safetensors_index import Stored, stored

_DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "U8": mx.uint8,
}


class Rows:
    """Reads rows of matrices from a model's files, and nothing else of them.

    Args:
        directory: of the model.
    """

    def __init__(self, directory: Path) -> None:
        self._stored = dict(stored(directory))

    def can_read(self, module: Any, path: str) -> bool:
        """Whether each array of a module is a matrix that is stored as it is used.

        Args:
            module: its arrays say what is expected; they are not read.
            path: its name within the model.
        """
        arrays = module.parameters()
        return bool(arrays) and all(
            isinstance(array, mx.array)
            and array.ndim == 2
            and (place := self._stored.get(f"{path}.{name}")) is not None
            and place.shape == array.shape
            and place.size == array.nbytes
            and _DTYPES.get(place.dtype) == array.dtype
            for name, array in arrays.items()
        )

    def read(self, module: Any, path: str, rows: Sequence[int]) -> dict[str, mx.array]:
        """Some rows of each array of a module that `can_read` accepts.

        Args:
            module, path: as there.
            rows: which ones.

        Returns:
            Names and arrays [len(rows), width] in the module's dtypes.
        """
        return {
            name: _read(self._stored[f"{path}.{name}"], rows).view(array.dtype)
            for name, array in module.parameters().items()
        }


def _read(place: Stored, rows: Sequence[int]) -> mx.array:
    """The bytes of some rows of a matrix, [len(rows), bytes of a row]."""
    shape = (place.shape[0], place.size // place.shape[0])
    table = np.memmap(place.file, np.uint8, "r", place.start, shape)
    return mx.array(table[np.asarray(rows)])
