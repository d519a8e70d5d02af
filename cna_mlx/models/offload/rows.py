"""Read single rows of a model's matrices, such as the embeddings of some ids.

Rows are read as bytes: safetensors' own slices fail for bfloat16, which numpy lacks.
Format: https://huggingface.co/docs/safetensors.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from cna_mlx.util.reading import LARGEST_HEADER, opened, parse_json

_LAYER = re.compile(r"\blayers\.(\d{1,9})\.")
_DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "U8": mx.uint8,
}


class Tensor(NamedTuple):
    """A tensor in a file; start and size in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class Rows:
    """Reads rows of matrices from a model's files, and nothing else of them.

    Args:
        directory: of the model. Damaged files are left out: whoever loads the model
            reports them.
    """

    def __init__(self, directory: Path) -> None:
        self._tensors: dict[str, Tensor] = {}
        for file in directory.glob("model*.safetensors"):
            self._tensors |= tensors_of(file)

    def can_read(self, module: Any, path: str) -> bool:
        """Whether each array of a module is a matrix that is stored as it is used."""
        arrays = module.parameters()
        return bool(arrays) and all(
            isinstance(array, mx.array)
            and array.ndim == 2
            and (found := self._tensors.get(f"{path}.{name}")) is not None
            and found.shape == array.shape
            and found.size == array.nbytes
            and _DTYPES.get(found.dtype) == array.dtype
            for name, array in arrays.items()
        )

    def read(self, module: Any, path: str, rows: Sequence[int]) -> dict[str, mx.array]:
        """Some rows of each array of a module that `can_read` accepts.

        Returns:
            Names and arrays [len(rows), width] in the module's dtypes.
        """
        return {
            name: _read(self._tensors[f"{path}.{name}"], rows).view(array.dtype)
            for name, array in module.parameters().items()
        }


def _read(tensor: Tensor, rows: Sequence[int]) -> mx.array:
    """The bytes of some rows of a matrix, [len(rows), bytes of a row]."""
    shape = (tensor.shape[0], tensor.size // tensor.shape[0])
    table = np.memmap(tensor.file, np.uint8, "r", tensor.start, shape)
    return mx.array(table[np.asarray(rows)])


def layers_of(file: Path) -> set[int]:
    """The layers that a safetensors file has weights of.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: it is damaged.
    """
    found = (_LAYER.search(name) for name, _ in _tensors(file))
    return {int(one[1]) for one in found if one}


def tensors_of(file: Path) -> dict[str, Tensor]:
    """A file's tensors by name, from its header; none if it is damaged."""
    try:
        return dict(_tensors(file))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """A file's tensors from its header: 8 bytes of length, then JSON."""
    with opened(file) as raw:
        length = int.from_bytes(raw.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = parse_json(raw.read(length), finite=True)
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = map(int, entry["data_offsets"])
            if max(start, end) > 2**62:
                raise ValueError(f"the offsets of {name} are beyond any file")
            shape = tuple(map(int, entry["shape"]))
            begin = 8 + length + start
            yield name, Tensor(file, str(entry["dtype"]), shape, begin, end - start)
