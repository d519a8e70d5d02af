"""Compare sequences."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the length of the common prefix of two sequences."""
    equal = (a == b for a, b in zip(one, other, strict=False))
    return sum(1 for _ in takewhile(bool, equal))
