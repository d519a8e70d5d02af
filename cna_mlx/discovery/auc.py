"""Measure how well scores separate two groups; needs no MLX."""

import math
from collections.abc import Sequence

import numpy as np

from cna_mlx.provenance import Auc

_Z95 = 1.959963984540054


def auc(positive: Sequence[float], negative: Sequence[float]) -> Auc:
    """Return the area under the ROC curve with its 95% interval.

    The area is the Mann-Whitney statistic, ties counting half. Its variance is at most
    that of a share of the smaller group, whatever the scores are distributed like; the
    interval is Wilson's for such a share, which stays sensible at 0 and 1.

    Source: Birnbaum and Klose (Annals of Mathematical Statistics 28, 1957) for the
    variance; Wilson (Journal of the American Statistical Association 22, 1927).
    """
    scores = np.array(positive, dtype=np.float64), np.array(negative, dtype=np.float64)
    ordered = np.sort(scores[1])
    below = np.searchsorted(ordered, scores[0], side="left")
    not_above = np.searchsorted(ordered, scores[0], side="right")
    m, n = len(scores[0]), len(scores[1])
    value = float((below + not_above).sum() / 2 / (m * n))
    fewer, square = min(m, n), _Z95**2
    center = (value * fewer + square / 2) / (fewer + square)
    spread = fewer * value * (1 - value) + square / 4
    half = _Z95 * math.sqrt(spread) / (fewer + square)
    # at the ends exactly, where rounding would miss them
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Auc(value, low if value > 0 else 0.0, high if value < 1 else 1.0)
