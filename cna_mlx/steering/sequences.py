"""Compare sequences."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the length of the common prefix of two sequences."""
    equal = (a == b for a, b in zip(one, other, strict=False))
    return sum(1 for _ in takewhile(bool, equal))


def shared_beginning(sequences: Iterable[Sequence[Any]]) -> list[Any]:
    """Return what all sequences begin with; empty for none."""
    first, *others = [*sequences] or [[]]
    lengths = [shared_length(first, other) for other in others]
    return list(first[: min(lengths, default=len(first))])
