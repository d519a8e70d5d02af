"""The arms that a model's name in a request stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.interventions import Intervention
from cna_mlx.strength import Pin, Strength, as_typed, check_strength, parse_strength

_SHOWN = (0.0, 0.5)  # multipliers that are listed though nobody asked for them


@dataclass(frozen=True)
class ServedArms:
    """The arms that a server answers in.

    ``MODEL`` is the model as it is, ``MODEL@M`` has the first circuit at M (a
    multiplier, ``mean`` or ``pin=C``), and ``MODEL@NAME@M`` the circuit of that name.

    Attributes:
        model: the model's name.
        circuits: by name, the first one first; empty if nothing can be steered.
        strengths: what each circuit was given on the command line, to be listed.
    """

    model: str
    circuits: Mapping[str, Circuit]
    strengths: Mapping[str, Sequence[Strength]] = field(default_factory=dict)

    def listed(self) -> list[str]:
        """The names to choose from; every other M works too."""
        names = [self.model]
        for number, name in enumerate(self.circuits):
            prefix = f"{self.model}@" if number == 0 else f"{self.model}@{name}@"
            own = [*self.strengths.get(name, ()), *_SHOWN]
            names += dict.fromkeys(f"{prefix}{as_typed(one)}" for one in own)
        return names

    def arm(
        self,
        name: str,
        multiplier: Strength | None = None,
        circuits: Mapping[str, Strength] | None = None,
    ) -> Arm:
        """The arm that a request asks for.

        Args:
            name: as :meth:`listed`, with any M.
            multiplier: of the first circuit, or of the one that the name has.
            circuits: the strength of each circuit by its name.

        Raises:
            UnknownModelError: the model is unknown.
            InputError: no such circuit, a strength that is not one, or two that differ.
            CircuitError: the circuit lacks the constants to pin it to.
        """
        circuit, strength = self._named(name)
        if circuits is not None:
            if multiplier is not None or strength is not None:
                raise InputError(
                    "circuits has a multiplier for each circuit: leave out multiplier, "
                    f"and ask for the model {self.model}"
                )
            for one in circuits:
                self._circuit(one)
            in_order = [one for one in self.circuits if one in circuits]
            return self._of({one: circuits[one] for one in in_order})
        if multiplier is not None:
            if strength is not None and strength != multiplier:
                raise InputError(
                    f"the model {name} and multiplier {as_typed(multiplier)} differ: "
                    "give one of the two"
                )
            strength = multiplier
        return BASELINE if strength is None else self._of({circuit: strength})

    def circuit_of(self, arm: Arm) -> Circuit | None:
        """The circuit that an arm's gauge is read along: its own, or the first."""
        for circuit, _ in arm.steering:
            assert isinstance(circuit, Circuit)
            return circuit
        return next(iter(self.circuits.values()), None)

    def name_of(self, circuit: Intervention) -> str:
        """The name of a circuit that is served."""
        return next(name for name, one in self.circuits.items() if one is circuit)

    def strengths_of(self, arm: Arm) -> dict[str, str]:
        """The strength of each circuit of an arm, as a user types it."""
        return {self.name_of(one): as_typed(strength) for one, strength in arm.steering}

    def _named(self, text: str) -> tuple[str, Strength | None]:
        """The circuit and the strength that a model's name has."""
        first = next(iter(self.circuits), "")
        if text == self.model:
            return first, None
        model, _, rest = text.partition(f"{self.model}@")
        if model or not rest:
            raise UnknownModelError(
                f"no model {text!r:.80} here: it is {self.model}, or {self.model}@M "
                "with its circuit at M"
            )
        name, _, last = rest.rpartition("@")
        self._circuit(name or first)
        return name or first, parse_strength(last)

    def _circuit(self, name: str) -> Circuit:
        if name in self.circuits:
            return self.circuits[name]
        if not self.circuits:
            raise InputError(
                f"{self.model} is served without a circuit: use --circuit FILE"
            )
        raise InputError(
            f"no circuit {name!r:.80}: there is {', '.join(self.circuits)}"
        )

    def _of(self, strengths: Mapping[str, Strength]) -> Arm:
        pairs = []
        for name, value in strengths.items():
            circuit, strength = self._circuit(name), check_strength(value)
            if isinstance(strength, Pin):
                circuit.constants(strength)
            if strength != 1:  # 1 changes nothing: it is the baseline
                pairs.append((circuit, strength))
        if not pairs:
            return BASELINE
        label = ", ".join(f"{n}@{as_typed(s)}" for n, s in strengths.items())
        return Arm(label, tuple(pairs))


class UnknownModelError(InputError):
    """A request asks for a model that is not served."""
