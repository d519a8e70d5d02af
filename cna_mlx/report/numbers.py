"""Figures as the cells of a table: the value, and its interval in small print."""

import math

from cna_mlx.analysis.statistics import Interval, PairedChange, Proportion
from cna_mlx.report.content import Cell
from cna_mlx.util import formatting

NONE = Cell(formatting.NO_VALUE)


def rate_cell(one: Proportion) -> Cell:
    """A rate with its interval."""
    if one.n == 0:
        return NONE
    interval = formatting.percent_range(one.low, one.high)
    return Cell(formatting.percent(one.value), interval)


def count_cell(one: Proportion) -> Cell:
    """A rate as a count, without its interval: 0 is a plain 0."""
    return Cell(str(one.successes)) if one.n else NONE


def change_cell(one: PairedChange | None) -> Cell:
    """A change in percentage points with its interval."""
    return _points(one.points, "") if one and one.n else NONE


def relative_cell(one: PairedChange | None) -> Cell:
    """A change as a share of the rate before, with its interval."""
    if one is None or (found := one.relative) is None:
        return NONE
    edges = (100 * found.value, 100 * found.low, 100 * found.high)
    return _points(Interval(*edges, found.n), "%")


def flips_cell(one: PairedChange | None) -> Cell:
    """How many refusals disappeared, and how many appeared."""
    return Cell(f"{one.lost} / {one.gained}") if one and one.n else NONE


def p_cell(one: PairedChange | None) -> Cell:
    """The p of the exact McNemar test."""
    return Cell(formatting.p_value(one.p)) if one and one.n else NONE


def mean_cell(one: Interval | float | None) -> Cell:
    """A mean, with its interval if it has one."""
    if not isinstance(one, Interval):
        return Cell(formatting.decimal(one))
    if not math.isfinite(one.low):
        return Cell(formatting.decimal(one.value))
    interval = formatting.decimal_range(one.low, one.high)
    return Cell(formatting.decimal(one.value), interval)


def _points(one: Interval, sign: str) -> Cell:
    text = f"{formatting.points(one.value)}{sign}"
    return Cell(text, formatting.points_range(one.low, one.high))
