"""How many neurons two circuits share by chance alone, where each has its layers."""

import math
from collections.abc import Sequence

import numpy as np

from cna_mlx.circuit import Circuit


def chance_of_sharing(a: Circuit, b: Circuit, widths: Sequence[int]) -> float:
    """How likely random circuits share as many neurons as these two do, or more.

    Random means: as many neurons of each layer as these have, drawn in each layer
    without regard to the other circuit. The number shared in a layer is then
    hypergeometric, and the layers are independent.

    Args:
        a, b: circuits of models of one shape.
        widths: d_ff of each layer.

    Returns:
        From 0 to 1; 1 where they share none.
    """
    total = np.ones(1)
    sides = a.by_layer(), b.by_layer()
    for layer in sorted(sides[0].keys() & sides[1].keys()):
        sizes = sorted(len(side[layer]) for side in sides)
        total = np.convolve(total, _hypergeometric(widths[layer], *sizes))
    members = [{neuron[:2] for neuron in one.neurons} for one in (a, b)]
    shared = len(members[0] & members[1])
    # from the small end: the tail may be far below the rounding of 1
    return min(1.0, float(total[shared:][::-1].sum())) if shared else 1.0


def _hypergeometric(width: int, one: int, other: int) -> np.ndarray:
    """Probabilities of 0 to min(one, other) shared of two draws from ``width``."""
    counts = range(min(one, other) + 1)
    whole = _log_choose(width, other)
    logs = [
        _log_choose(one, i) + _log_choose(width - one, other - i) - whole
        for i in counts
    ]
    return np.exp(logs)


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
