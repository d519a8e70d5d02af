"""What two circuits have in common: neurons, their order, and the layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cna_mlx.analysis.statistics import Proportion, proportion, spearman
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.selection import expected_overlap, jaccard, overlap
from cna_mlx.util.records import JsonFields

# Models of different depths are compared by tenths of their depth.
_TENTHS = 10


@dataclass(frozen=True)
class SharedNeurons(JsonFields):
    """The neurons of two circuits in models of one shape.

    A neuron is identified by its layer and index. These mean the same in two models
    only if one comes from the other or both from a third: instruct from base, 4-bit
    from bf16, a fine-tune from its model.

    Attributes:
        shared: how many are in both circuits.
        jaccard: shared over all that are in either.
        chance: the expected Jaccard of random circuits of these sizes.
        chance_by_layer: the same for random circuits with the same number of neurons
            in each layer. Circuits crowd in a few layers, so this is the one to beat.
        p: the probability that such circuits share at least this many neurons.
        rank_correlation: Spearman's, of |delta| over the shared neurons; None for fewer
            than two, or without deltas.
        same_sign: of the shared neurons with deltas, those whose deltas agree in sign.
    """

    shared: int
    jaccard: float
    chance: float
    chance_by_layer: float
    p: float
    rank_correlation: float | None
    same_sign: Proportion


@dataclass(frozen=True)
class CircuitOverlap:
    """What two circuits have in common.

    Attributes:
        sizes: how many neurons each has.
        shared: None if the models have different or unknown shapes.
        profiles: for each circuit the share of its neurons in every layer.
        profile_overlap: the sum over the layers of the smaller share, from 0 to 1; by
            tenths of the depth if the numbers of layers differ. None for an empty
            circuit.
        by_depth: whether it was by tenths of the depth.
    """

    sizes: tuple[int, int]
    shared: SharedNeurons | None
    profiles: tuple[tuple[float, ...], tuple[float, ...]]
    profile_overlap: float | None
    by_depth: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON; null for what needs models of one shape."""
        unknown = {one.name: None for one in fields(SharedNeurons)}
        return {
            "sizes": list(self.sizes),
            **(self.shared.to_dict() if self.shared else unknown),
            "layers": {
                **dict(zip("ab", map(list, self.profiles), strict=True)),
                "overlap": self.profile_overlap,
                "by_depth": self.by_depth,
            },
        }


def compare_circuits(a: Circuit, b: Circuit) -> CircuitOverlap:
    """Find what two circuits have in common.

    Args:
        a, b: circuits of models that may differ in shape. One made by hand takes the
            other's shape if its neurons fit into it.
    """
    widths = _widths(a, b), _widths(b, a)
    shapes = {one.model.shape for one in (a, b)} - {None}
    is_one_shape = widths[0] == widths[1] and len(shapes) == 1
    depths = [
        len(own) if own else 1 + max((n.layer for n in one.neurons), default=-1)
        for own, one in zip(widths, (a, b), strict=True)
    ]
    if not any(widths):  # both by hand: of one unknown model, as far as one can tell
        depths = [max(depths)] * 2
    profiles = layer_profile(a, depths[0]), layer_profile(b, depths[1])
    by_depth = depths[0] != depths[1]
    common = tuple(map(by_tenths, profiles)) if by_depth else profiles
    return CircuitOverlap(
        (len(a.neurons), len(b.neurons)),
        _shared(a, b, widths[0]) if widths[0] and is_one_shape else None,
        profiles,
        sum(map(min, *common)) if a.neurons and b.neurons else None,
        by_depth,
    )


def layer_profile(circuit: Circuit, n_layers: int) -> tuple[float, ...]:
    """Return the share of a circuit's neurons in each layer; 0 for an empty one."""
    counts = _counts(circuit, n_layers)
    return tuple((counts / max(1, len(circuit.neurons))).tolist())


def by_tenths(profile: Sequence[float]) -> tuple[float, ...]:
    """Return a layer profile by tenths of the depth, first to last.

    Layer l of L takes up the depth from l / L to (l + 1) / L; its share is spread
    evenly over that.
    """
    edges = np.linspace(0, 1, _TENTHS + 1)
    depth = np.linspace(0, 1, len(profile) + 1)
    below = np.concatenate([[0.0], np.cumsum(profile)])
    return tuple(np.diff(np.interp(edges, depth, below)).tolist())


def _widths(circuit: Circuit, other: Circuit) -> tuple[int, ...] | None:
    """d_ff of the circuit's model, or of the other's if it is unknown and fits."""
    if (own := circuit.model.d_ff) is not None:
        return tuple(own)
    theirs = tuple(other.model.d_ff or ())
    fits = all(
        n.layer < len(theirs) and n.index < theirs[n.layer] for n in circuit.neurons
    )
    return theirs if theirs and fits else None


def _shared(a: Circuit, b: Circuit, widths: tuple[int, ...]) -> SharedNeurons:
    deltas = [{neuron[:2]: neuron.delta for neuron in one.neurons} for one in (a, b)]
    both = sorted(deltas[0].keys() & deltas[1].keys())
    pairs = [(deltas[0][key], deltas[1][key]) for key in both]
    known = [(x, y) for x, y in pairs if x and y]
    counts = _counts(a, len(widths)), _counts(b, len(widths))
    by_layer = float((counts[0] * counts[1] / np.maximum(widths, 1)).sum())
    sizes = len(a.neurons), len(b.neurons)
    return SharedNeurons(
        len(both),
        overlap(set(deltas[0]), set(deltas[1])),
        expected_overlap(sizes[0], sum(widths), sizes[1]),
        jaccard(by_layer, *sizes),
        chance_of_sharing(a, b, widths),
        spearman([abs(x) for x, _ in known], [abs(y) for _, y in known]),
        proportion(sum((x > 0) == (y > 0) for x, y in known), len(known)),
    )


def chance_of_sharing(a: Circuit, b: Circuit, widths: Sequence[int]) -> float:
    """Return the probability that random circuits share at least this many neurons.

    Random circuits have the same number of neurons in each layer, drawn independently.
    The number shared in a layer is then hypergeometric, and layers are independent.
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
    whole = _log_choose(width, other)
    logs = [
        _log_choose(one, i) + _log_choose(width - one, other - i) - whole
        for i in range(min(one, other) + 1)
    ]
    return np.exp(logs)


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _counts(circuit: Circuit, n_layers: int) -> np.ndarray:
    layers = np.array([neuron.layer for neuron in circuit.neurons], dtype=np.int64)
    return np.bincount(layers, minlength=n_layers)
