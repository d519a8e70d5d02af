"""Figures as they are written: rates in percent, changes in points, p, KL."""

import math

from cna_mlx.analysis.statistics import Interval, PairedChange, Proportion
from cna_mlx.report.content import Cell
from cna_mlx.util.formatting import p_value

NONE = Cell("-")


def percent(value: float) -> str:
    """A share as whole percent; of 1 in 300, that it is not nothing."""
    if not math.isfinite(value):
        return NONE.text
    if 0 < value < 0.005:
        return "<1%"
    if 0.995 < value < 1:
        return ">99%"
    return f"{100 * value:.0f}%"


def rate(one: Proportion) -> Cell:
    """A rate with its interval."""
    if one.n == 0:
        return NONE
    return Cell(percent(one.value), f"{100 * one.low:.0f} to {100 * one.high:.0f}")


def counted_share(one: Proportion) -> Cell:
    """How many, without their interval: 0 is a plain 0."""
    return Cell(str(one.successes)) if one.n else NONE


def change(one: PairedChange | None) -> Cell:
    """A change in percentage points with its interval."""
    if one is None or one.n == 0:
        return NONE
    interval = one.points
    return Cell(
        signed(interval.value), f"{signed(interval.low)} to {signed(interval.high)}"
    )


def relative(one: PairedChange | None) -> Cell:
    """A change as a share of what was there before."""
    if one is None or one.relative is None:
        return NONE
    interval = one.relative
    low, high = (signed(100 * edge) for edge in (interval.low, interval.high))
    return Cell(f"{signed(100 * interval.value)}%", f"{low} to {high}")


def flips(one: PairedChange | None) -> Cell:
    """How many prompts are refused no more, and how many newly."""
    return Cell(f"{one.lost} / {one.gained}") if one and one.n else NONE


def probability(one: PairedChange | None) -> Cell:
    """The p of the exact McNemar test."""
    if one is None or one.n == 0:
        return NONE
    return Cell(p_value(one.p))


def mean(one: Interval | float | None, digits: int = 2) -> Cell:
    """A mean with its interval, if it has one."""
    if one is None:
        return NONE
    if not isinstance(one, Interval):
        return Cell(f"{one:.{digits}f}") if math.isfinite(one) else NONE
    if not math.isfinite(one.value):
        return NONE
    text = f"{one.value:.{digits}f}"
    if not math.isfinite(one.low):
        return Cell(text)
    return Cell(text, f"{one.low:.{digits}f} to {one.high:.{digits}f}")


def signed(value: float) -> str:
    """A whole number with its sign; a plain 0."""
    text = f"{value:+.0f}"
    return "0" if text in ("+0", "-0") else text
