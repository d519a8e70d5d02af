"""Choose circuits to steer with: values, or ``FILE[@M]`` as typed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.util.files import is_there


@dataclass(frozen=True)
class ChosenCircuit:
    """A circuit to steer with; a multiplier of None uses those of the options.

    ``name`` is the file it was read from, for labels.
    """

    circuit: Circuit
    multiplier: float | None = None
    name: str = ""

    def multipliers(self, given: Sequence[float]) -> list[float]:
        """Its own multiplier, else all that are given, else 0."""
        own = self.multiplier
        return [own] if own is not None else list(given) or [0.0]


def split_circuit(text: str) -> tuple[str, float | None]:
    """Split ``FILE`` or ``FILE@M`` into a path and a multiplier.

    Raises:
        InputError: the multiplier is not a finite number.
    """
    path, at, number = text.rpartition("@")
    if not at or is_there(text):
        return text, None
    try:
        multiplier = float(number)
    except ValueError:
        multiplier = math.nan
    if not math.isfinite(multiplier):
        raise InputError(f"--circuit {text}: {number!r} is not a finite multiplier")
    return path, multiplier


def check_arms(
    circuits: Sequence[str | Circuit], multipliers: Sequence[float] = ()
) -> None:
    """Raise an error for a circuit file or multiplier that cannot be used."""
    for value in multipliers:
        check_multiplier(value)
    for one in circuits:
        if isinstance(one, str):
            Circuit.load(split_circuit(one)[0])


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
