"""Arms: the ways of steering in which a prompt is answered."""

from dataclasses import dataclass

from cna_mlx.circuit import Circuit
from cna_mlx.steering.interventions import Intervention, check_multiplier


@dataclass(frozen=True)
class Arm:
    """One way of steering: pairs of an intervention and its multiplier.

    Attributes:
        label: its name, unique among the arms of a call.
        steering: the pairs, as for :func:`steered`; empty for the baseline.
    """

    label: str
    steering: tuple[tuple[Intervention, float], ...] = ()

    @classmethod
    def of(cls, circuit: Circuit, multiplier: float, label: str | None = None) -> "Arm":
        """The arm of one circuit at one multiplier."""
        check_multiplier(multiplier)
        return cls(label or f"m={multiplier:.15g}", ((circuit, multiplier),))

    @property
    def title(self) -> str:
        """The label, and the multipliers other than 0 that it does not name."""
        named = [
            f"m={multiplier:.15g}" for _, multiplier in self.steering if multiplier
        ]
        return ", ".join([self.label, *(m for m in named if m not in self.label)])

    @property
    def multiplier(self) -> float:
        """The one multiplier of the arm; 1 for the baseline or several."""
        multipliers = {multiplier for _, multiplier in self.steering}
        return multipliers.pop() if len(multipliers) == 1 else 1.0


BASELINE = Arm("baseline")
