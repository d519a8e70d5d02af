"""Shapes of pictures: marks, cells, axes, as the path data of an SVG."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from cna_mlx.report.content import Caption, Mark

WIDTH = 640
#: Shades of a cell, from 0 (as the page) to the strongest.
SHADES = 7
_TICKS = 7


def disc(x: float, y: float, r: float) -> str:
    """A circle."""
    return (
        f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0"
        f"a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z"
    )


def diamond(x: float, y: float, r: float) -> str:
    """A square on its corner, of a circle's area."""
    r *= math.sqrt(math.pi / 2)
    return f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z"


def rectangle(x: float, y: float, width: float, height: float) -> str:
    """A rectangle by its upper left corner."""
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z"


def line(x: float, y: float, to_x: float, to_y: float) -> str:
    """A straight line."""
    return f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"


def cells(
    shades: Sequence[Sequence[int]], x: float, y: float, width: float, height: float
) -> Iterator[Mark]:
    """A grid of cells, one shape for each shade; equal neighbours are one rectangle.

    Args:
        shades: of each row, 0 to :data:`SHADES` - 1; cells of shade 0 are not drawn.
        width, height: of a cell.
    """
    drawn: dict[int, list[str]] = {}
    for row, own in enumerate(shades):
        column = 0
        for shade, run in groupby(own):
            count = len(list(run))
            if shade:
                place = x + column * width, y + row * height
                part = rectangle(*place, count * width, height)
                drawn.setdefault(shade, []).append(part)
            column += count
    for shade, parts in sorted(drawn.items()):
        yield Mark("".join(parts), f"shade{shade}")


def scale_of_shades(x: float, y: float, low: str, high: str) -> list[Mark | Caption]:
    """A legend of all shades, with words at its ends."""
    size = 14
    found: list[Mark | Caption] = [Caption(x, y + 11, low, "end")]
    for shade in range(SHADES):
        d = rectangle(x + 8 + shade * size, y, size, size)
        found.append(Mark(d, f"shade{shade} edge"))
    return [*found, Caption(x + 16 + SHADES * size, y + 11, high)]


def ticks(last: int, first: int = 0) -> list[int]:
    """Round whole numbers from ``first`` to ``last``, seven at most, and the first."""
    span = max(1, last - first)
    steps = (base * 10**power for power in range(9) for base in (1, 2, 5))
    step = next(step for step in steps if span / step < _TICKS)
    rest = range((first // step + 1) * step, last + 1, step)
    return [first, *(one for one in rest if one - first > step / 2)]


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` as places from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    scale: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(value) - low) / ((high - low) or 1)
        return self.start + share * (self.end - self.start)


def axis_below(
    axis: Axis, y: float, values: Sequence[float], title: str
) -> Iterator[Mark | Caption]:
    """A line with values under it, and what they are."""
    yield Mark(line(axis.start, y, axis.end, y), "axis")
    for value in values:
        place = axis.at(value)
        yield Mark(line(place, y, place, y + 4), "axis")
        yield Caption(place, y + 18, f"{value:g}", "middle")
    yield Caption((axis.start + axis.end) / 2, y + 37, title, "middle soft")
