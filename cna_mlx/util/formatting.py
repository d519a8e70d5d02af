"""Format numbers for text: terminals, pages, tables and sentences."""

import math
from typing import Protocol

#: Stands for an unknown number.
NO_VALUE = "-"


class Estimate(Protocol):
    """A value with its interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def counted(count: int, noun: str) -> str:
    """``1 turn``, ``2 turns``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share in whole percent; only 0 is ``0%`` and only 1 is ``100%``."""
    if share is None or math.isnan(share):
        return NO_VALUE
    return f"{_hundredths(share)}%"


def percent_range(low: float, high: float) -> str:
    """``13 to 29``: two shares in whole percent, without the sign."""
    return f"{_hundredths(low)} to {_hundredths(high)}"


def rate(one: Estimate) -> str:
    """``20% [13, 29]``: a share with its interval."""
    if math.isnan(one.value):
        return NO_VALUE
    return f"{percent(one.value)} [{_hundredths(one.low)}, {_hundredths(one.high)}]"


def points(change: float) -> str:
    """A change in percentage points with its sign; only no change is ``0``."""
    if change == 0:
        return "0"
    return f"{change:+.0f}" if abs(change) >= 0.5 else f"{change:+.1g}"


def points_range(low: float, high: float) -> str:
    """``-12 to +3``: the interval of a change."""
    return f"{points(low)} to {points(high)}"


def decimal(value: float | None, digits: int = 2) -> str:
    """A quality, a KL in nats, a gauge, an AUC or an overlap."""
    if value is None or math.isnan(value):
        return NO_VALUE
    return f"{value:.{digits}f}"


def decimal_range(low: float, high: float, digits: int = 2) -> str:
    """``0.21 to 0.29``."""
    return f"{low:.{digits}f} to {high:.{digits}f}"


def auc_text(one: Estimate) -> str:
    """``0.93 [0.89, 0.97]``."""
    return f"{decimal(one.value)} [{decimal(one.low)}, {decimal(one.high)}]"


def p_value(p: float) -> str:
    """A p-value with two digits; a small one as a power of ten."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _hundredths(share: float) -> str:
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 < share < 1 else f"{100 * share:.0f}"
