"""The arms of an evaluation: the circuit at its multipliers, CAA, and controls."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.controls import (
    matched_control,
    matched_controls,
    uniform_control,
)
from cna_mlx.discovery.reference import Reference
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import (
    CONTROLS,
    Role,
    RunArm,
    circuit_sha256,
    constants_sha256,
    role_of,
)
from cna_mlx.evaluation.runs import DIRECTION
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.strength import (
    MEAN,
    Pin,
    Strength,
    arm_label,
    check_multiplier,
    check_strength,
    strength_text,
)
from cna_mlx.util.files import write_atomically
from cna_mlx.util.reading import read_arrays

#: Matched controls, by default; with 19 that stay whole a verdict can say 1 in 20.
SEEDS, AUDIT_SEEDS = 5, 19
#: Uniform controls at most: no verdict rests on them.
UNIFORM_SEEDS = 3
#: The preset of a sweep, without the baseline's 1.
SWEEP_MULTIPLIERS = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5, 2.0)
SWEEP_ALPHAS = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)

Paired = tuple[RunArm, Arm]


def evaluation_arms(
    circuit: Circuit,
    widths: Sequence[int],
    made_by: Reference,
    *,
    multipliers: Sequence[Strength] = (0.0,),
    alphas: Sequence[float] = (),
    seeds: int = SEEDS,
    kinds: Sequence[Role] = CONTROLS,
    is_of_version_0_1: bool = False,
) -> tuple[list[Paired], dict[str, Circuit]]:
    """Make the baseline, the circuit at its multipliers, CAA, and the controls.

    A multiplier of 1 and an alpha of 0 make no arm. There are ``seeds`` matched and up
    to three uniform controls; they do to their neurons what the main arm does: the
    first pin, else 0 if that is among the multipliers, else the first that is not 1.

    Returns:
        The arms, as the run names them and as they are generated with; and all the
        circuits by name.

    Raises:
        InputError: a strength twice, or not finite; a layer with too few neurons for a
            control.
    """
    chosen = [m for m in map(check_strength, multipliers) if m != 1.0]
    additions = [a for a in map(check_multiplier, alphas) if a != 0.0]
    if any(len(set(values)) < len(values) for values in (chosen, additions)):
        raise InputError("the same strength was asked for twice")
    circuits = {"circuit": circuit}
    arms: list[Paired] = [(RunArm("baseline", "baseline"), BASELINE)]

    def add(
        label: str, role: Role, m: Strength, name: str, seed: int | None = None
    ) -> None:
        own = constants_sha256(circuit, m) if name == "circuit" else None
        entry = RunArm.of(label, role, m, seed=seed, circuit=name, constants=own)
        arms.append((entry, Arm.of(circuits[name], m, label)))

    for m in chosen:
        add(arm_label(m), role_of(m), m, "circuit")
    for alpha in additions:
        label = f"CAA {alpha:+.15g}"
        steering = ((made_by.direction, alpha),)
        arms.append((RunArm(label, "caa", alpha), Arm(label, steering)))
    for kind in kinds if chosen else ():
        strength = _of_controls(chosen)
        made = _controls(kind, circuit, widths, made_by, seeds, is_of_version_0_1)
        for seed, control in enumerate(made):
            name = f"{kind}-{seed}"
            is_mean = strength == MEAN
            circuits[name] = made_by.with_moments(control) if is_mean else control
            add(f"{kind} {seed}", kind, strength, name, seed)
    return arms, circuits


def _controls(
    kind: Role,
    circuit: Circuit,
    widths: Sequence[int],
    made_by: Reference,
    count: int,
    is_of_version_0_1: bool,
) -> list[Circuit]:
    if kind == "uniform":
        few = count if is_of_version_0_1 else min(count, UNIFORM_SEEDS)
        return [uniform_control(circuit, widths, seed) for seed in range(few)]
    if is_of_version_0_1:  # it drew each by itself
        seeds = range(count)
        return [matched_control(circuit, made_by.magnitudes, seed) for seed in seeds]
    return matched_controls(circuit, made_by.magnitudes, count)


def _of_controls(chosen: Sequence[Strength]) -> Strength:
    """What controls do: the same as the main arm."""
    zeros = [one for one in chosen if one == 0.0]
    return next((one for one in chosen if isinstance(one, Pin)), [*zeros, *chosen][0])


def other_arms(
    chosen: Sequence[ChosenCircuit],
    multipliers: Sequence[Strength],
    circuits: dict[str, Circuit],
    *,
    is_of_version_0_1: bool = False,
) -> list[Paired]:
    """Make arms of further circuits, named after their files.

    ``multipliers`` are for circuits without their own; adds to the run's ``circuits``.
    """
    pairs: list[Paired] = []
    strength = strength_text if is_of_version_0_1 else arm_label
    stems = [Path(one.name).stem for one in chosen]
    different = {circuit_sha256(one.circuit) for one in chosen}
    for number, (one, stem) in enumerate(zip(chosen, stems, strict=True), 2):
        name = f"circuit-{number}"
        circuits[name] = one.circuit
        if stems.count(stem) > 1 and len(different) > 1:
            stem = f"{stem} ({number})"  # files of two directories
        for m in one.multipliers(multipliers):
            label = f"{stem or name} {strength(m)}"
            own = constants_sha256(one.circuit, m)
            entry = RunArm.of(label, "other", m, circuit=name, constants=own)
            pairs.append((entry, Arm.of(one.circuit, m, label)))
    return pairs


def transferred_arm(label: str, circuit: Circuit) -> Paired:
    """Make the arm of another model's circuit, at its file's strength or 0."""
    m = 0.0 if circuit.intervention is None else circuit.intervention
    own = constants_sha256(circuit, m)
    entry = RunArm.of(label, "other", m, circuit="other", constants=own)
    return entry, Arm.of(circuit, m, label)


def arm_of(
    arm: RunArm, circuits: Mapping[str, Circuit], direction: MeanDifference | None
) -> Arm:
    """Make a run's arm again, from the files of its directory.

    Raises:
        InputError: it is CAA, and its direction is missing.
    """
    if arm.circuit is not None:
        return Arm.of(circuits[arm.circuit], arm.applied, arm.label)
    if arm.role != "caa":
        return Arm(arm.label)
    if direction is None:
        raise InputError(
            f"{arm.label}: its direction ({DIRECTION}) is missing from the run; the "
            "run's own command and --out write it again"
        )
    return Arm(arm.label, ((direction, arm.strength),))


def save_direction(direction: MeanDifference, directory: Path) -> None:
    """Write CAA's direction to a run's directory, so that its arms can be made again.

    Raises:
        InputError: it cannot be written.
    """
    path = directory / DIRECTION
    named = {f"layer_{n}": one for n, one in enumerate(direction.deltas)}
    np.savez(content := io.BytesIO(), **named)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue(), 0o600)


def load_direction(directory: Path) -> MeanDifference | None:
    """Read what :func:`save_direction` wrote; None if it wrote nothing.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    path = directory / DIRECTION
    try:
        found = read_arrays(path)
        return MeanDifference(tuple(found[f"layer_{n}"] for n in range(len(found))))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError):
        raise InputError(
            f"{path}: damaged, or cut off; copy it again, or run the run's own command "
            "with its --out, which writes it again"
        ) from None
