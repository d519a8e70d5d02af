"""The result of a circuit's trial on held-out prompts; needs no model."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from cna_mlx.circuit import Circuit

#: With fewer prompts a quarter of them is less than one.
ENOUGH = 4


@dataclass(frozen=True)
class ArmCounts:
    """One arm's answers, counted; ``changed`` ones differ from the baseline's.

    A refusal rate is never shown without the mean ``quality``.
    """

    refused: int
    partial: int
    invalid: int
    changed: int
    quality: float


@dataclass(frozen=True)
class Expectation:
    """How held-out positive prompts were answered, each by a circuit of the others.

    Attributes:
        prompts: how many were answered in every arm.
        planned: how many were planned; time or Ctrl-C may end the trial early.
        max_tokens: new tokens of each answer at most.
        baseline, ablated, control: unsteered, the circuit at m = 0, and equally active
            neurons of the same layers at m = 0.
    """

    prompts: int
    planned: int
    max_tokens: int
    baseline: ArmCounts
    ablated: ArmCounts
    control: ArmCounts

    @property
    def was_cut_short(self) -> bool:
        """Whether fewer prompts were tried than planned."""
        return self.prompts < self.planned

    @property
    def is_enough(self) -> bool:
        """Whether the counts say something: not if the trial ended early after few."""
        return self.prompts >= ENOUGH or not self.was_cut_short

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> "Expectation | None":
        """Read what :meth:`to_dict` wrote; None if ``data`` is anything else."""
        try:
            counts = [data[key] for key in ("prompts", "planned", "max_tokens")]
            arms = [
                ArmCounts(**data[key]) for key in ("baseline", "ablated", "control")
            ]
        except (TypeError, KeyError):
            return None
        if any(type(count) is not int or count < 1 for count in counts):
            return None
        if not all(_is_sound(tally, counts[0]) for tally in arms):
            return None
        return cls(*counts, *arms)

    @classmethod
    def of(cls, circuit: Circuit) -> "Expectation | None":
        """What a circuit's file says is to be expected of it, if it does."""
        return cls.from_dict(circuit.provenance.expectation)

    def written_into(self, circuit: Circuit) -> Circuit:
        """The same circuit, which says what is to be expected of it."""
        origin = replace(circuit.provenance, expectation=self.to_dict())
        return replace(circuit, provenance=origin)


def _is_sound(tally: ArmCounts, prompts: int) -> bool:
    counts = tally.refused, tally.partial, tally.invalid, tally.changed
    return (
        all(type(count) is int and 0 <= count <= prompts for count in counts)
        and sum(counts[:3]) <= prompts
        and isinstance(tally.quality, int | float)
        and math.isfinite(tally.quality)
    )
