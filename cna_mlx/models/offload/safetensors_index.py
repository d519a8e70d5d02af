"""Where the tensors of a model lie in its files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        file: which one.
        dtype: as the format calls it, e.g. ``BF16``.
        shape: of the tensor, in rows first.
        start, size: its place in the file, in bytes.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def stored(directory: Path) -> Iterator[tuple[str, Stored]]:
    """The tensors of a model directory, by name, from the headers of its files.

    A header is 8 bytes of length, then JSON with the place of each tensor
    (https://huggingface.co/docs/safetensors). What a damaged file does not tell is
    left out: whoever loads it says what is wrong.

    Args:
        directory: of the model.
    """
    for file in sorted(directory.glob("model*.safetensors")):
        try:
            yield from _tensors(file)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue


def _tensors(file: Path) -> Iterator[tuple[str, Stored]]:
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(min(length, _LONGEST_HEADER)))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = map(int, entry["data_offsets"])
            shape = tuple(map(int, entry["shape"]))
            begin = 8 + length + start
            yield name, Stored(file, str(entry["dtype"]), shape, begin, end - start)
