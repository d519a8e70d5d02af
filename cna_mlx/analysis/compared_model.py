"""One of two that are compared: a model with its circuit, or a run of one."""

from dataclasses import dataclass, replace
from typing import Any

from cna_mlx.analysis.metrics import main_arm
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.auc import Auc
from cna_mlx.evaluation.runs import CIRCUITS, RunRecord
from cna_mlx.provenance import ContrastEntry, ModelEntry, RenderingEntry


@dataclass(frozen=True)
class ComparedModel:
    """One of the two that are compared.

    Attributes:
        name: what to call it.
        model: id, fingerprint, architecture, quantization, d_ff, as a run records it.
        rendering: how its prompts are rendered, likewise.
        circuit: its own; None for a run of none.
        own: the AUC of its gauge on held-out prompts, under its own rendering; None
            where that was not measured.
        same: likewise with both models' prompts rendered the same way; not to be given
            where their own renderings are the same.
        run: what it answered; None where it has answered nothing yet.
    """

    name: str
    model: ModelEntry
    rendering: RenderingEntry
    circuit: Circuit | None = None
    own: Auc | None = None
    same: Auc | None = None
    run: RunRecord | None = None

    @classmethod
    def of_run(cls, run: RunRecord, name: str) -> "ComparedModel":
        """A run as it lies in its directory; no model is needed.

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
        """The circuit with its model's shape, also where it was made by hand."""
        if self.circuit is None or self.circuit.model.d_ff is not None:
            return self.circuit
        shape = replace(self.circuit.model, d_ff=self.model.d_ff or ())
        return replace(self.circuit, model=shape)

    def to_json(self) -> dict[str, Any]:
        """What is known of it before it answered, as plain data."""
        return {
            "name": self.name,
            "model": self.model.to_json(),
            "rendering": self.rendering.to_json(),
            "run": str(self.run.directory) if self.run else None,
            "circuit": _circuit_entry(self.circuit),
            "held_out": {
                "own": self.own and self.own.to_json(),
                "same": self.same and self.same.to_json(),
            },
        }


def have_same_shape(a: ModelEntry, b: ModelEntry) -> bool:
    """Whether two models, as runs record them, have as many neurons in each layer."""
    return bool(a.d_ff) and a.d_ff == b.d_ff


def are_rendered_alike(a: RenderingEntry, b: RenderingEntry) -> bool:
    """Whether two renderings, as runs record them, give a prompt the same ids."""
    known = a.reference_sha256
    return known is not None and known == b.reference_sha256


def held_out(
    circuit: Circuit, model: ModelEntry, rendering: RenderingEntry
) -> Auc | None:
    """What a circuit's discovery said of its gauge on prompts that it had not seen.

    Args:
        circuit: with its provenance.
        model, rendering: what it is used with, as runs record them.

    Returns:
        The AUC; None where it was not measured, or on other weights, or with prompts
        rendered in another way.
    """
    origin = circuit.provenance
    found, own = origin.held_out, origin.rendering
    if circuit.model.fingerprint != model.fingerprint or found is None or own is None:
        return None
    if not are_rendered_alike(own, rendering):
        return None
    return Auc(found.auc, found.low, found.high)


def _circuit_entry(circuit: Circuit | None) -> dict[str, Any] | None:
    if circuit is None:
        return None
    origin = circuit.provenance.to_json()
    names = ("contrast", "fraction", "rank", "layers", "split_half", "created")
    return {
        "neurons": len(circuit.neurons),
        "k": circuit.k,
        "fingerprint": circuit.model.fingerprint,
        **{name: origin.get(name) for name in names},
    }
