"""Choose circuits to steer with: values, or ``FILE[@M]`` as typed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.steering.arms import Arm
from cna_mlx.strength import Pin, Strength, check_strength, parse_strength
from cna_mlx.util.files import File, is_there


@dataclass(frozen=True)
class ChosenCircuit:
    """A circuit to steer with; a multiplier of None uses those of the options.

    Attributes:
        multiplier: as typed after the file; also a pin.
        name: the file it was read from, for labels.
    """

    circuit: Circuit
    multiplier: Strength | None = None
    name: str = ""

    def multipliers(self, given: Sequence[Strength]) -> list[Strength]:
        """Its own multiplier, else all that are given, else the file's, else 0."""
        if self.multiplier is not None:
            return [self.multiplier]
        usual = self.circuit.intervention
        return list(given) or [0.0 if usual is None else usual]


def split_circuit(text: File) -> tuple[str, Strength | None]:
    """Split ``FILE``, ``FILE@M``, ``FILE@mean`` or ``FILE@pin=C``.

    Raises:
        InputError: what follows the @ is neither a finite number nor a pin.
    """
    text = os.fspath(text)
    path, at, number = text.rpartition("@")
    if not at or is_there(text):
        return text, None
    try:
        return path, parse_strength(number)
    except InputError as error:
        raise InputError(f"--circuit {text}: {error}") from None


def check_arms(
    circuits: Sequence[File | Circuit], multipliers: Sequence[Strength] = ()
) -> None:
    """Raise an error for a circuit file or multiplier that cannot be used."""
    for value in multipliers:
        check_strength(value)
    for one in circuits:
        if not isinstance(one, Circuit):
            path, own = split_circuit(one)
            circuit = Circuit.load(path)
        else:
            path, own, circuit = "", None, one
        for strength in ChosenCircuit(circuit, own).multipliers(multipliers):
            if isinstance(strength, Pin):
                check_pin(circuit, strength, path)


def check_pin(circuit: Circuit, pin: Pin, path: str) -> None:
    """Raise an error, with the file's name, for a circuit that cannot be pinned so."""
    try:
        circuit.constants(pin)
    except CircuitError as error:
        raise CircuitError(f"{path}: {error}" if path else str(error)) from None


def circuit_entry(circuit: Circuit) -> dict[str, Any]:
    """Describe a circuit in the JSON of the commands."""
    entry = circuit.entry("contrast", "fraction", "rank", "layers")
    return {"file": circuit.file, **entry}


def circuit_entries(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """The circuit of each steered arm, by the arm's label."""
    return {
        arm.label: circuit_entry(circuit)
        for arm in arms
        for circuit, _ in arm.steering
        if isinstance(circuit, Circuit)
    }
