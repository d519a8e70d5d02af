"""Arms: the ways of steering in which a prompt is answered."""

from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError
from cna_mlx.steering.interventions import Intervention, MeanDifference
from cna_mlx.strength import (
    Pin,
    Strength,
    arm_label,
    check_strength,
    strength_text,
    to_intervention,
)


@dataclass(frozen=True)
class Arm:
    """One way of steering: pairs of an intervention and its multiplier or pin.

    Attributes:
        label: its name, unique among the arms of a call.
        steering: the pairs, as for :func:`steered`; empty for the baseline.
    """

    label: str
    steering: tuple[tuple[Intervention, Strength], ...] = ()

    @classmethod
    def of(
        cls, circuit: Circuit, multiplier: Strength, label: str | None = None
    ) -> "Arm":
        """The arm of one circuit at one multiplier, or pinned.

        Raises:
            CircuitError: the circuit lacks the means or constants to pin it to.
            InputError: the multiplier is NaN or infinite.
        """
        strength = check_strength(multiplier)
        if isinstance(strength, Pin):
            circuit.constants(strength)
        return cls(label or arm_label(strength), ((circuit, multiplier),))

    @property
    def title(self) -> str:
        """The label, and the multipliers other than 0 that it does not name."""
        named = [strength_text(one) for _, one in self.steering if one]
        return ", ".join([self.label, *(m for m in named if m not in self.label)])

    @property
    def strength(self) -> Strength:
        """The one multiplier or pin of the arm; 1 for the baseline or several."""
        strengths = {strength for _, strength in self.steering}
        return strengths.pop() if len(strengths) == 1 else 1.0

    @property
    def multiplier(self) -> float:
        """The strength as a number: a pin multiplies by 0, and then adds."""
        return 0.0 if isinstance(self.strength, Pin) else self.strength

    @property
    def intervention(self) -> dict[str, Any] | None:
        """What the arm does, for JSON; None for the baseline or several."""
        if len(self.steering) != 1:
            return None
        target, strength = self.steering[0]
        is_shift = isinstance(target, MeanDifference)
        return to_intervention(strength, "shift" if is_shift else "scale")


BASELINE = Arm("baseline")


def logits_error(arm: Arm) -> CnaError:
    """The error for logits that contain NaN or infinity, with the remedy."""
    remedy = "fetch the model's weights again, or try it in bf16 or float32"
    if arm.steering:
        remedy = (
            "its multiplier is too far from 1 for this model's precision; take a "
            "smaller one"
        )
    return CnaError(f"the logits of {arm.label} are NaN or infinite: {remedy}")
