"""What a circuit's trial on held-out prompts showed, as its file keeps it.

Apart from the trial itself, which needs a model: a file is shown without one.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from cna_mlx.circuit import Circuit


@dataclass(frozen=True)
class ArmCounts:
    """One arm's answers, counted.

    Attributes:
        refused, partial, invalid: how many were labelled so.
        changed: how many differ from the baseline's answer; 0 for the baseline.
        quality: their mean quality: a refusal rate is never shown without it.
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
        planned: how many were to be, before time was up or somebody pressed Ctrl-C.
        max_tokens: new tokens for each answer, at most.
        baseline, ablated, control: the arms: unsteered, the circuit at m = 0, and as
            many neurons of the same layers that are as active, at m = 0.
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

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> "Expectation | None":
        """What :meth:`to_dict` wrote; None where ``data`` is no such thing."""
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
