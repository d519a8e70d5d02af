"""Choose the circuit to evaluate, and read the prompts of its controls."""

from dataclasses import dataclass

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.kept_openings import kept_openings
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.own_contrast import discovery_prompts
from cna_mlx.discovery.reference import Reference
from cna_mlx.discovery.refusing_openings import Opening
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet
from cna_mlx.steering.gauge_scale import can_gauge
from cna_mlx.util.files import File


@dataclass(frozen=True)
class Subject:
    """The circuit that is evaluated, and the prompts of controls and CAA if known."""

    chosen: ChosenCircuit
    contrast: PromptSet | None

    @property
    def circuit(self) -> Circuit:
        """The circuit."""
        return self.chosen.circuit

    @property
    def seen(self) -> PromptSet | None:
        """The prompts of its discovery; None if unknown."""
        if self.contrast and self.circuit.is_from(self.contrast.sha256):
            return self.contrast
        return discovery_prompts(self.circuit)

    def openings(self, session: Session) -> tuple[Opening, ...]:
        """The openings of the model's refusals, to compare with the gauge."""
        if self.contrast is None or not can_gauge(self.circuit):
            return ()
        session.reporter.note(f"finding how answers to {self.contrast.name} begin")
        with session.reporter.progress("prompts") as progress:
            return kept_openings(
                *session.load(),
                self.circuit,
                self.contrast,
                session.rendering,
                progress=progress,
            )

    def reference(self, session: Session, has_caa: bool) -> Reference:
        """What controls and CAA are made from.

        Raises:
            InputError: CAA is asked for, and the circuit's prompts are unknown.
        """
        note, contrast = session.reporter.note, self.contrast
        if contrast is None:
            if has_caa:
                raise InputError(
                    "CAA needs the circuit's discovery prompts: give them with "
                    "--positive and --negative, or --contrast"
                )
            contrast = DiscoveryOptions().prompts(session.name)
            note(
                "the circuit's discovery prompts are unknown: matching controls on the "
                f"{contrast.negative_label} prompts of {contrast.name}"
            )
        return session.reference(contrast)


def choose_subject(
    session: Session, circuit: File | Circuit | None, discovery: DiscoveryOptions
) -> Subject:
    """Choose the circuit to evaluate: a circuit, ``FILE[@M]``, or None for the default.

    For a given circuit, ``discovery`` names the prompts of controls and CAA.
    """
    if circuit is None:
        contrast = discovery.prompts(session.name)
        return Subject(ChosenCircuit(session.default_circuit(discovery)), contrast)
    chosen = session.choose(circuit)
    if not discovery.names_prompts:
        return Subject(chosen, discovery_prompts(chosen.circuit))
    contrast = discovery.prompts(session.name)
    if not chosen.circuit.is_from(contrast.sha256):
        session.reporter.warn(
            f"{chosen.name or 'the circuit'} was not discovered on {contrast.name}, "
            "which controls and CAA use"
        )
    return Subject(chosen, contrast)
