"""Measure how well scores separate two groups; needs no MLX."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from cna_mlx.provenance import Auc

_Z95 = 1.959963984540054


def auc(positive: Sequence[float], negative: Sequence[float]) -> Auc:
    """Return the area under the ROC curve with its 95% interval.

    The area is the Mann-Whitney statistic, ties counting half. The interval is
    Newcombe's (Statistics in Medicine 25, 2006, method 5): the values whose own
    variance would allow the observed area. It stays sensible at 0 and 1.
    """
    scores = np.array(positive, dtype=np.float64), np.array(negative, dtype=np.float64)
    ordered = np.sort(scores[1])
    below = np.searchsorted(ordered, scores[0], side="left")
    not_above = np.searchsorted(ordered, scores[0], side="right")
    m, n = len(scores[0]), len(scores[1])
    value = float((below + not_above).sum() / 2 / (m * n))

    def distance(theta: float) -> float:
        half = (m + n) / 2
        spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + (half - 1) * spread) / (m * n)
        return abs(value - theta) - _Z95 * math.sqrt(variance)

    return Auc(value, _edge(distance, value, 0.0), _edge(distance, value, 1.0))


def _edge(distance: Callable[[float], float], inside: float, outside: float) -> float:
    """Return where ``distance`` crosses 0 between these two values."""
    if distance(outside) <= 0:  # the value itself is at this end
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if distance(middle) <= 0:
            inside = middle
        else:
            outside = middle
    return inside
