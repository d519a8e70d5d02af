"""The circuits that a search tries: by rank, layers and size, scaled or pinned."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.selection import Rank, Selection
from cna_mlx.errors import InputError
from cna_mlx.search.statistics import (
    DECIDING,
    SIMPLE,
    Excluded,
    Statistics,
    late_bands,
)
from cna_mlx.steering.arms import Arm
from cna_mlx.strength import Strength, strength_text, to_intervention
from cna_mlx.util.formatting import counted

#: Sizes that are tried, as multiples of the paper's fraction.
SIZES = (1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Candidate:
    """A circuit, how it was ranked, and what is done to its neurons."""

    selection: Selection
    layers: tuple[int, int]
    circuit: Circuit = field(repr=False)
    strength: Strength = 0.0
    is_paper: bool = False

    @property
    def size(self) -> int:
        """How many neurons it has."""
        return len(self.circuit.neurons)

    @property
    def rank(self) -> Rank:
        """The score that ranked it."""
        return self.selection.rank

    @property
    def title(self) -> str:
        """Its choice in words, such as ``230 neurons by influence, layers 0-19``."""
        first, last = self.layers
        done = "" if self.strength == 0 else f", {strength_text(self.strength)}"
        neurons = counted(self.size, "neuron")
        return f"{neurons} by {self.rank}, layers {first}-{last}{done}"

    @property
    def named(self) -> ChosenCircuit:
        """The circuit with the name of its arm where it is judged."""
        name = "paper" if self.is_paper else f"best {self.size}"
        return ChosenCircuit(self.circuit, self.strength, name)

    def arm(self, label: str) -> Arm:
        """The arm that answers with it."""
        return Arm.of(self.circuit, self.strength, label)

    def at(self, strength: Strength) -> "Candidate":
        """The same neurons, at another multiplier or pinned."""
        return replace(self, strength=strength, is_paper=False)

    def to_dict(self) -> dict[str, Any]:
        """The choice for JSON, without the neurons."""
        return {
            "rank": self.rank,
            "layers": list(self.layers),
            "fraction": self.selection.fraction,
            "neurons": self.size,
            "intervention": to_intervention(self.strength),
            "is_paper": self.is_paper,
        }


def candidates(
    statistics: Statistics,
    fraction: float,
    most: float,
    *,
    universal: bool = True,
    without: Excluded = frozenset(),
) -> list[Candidate]:
    """Every circuit to try, the paper's first; equal ones once.

    Args:
        fraction: the paper's share of all neurons; sizes are 1, 2.5, 5 and 10 times it.
        most: the largest share.
        without: neurons that no circuit may have.

    Raises:
        InputError: no size is small enough.
    """
    n_layers, late = len(statistics.sizes), late_bands(len(statistics.sizes))
    bands = {rank: [(0, n_layers - 1), *late] for rank in SIMPLE}
    bands |= dict.fromkeys(DECIDING, late)
    bands["residual"] = [Selection(rank="residual").band(n_layers)]
    found: list[Candidate] = []
    for size in fractions(fraction, most):
        for rank in statistics.scores:
            for layers in dict.fromkeys(bands[rank]):
                choice = Selection(size, rank, layers, universal)
                one = _candidate(statistics, choice, layers, without)
                if one is not None:
                    found.append(one)
    different = {_members(one.circuit): one for one in reversed(found)}
    kept = [one for one in found if different[_members(one.circuit)] is one]
    if not kept:
        remedy = "take fewer --without circuits" if without else "lower --fraction"
        raise InputError(f"no neuron is left to try: {remedy}")
    first = kept[0]
    paper = (fraction, "delta", (0, n_layers - 1))
    is_paper = (first.selection.fraction, first.rank, first.layers) == paper
    return [replace(first, is_paper=is_paper and not without), *kept[1:]]


def fractions(fraction: float, most: float) -> list[float]:
    """The shares of all neurons that are tried.

    Raises:
        InputError: the smallest is larger than ``most``.
    """
    found = [times * fraction for times in SIZES if times * fraction <= most * 1.0001]
    if not found:
        raise InputError(f"--most {most:g}: give at least {fraction:g}, the paper's")
    return found


def _candidate(
    statistics: Statistics,
    selection: Selection,
    layers: tuple[int, int],
    without: Excluded,
) -> Candidate | None:
    """None if the layers hold too few neurons."""
    try:
        circuit = statistics.circuit(selection, without)
    except InputError:
        return None
    return Candidate(selection, layers, circuit) if circuit.neurons else None


def _members(circuit: Circuit) -> frozenset[tuple[int, int]]:
    return frozenset((one.layer, one.index) for one in circuit.neurons)


def excluded(circuits: Sequence[Circuit]) -> Excluded:
    """The neurons of circuits as (layer, index)."""
    return frozenset(one for circuit in circuits for one in _members(circuit))
