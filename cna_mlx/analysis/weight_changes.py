"""Which weights of two models differ, from a small sketch of each matrix.

Two models are loaded in turn, never both at once. So each matrix leaves a few random
combinations of its rows (a Gaussian sketch): those of equal matrices are equal, their
difference estimates how large a change is, and a change along one direction, as
abliteration makes it (arXiv 2406.11717), also has one direction there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cna_mlx.util.records import JsonFields

#: (layer, name within it) of a matrix -> combinations of its rows, [8, columns]. The
#: embedding and the unembedding are in no layer: None.
Sketches = Mapping[tuple[int | None, str], np.ndarray]

# Of a change's squared size along its first direction: rounding to bf16 takes the rest.
_ONE_DIRECTION = 0.9


@dataclass(frozen=True)
class MatrixChange(JsonFields):
    """How a kind of matrix differs between two models.

    Attributes:
        name: its path within a layer, or ``embedding`` or ``unembedding``.
        layers: where it differs; empty for those two.
        largest: the largest change, in parts of the larger matrix (estimated).
        is_one_direction: whether each change is along one direction of its output.
    """

    name: str
    layers: tuple[int, ...]
    largest: float
    is_one_direction: bool


@dataclass(frozen=True)
class WeightChanges(JsonFields):
    """The matrices of two models of one shape that differ.

    Attributes:
        matrices: how many there are; ``differing`` of them differ.
    """

    matrices: int
    differing: int
    changes: tuple[MatrixChange, ...]

    @property
    def is_one_direction(self) -> bool:
        """Whether each change is along one direction, as abliteration makes it."""
        return all(one.is_one_direction for one in self.changes)

    @property
    def statement(self) -> str:
        """What differs, in a sentence or two."""
        if not self.changes:
            return "Their matrices are equal."
        largest = max(one.largest for one in self.changes)
        if self.differing == self.matrices:
            size = f"{largest:.1%} (estimated)"
            return f"All their matrices differ, by up to {size}."
        names = "; ".join(map(_said, self.changes))
        line = f"{self.differing} of their {self.matrices} matrices differ: {names}."
        if self.is_one_direction:
            line += " Each change is along one direction, as abliteration makes it."
        return line


def _said(one: MatrixChange) -> str:
    size = f"by up to {one.largest:.1%} (estimated)"
    if not one.layers:
        return f"the {one.name}, {size}"
    layers = f"layer{'s' * (len(one.layers) > 1)} {_spans(one.layers)}"
    return f"{one.name} in {layers}, {size}"


def _spans(layers: Sequence[int]) -> str:
    """``0-3, 7`` for 0, 1, 2, 3, 7."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and layer == spans[-1][-1] + 1:
            spans[-1][1:] = [layer]
        else:
            spans.append([layer])
    return ", ".join("-".join(map(str, span)) for span in spans)


def weight_changes(a: Sketches, b: Sketches) -> WeightChanges | None:
    """Compare two models' sketches; None if their matrices have other shapes."""
    if {name: one.shape for name, one in a.items()} != {
        name: one.shape for name, one in b.items()
    }:
        return None
    differing = [place for place in a if not np.array_equal(a[place], b[place])]
    by_name: dict[str, list[int | None]] = {}
    for layer, name in differing:
        by_name.setdefault(name, []).append(layer)
    changes = tuple(
        _change(name, layers, a, b) for name, layers in sorted(by_name.items())
    )
    return WeightChanges(len(a), len(differing), changes)


def _change(
    name: str, layers: Sequence[int | None], a: Sketches, b: Sketches
) -> MatrixChange:
    sizes, shares = [], []
    for layer in layers:
        change = b[layer, name] - a[layer, name]
        length = max(float(np.linalg.norm(one[layer, name])) for one in (a, b))
        sizes.append(float(np.linalg.norm(change)) / length)
        directions = np.linalg.svd(change, compute_uv=False) ** 2
        shares.append(directions[0] / directions.sum())
    is_one = bool(min(shares) >= _ONE_DIRECTION)
    inside = tuple(layer for layer in layers if layer is not None)
    return MatrixChange(name, inside, max(sizes), is_one)
