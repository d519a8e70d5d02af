"""Tell whether a circuit's activations are sufficient or necessary to refuse.

Activation patching: at the prompt's last token the neurons are pinned to their
activations at the last token of another prompt.
With those of a refused prompt in an answered one, a refusal says that they are
sufficient; with those of an answered prompt in a refused one, an answer says that they
are necessary (Heimersheim and Nanda, arXiv 2404.15255).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cna_mlx.analysis.decision import Outcome, decide
from cna_mlx.analysis.metrics import ArmFigures
from cna_mlx.analysis.statistics import Proportion, proportion
from cna_mlx.analysis.summary import group_figures
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind
from cna_mlx.util.formatting import counted, decimal, p_value, percent, percent_range
from cna_mlx.util.records import JsonFields

Claim = Literal["sufficient", "necessary"]

CLAIMS: tuple[Claim, Claim] = ("sufficient", "necessary")

#: The labels of the arms of the circuit.
BASELINE, PATCHED = "baseline", "patched"
# A circuit of which this share of the answers is certain to turn decides most of them.
_MOST = 0.5
# Refusals and answers exchanged: what turns is then always lost.
_EXCHANGED = {
    LabelKind.REFUSED: LabelKind.ANSWERED,
    LabelKind.ANSWERED: LabelKind.REFUSED,
    LabelKind.PARTIAL: LabelKind.REFUSED,
}


@dataclass(frozen=True)
class Turned(JsonFields):
    """What one arm does to the prompts.

    Attributes:
        turned: prompts whose answer turned (refused to answered or answered to
            refused), of those that could.
        invalid: unusable answers.
        quality: the mean.
    """

    arm: str
    turned: Proportion
    invalid: Proportion
    quality: float


@dataclass(frozen=True)
class PatchEffect(JsonFields):
    """What a circuit's activations of other prompts do.

    Attributes:
        claim: ``sufficient``: activations of refused prompts in answered ones;
            ``necessary``: those of answered prompts in refused ones.
        n: prompts.
        patched: under the other prompt's activations.
        controls: matched random neurons under the other prompt's activations.
        quality_before: the mean of the unsteered answers.
        p: of the exact McNemar test of the patched answers against the unsteered ones.
        p_controls: the chance that neurons like the controls turn as many; None
            without a control.
        outcome: by the rules of the verdict (:mod:`cna_mlx.analysis.decision`), with
            turned answers in the place of lost refusals.
    """

    claim: Claim
    n: int
    patched: Turned
    controls: tuple[Turned, ...]
    quality_before: float
    p: float
    p_controls: float | None
    outcome: Outcome

    @property
    def is_shown(self) -> bool:
        """Whether answers turn by more than chance and controls explain."""
        return self.outcome in (Outcome.FELL, Outcome.MORE)

    @property
    def headline(self) -> str:
        """``Sufficient for most prompts`` or the like."""
        if self.is_shown:
            many = "most" if self.patched.turned.low > _MOST else "some"
            return f"{self.claim.capitalize()} for {many} prompts"
        if self.outcome is Outcome.HELD:
            return f"Not {self.claim}"
        if self.outcome is Outcome.BROKE:
            return f"Not shown to be {self.claim}: the text broke"
        return f"Not shown to be {self.claim}"

    @property
    def statement(self) -> str:
        """The headline and the figures that it rests on."""
        return (
            f"{self.headline}. {self._turned}; {self._others}. Quality "
            f"{decimal(self.quality_before)} before, {decimal(self.patched.quality)} "
            f"after; INVALID {percent(self.patched.invalid.value)}."
        )

    @property
    def _turned(self) -> str:
        source, verb, kind = "refused", "refused", "answered"
        if self.claim == "necessary":
            source, verb, kind = "answered", "answered", "refused"
        one = self.patched.turned
        return (
            f"With the circuit's activations of {source} prompts, {one.successes} of "
            f"{counted(one.n, f'{kind} prompt')} are {verb} "
            f"({percent_range(one.low, one.high)}%, McNemar p {p_value(self.p)})"
        )

    @property
    def _others(self) -> str:
        if not self.controls:
            return "no control to compare with"
        most = max(one.turned.successes for one in self.controls)
        controls = counted(len(self.controls), "matched control")
        few = ""
        if self.outcome is Outcome.MORE:
            few = " (too few, or too alike, to be sure)"
        return f"with {controls}, {most} at most{few}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the statement for JSON."""
        return {**super().to_dict(), "statement": self.statement}


def patch_effect(
    claim: Claim,
    samples: Sequence[Sample],
    arms: Sequence[RunArm],
    stand_ins: float | None,
) -> PatchEffect:
    """Compute what patching does from the answers of all arms.

    Args:
        samples: whole batches, with the arms in their order.
        arms: the baseline, the patched arm, controls.
        stand_ins: :func:`cna_mlx.discovery.controls.stand_ins`.
    """
    if claim == "sufficient":
        samples = [replace(one, label=_exchanged(one.label)) for one in samples]
    group = group_figures(claim, "target", samples, arms, stand_ins)
    patched = group.arm(PATCHED)
    change, control = patched.change, group.control("matched")
    assert change
    return PatchEffect(
        claim,
        group.n,
        _turned(patched),
        tuple(_turned(one) for one in group.arms if one.arm.role == "matched"),
        group.baseline.quality.value,
        change.p,
        control.p if control and control.whole else None,
        decide(group, None),
    )


def _exchanged(kind: LabelKind) -> LabelKind:
    return _EXCHANGED.get(kind, kind)


def _turned(one: ArmFigures) -> Turned:
    change = one.change
    assert change
    turned = proportion(change.lost, change.before.successes)
    return Turned(one.arm.label, turned, one.invalid, one.quality.value)
