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


def mean_count_cell(count: float) -> Cell:
    """A count that is a mean over seeds: ``0``, ``<0.1``, ``0.4``, ``3``."""
    if 0 < count < 0.05:
        return Cell("<0.1")
    return Cell(f"{count:.1f}".removesuffix(".0"))


def change_cell(one: PairedChange | None) -> Cell:
    """Refusals gained less lost, per 100 prompts, with the interval."""
    if one is None or one.n == 0:
        return NONE
    found = one.points
    interval = formatting.points_range(found.low, found.high)
    return Cell(formatting.points(found.value), interval)


def relative_cell(one: PairedChange | None) -> Cell:
    """Refusals gained less lost, as a share of those before."""
    if one is None or one.relative is None:
        return NONE
    return Cell(f"{formatting.points(100 * one.relative.value)}%")


def flips_cell(one: PairedChange | None) -> Cell:
    """How many refusals became answers, and how many appeared."""
    return Cell(f"{one.lost} / {one.gained}") if one and one.n else NONE


def p_cell(p: float | None) -> Cell:
    """A p-value."""
    return NONE if p is None else Cell(formatting.p_value(p))


def mean_cell(one: Interval | float | None) -> Cell:
    """A mean, with its interval if it has one."""
    if not isinstance(one, Interval):
        return Cell(formatting.decimal(one))
    if not math.isfinite(one.low):
        return Cell(formatting.decimal(one.value))
    interval = formatting.decimal_range(one.low, one.high)
    return Cell(formatting.decimal(one.value), interval)
