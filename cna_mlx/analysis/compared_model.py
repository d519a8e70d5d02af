"""One of two models that are compared: its circuit, its gauge, its answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.statistics import PairedChange, Proportion
from cna_mlx.circuit import Circuit
from cna_mlx.evaluation.run_config import RunArm, main_arm
from cna_mlx.evaluation.runs import CIRCUITS, RunRecord
from cna_mlx.provenance import Auc, ContrastEntry, ModelEntry, RenderingEntry
from cna_mlx.util.records import JsonFields, plain

_ORIGIN = ("contrast", "fraction", "rank", "layers", "split_half", "created")


@dataclass(frozen=True)
class Effect(JsonFields):
    """What an arm does to a model's answers to the prompts of one kind."""

    arm: RunArm
    change: PairedChange  # in refusals, from the baseline
    differing: Proportion  # answers whose tokens differ from the baseline's

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
    differing: Mapping[str, Mapping[str, Proportion]] = field(default_factory=dict)

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
        shape = replace(self.circuit.model, d_ff=self.model.d_ff or ())
        return replace(self.circuit, model=shape)

    def group(self, kind: str) -> Group | None:
        """All prompts of a kind together, without those that the discovery saw; None if
        there are none.
        """
        if self.summary is None:
            return None
        found = self.summary.target if kind == "target" else self.summary.benign
        if found is None or found.seen == found.n:
            return None
        return found.unseen or found

    def effect(self, *roles: str, kind: str = "target") -> Effect | None:
        """What the first arm of these roles does; None if there is none."""
        group = self.group(kind)
        for one in group.arms if group else ():
            if one.arm.role in roles and one.change:
                share = self.differing[kind][one.arm.label]
                return Effect(one.arm, one.change, share)
        return None

    @property
    def with_own(self) -> Effect | None:
        """What its own circuit does to the prompts that are not benign."""
        own = self.effect("pinned") or self.effect("ablated")
        return own or self.effect("scaled")

    @property
    def with_other(self) -> Effect | None:
        """What the other model's circuit does to them."""
        return self.effect("other")

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
        }


def have_same_shape(a: ModelEntry, b: ModelEntry) -> bool:
    """Whether two models have the same number of neurons in each layer."""
    return bool(a.d_ff) and a.d_ff == b.d_ff


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
