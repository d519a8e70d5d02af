"""One of two models that are compared: its circuit, its gauge, its answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.decision import Outcome, decide
from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.statistics import (
    Interval,
    PairedChange,
    Proportion,
    proportion,
)
from cna_mlx.analysis.weight_changes import Sketches
from cna_mlx.circuit import Circuit
from cna_mlx.evaluation.run_config import CONTROLS, RunArm, main_arm
from cna_mlx.evaluation.runs import CIRCUITS, RunRecord
from cna_mlx.provenance import Auc, ContrastEntry, ModelEntry, RenderingEntry
from cna_mlx.util.records import JsonFields, plain

_ORIGIN = ("contrast", "fraction", "rank", "layers", "split_half", "created")


@dataclass(frozen=True)
class Effect(JsonFields):
    """What an arm does to a model's answers to the prompts that are not benign.

    Attributes:
        change: in refusals, from the baseline.
        lost: the refusals that became answers, of those of the baseline.
        differing: answers whose tokens differ from the baseline's.
        quality: the mean before and after.
        invalid: the unusable answers.
        kl: on benign prompts, in nats; None if it was not computed.
        outcome: by the rules of the verdict. The controls are matched to the model's
            own circuit; the other's is compared with them if it is about as large.
    """

    arm: RunArm
    change: PairedChange
    lost: Proportion
    differing: Proportion
    quality: tuple[float, float]
    invalid: Proportion
    kl: Interval | None
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return the arm and the figures for JSON."""
        arm: dict[str, Any] = {"role": self.arm.role, "strength": self.arm.strength}
        if self.arm.intervention:
            arm["intervention"] = self.arm.intervention.to_dict()
        return {**super().to_dict(), "arm": self.arm.label, **arm}


@dataclass(frozen=True)
class ComparedModel:
    """A model with its circuit, or a run of one.

    Attributes:
        own: the AUC of its gauge on held-out prompts under its own rendering.
        same: the same with both models' prompts rendered alike; leave it out if their
            own renderings are alike.
        summary: the figures on the prompts that both answered.
        transferred: the same figures as if the run were about the other circuit that it
            tried; None if it tried none.
        sketches: of the weights, to compare them with the other model's.
        kept: how many neurons of the other model's circuit tell the two sides apart
            here as well, by at least half of the difference; None if not measured.
        differing: by kind (``target``: all that are not benign; ``benign``) and arm,
            the share of answers that differ from the baseline's.
    """

    name: str
    model: ModelEntry
    rendering: RenderingEntry
    circuit: Circuit | None = None
    own: Auc | None = None
    same: Auc | None = None
    run: RunRecord | None = None
    summary: Summary | None = None
    transferred: Summary | None = None
    differing: Mapping[str, Mapping[str, Proportion]] = field(default_factory=dict)
    sketches: Sketches | None = field(default=None, compare=False, repr=False)
    kept: Proportion | None = None

    @classmethod
    def of_run(cls, run: RunRecord, name: str) -> "ComparedModel":
        """A run as its directory has it; no model is needed.

        Raises:
            CircuitError: its circuit is missing or damaged.
        """
        main = main_arm(run.arms)
        circuit = None
        if main and main.circuit:
            circuit = Circuit.load(run.directory / CIRCUITS / f"{main.circuit}.json")
        model, rendering = run.config.model, run.config.rendering
        own = held_out(circuit, model, rendering) if circuit else None
        return cls(name, model, rendering, circuit, own, None, run)

    @property
    def is_complete(self) -> bool:
        """Whether it has answered everything."""
        return self.run is not None and self.run.status == "complete"

    @property
    def contrast(self) -> ContrastEntry | None:
        """The contrast of the circuit, if it is known."""
        return self.circuit.provenance.contrast if self.circuit else None

    @property
    def placed_circuit(self) -> Circuit | None:
        """The circuit with its model's shape, also if it was made by hand."""
        if self.circuit is None or self.circuit.model.d_ff is not None:
            return self.circuit
        own = self.model
        shape = replace(self.circuit.model, d_ff=own.d_ff or (), experts=own.experts)
        return replace(self.circuit, model=shape)

    def group(self, kind: str) -> Group | None:
        """All prompts of a kind together, without those that the discovery saw; None if
        there are none.
        """
        return _group(self.summary, kind)

    @property
    def with_own(self) -> Effect | None:
        """What its own circuit does to the prompts that are not benign."""
        return self._effect(self.summary)

    @property
    def with_other(self) -> Effect | None:
        """What the other model's circuit does to them."""
        return self._effect(self.transferred)

    def _effect(self, summary: Summary | None) -> Effect | None:
        """What the main arm of these figures does; None if it is not a circuit."""
        group, benign = _group(summary, "target"), _group(summary, "benign")
        main = group and group.main
        if not (self.run and group and main and main.change):
            return None
        if main.arm.role not in ("pinned", "ablated", "scaled"):
            return None
        return Effect(
            next(arm for arm in self.run.arms if arm.label == main.arm.label),
            main.change,
            proportion(main.change.lost, main.change.before.successes),
            self.differing["target"][main.arm.label],
            (group.baseline.quality.value, main.quality.value),
            main.invalid,
            benign.main.kl if benign and benign.main else None,
            decide(group, benign),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of it for JSON."""
        return {
            "name": self.name,
            "model": self.model.to_dict(),
            "rendering": self.rendering.to_dict(),
            "run": str(self.run.directory) if self.run else None,
            "circuit": self.circuit and self.circuit.entry(*_ORIGIN),
            "held_out": {
                "own": self.own and self.own.to_dict(),
                "same": self.same and self.same.to_dict(),
            },
            "summary": self.summary and self.summary.to_dict(),
            "differing": plain(self.differing),
            "kept_of_other": plain(self.kept),
        }


def about_other(run: RunRecord) -> RunRecord | None:
    """The run as if it were about the other circuit that it tried; None without one.

    The controls are left out if that circuit has over a tenth more neurons than they.
    """
    other = next((arm for arm in run.arms if arm.role == "other"), None)
    if other is None:
        return None
    own, entry = run.config.main_circuit, run.config.circuits.get(str(other.circuit))
    sizes = [(one and one.neurons) or math.nan for one in (entry, own)]
    controls = CONTROLS if sizes[0] <= 1.1 * sizes[1] else ()
    arms = [one for one in run.arms if one.role in ("baseline", *controls)]
    arms.insert(1, other.as_main())
    return replace(run, config=replace(run.config, arms=tuple(arms)))


def _group(summary: Summary | None, kind: str) -> Group | None:
    found = summary and (summary.target if kind == "target" else summary.benign)
    if not found or found.seen == found.n:
        return None
    return found.unseen or found


def have_same_shape(a: ModelEntry, b: ModelEntry) -> bool:
    """Whether two models have the same neurons in each layer and expert."""
    return bool(a.d_ff) and a.shape == b.shape


def are_rendered_alike(a: RenderingEntry, b: RenderingEntry) -> bool:
    """Whether two renderings give a prompt the same ids."""
    known = a.reference_sha256
    return known is not None and known == b.reference_sha256


def held_out(
    circuit: Circuit, model: ModelEntry, rendering: RenderingEntry
) -> Auc | None:
    """Return the held-out AUC of a circuit's gauge, as its discovery measured it.

    It is None if not measured, or for other weights or another rendering.
    """
    found, own = circuit.provenance.held_out, circuit.provenance.rendering
    if circuit.model.fingerprint != model.fingerprint or found is None or own is None:
        return None
    if not are_rendered_alike(own, rendering):
        return None
    return found
