"""Fold sentences into indented lines that fit a terminal."""

import textwrap
from collections.abc import Sequence

from cna_mlx.ui.console import Screen
from cna_mlx.util.sanitize import visible

_NARROWEST = 20


def folded(screen: Screen, parts: Sequence[str], column: int) -> list[str]:
    """The parts below each other from a column on; one line each on a pipe."""
    # made visible before wrapping: that can lengthen a part
    ascii_only = screen.is_ascii
    parts = [" ".join(visible(part, ascii_only=ascii_only).split()) for part in parts]
    indent = " " * column
    if not screen.out.is_terminal:
        return [indent + part for part in parts]
    wrapper = textwrap.TextWrapper(
        max(screen.out.width, column + _NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [line for part in parts for line in wrapper.wrap(part) or [indent]]


def beside(screen: Screen, head: str, parts: Sequence[str]) -> list[str]:
    """The parts to the right of a head."""
    first, *rest = folded(screen, parts, len(head))
    return [head + first[len(head) :], *rest]
