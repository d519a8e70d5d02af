"""Parts of a circuit: its first neurons by several orders, or all but some."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.circuit_profile import effect_sizes
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.search.trial import Counts
from cna_mlx.steering.arms import Arm
from cna_mlx.strength import Strength, to_intervention
from cna_mlx.util.formatting import counted

#: How a part was made that is not the first neurons by an order.
WHOLE, DROPPING = "whole", "dropping"
# Rounding of a share of prompts.
_TINY = 1e-9


@dataclass(frozen=True)
class Part:
    """Some neurons of a circuit, and what is done to them.

    Attributes:
        places: in the whole circuit, from 0.
        by: the order whose first neurons they are, ``whole`` or ``dropping``.
    """

    circuit: Circuit = field(repr=False)
    strength: Strength
    places: tuple[int, ...] = field(repr=False)
    by: str

    @classmethod
    def of(cls, whole: ChosenCircuit, places: Sequence[int], by: str) -> "Part":
        """The neurons at these places of a circuit."""
        circuit, strength = whole.circuit, whole.multipliers(())[0]
        return cls(circuit.part(places), strength, tuple(sorted(places)), by)

    @property
    def size(self) -> int:
        """How many neurons it has."""
        return len(self.places)

    @property
    def named(self) -> ChosenCircuit:
        """The part with the name of its arm where it is judged."""
        name = WHOLE if self.by == WHOLE else counted(self.size, "neuron")
        return ChosenCircuit(self.circuit, self.strength, name)

    def arm(self, label: str) -> Arm:
        """The arm that answers with it."""
        return Arm.of(self.circuit, self.strength, label)

    def to_dict(self) -> dict[str, Any]:
        """The part for JSON, without the neurons."""
        return {
            "neurons": self.size,
            "by": self.by,
            "intervention": to_intervention(self.strength),
        }


@dataclass(eq=False)
class PartCounts(Counts):
    """What a part did so far; ``asked`` is how many prompts it answered."""

    candidate: Part
    asked: int = 0

    @property
    def size(self) -> int:
        """How many neurons the part has."""
        return self.candidate.size

    def keeps(self, share: float, count: int | None = None) -> bool:
        """Whether it loses, or may still lose, this share of ``count`` refusals.

        Args:
            count: how many will have been asked; None for those that were.
        """
        allowed = (1 - share) * (self.refusals if count is None else count)
        return self.refusals - self.lost <= allowed + _TINY


def orders(circuit: Circuit) -> dict[str, list[int]]:
    """The places of a circuit's neurons, the first to keep first, by several figures.

    Its own order, the size of delta, and the size of Cohen's d where it is known.
    """
    found = {circuit.provenance.rank or "file": list(range(len(circuit.neurons)))}
    found["|delta|"] = _largest_first([neuron.delta for neuron in circuit.neurons])
    if circuit.moments:
        found["Cohen's d"] = _largest_first([d or 0.0 for d in effect_sizes(circuit)])
    return found


def _largest_first(values: Sequence[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda place: -abs(values[place]))


def halvings(count: int) -> list[int]:
    """The powers of two below a number of neurons, from the largest to 1."""
    return [1 << n for n in reversed(range(count.bit_length())) if 1 << n < count]


def groups(places: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Neighbouring places, ``size`` in each group but the last."""
    return [tuple(places[at : at + size]) for at in range(0, len(places), size)]


def unions(several: Sequence[tuple[int, ...]]) -> Iterator[set[int]]:
    """The first 2, 4, 8, ... groups together, at last all."""
    for count in [*reversed(halvings(len(several))), len(several)]:
        if count > 1:
            yield {place for group in several[:count] for place in group}


def best_of_each_size(counts: Collection[PartCounts]) -> dict[int, PartCounts]:
    """For each size the part that was asked most, lost most and costs least KL."""
    best: dict[int, PartCounts] = {}
    for one in sorted(counts, key=lambda one: (-one.asked, -one.lost, one.kl)):
        best.setdefault(one.size, one)
    return dict(sorted(best.items()))
