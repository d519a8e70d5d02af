"""The arms of an evaluation: the circuit at its strengths, and what they must beat."""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.controls import matched_control, uniform_control
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import CONTROLS, RunArm, circuit_sha256
from cna_mlx.evaluation.runs import DIRECTION
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.interventions import MeanDifference, check_multiplier

SEEDS = 5
#: The preset of a sweep; 1 is the baseline, which is there anyway.
SWEEP_MULTIPLIERS = (0.0, 0.25, 0.5, 0.75, 1.25, 1.5, 2.0)
SWEEP_ALPHAS = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)

Paired = tuple[RunArm, Arm]

# What reading a damaged archive ends in; zipfile takes bits that flipped for features.
_DAMAGED = (
    BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,  # and NotImplementedError
)


@dataclass(frozen=True)
class Reference:
    """What the arms are made by beside the circuit: two averages over a contrast.

    Attributes:
        direction: the difference of means of every neuron, for CAA.
        magnitudes: mean |a| over the negative prompts at the last token, for matched
            controls: [d_ff] for each layer.
    """

    direction: MeanDifference
    magnitudes: list[np.ndarray]


def reference(
    model: Any, tokenizer: Any, contrast: PromptSet, rendering: Rendering
) -> Reference:
    """Read both averages off one walk over a contrast's prompts.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        contrast: the circuit's own.
        rendering: how prompts become token ids.

    Raises:
        InputError: a prompt that is too long.
        NonFiniteError: NaN or infinite activations.
    """
    texts = [*contrast.positive, *contrast.negative]
    ids = [render_prompt(tokenizer, text, rendering) for text in texts]
    count = len(contrast.positive)
    deltas, sizes = [], []
    for _, activations in last_activations(model, ids):
        positive, negative = activations[:count], activations[count:]
        deltas.append(np.array(positive.mean(axis=0) - negative.mean(axis=0)))
        sizes.append(np.array(mx.abs(negative).mean(axis=0)))
    return Reference(MeanDifference(tuple(deltas)), sizes)


def evaluation_arms(
    circuit: Circuit,
    widths: Sequence[int],
    made_by: Reference | None,
    *,
    multipliers: Sequence[float] = (0.0,),
    alphas: Sequence[float] = (),
    seeds: int = SEEDS,
    kinds: Sequence[str] = CONTROLS,
    name: str = "circuit",
) -> tuple[list[Paired], dict[str, Circuit]]:
    """The baseline, the circuit at its multipliers, CAA, and the controls.

    The controls scale their neurons as the arm does that the run is about: by 0 if
    that is among the multipliers, else by the first that is not 1.

    Args:
        circuit: what is evaluated.
        widths: the model's d_ff, layer by layer.
        made_by: needed for matched controls and CAA; None leaves the controls out that
            need it.
        multipliers: of the circuit; 1 is the baseline and makes no arm.
        alphas: strengths of CAA; 0 likewise.
        seeds: how many controls of each kind.
        kinds: of control, ``matched`` and ``uniform``.
        name: of the circuit in the run.

    Returns:
        The arms, each as the run names it and as it is generated with; and all the
        circuits by name.

    Raises:
        InputError: a strength twice, or not finite; a layer with too few neurons for a
            control; CAA without ``made_by``.
    """
    chosen = [m for m in map(check_multiplier, multipliers) if m != 1.0]
    additions = [a for a in map(check_multiplier, alphas) if a != 0.0]
    for values in (chosen, additions):
        if len(set(values)) < len(values):
            raise InputError("the same strength was asked for twice")
    if additions and made_by is None:
        raise InputError("CAA needs the prompts that the circuit was made from")
    circuits = {name: circuit}
    arms: list[Paired] = [(RunArm("baseline", "baseline"), BASELINE)]
    for m in chosen:
        label = "ablated" if m == 0.0 else f"m={m:.15g}"
        role = "ablated" if m == 0.0 else "scaled"
        arms.append((RunArm(label, role, m, None, name), Arm.of(circuit, m, label)))  # type: ignore[arg-type]
    for alpha in additions:
        assert made_by is not None
        label = f"CAA {alpha:+.15g}"
        steering = ((made_by.direction, alpha),)
        arms.append((RunArm(label, "caa", alpha), Arm(label, steering)))
    if chosen:
        strength = 0.0 if 0.0 in chosen else chosen[0]
        made = _controls(circuit, widths, made_by, seeds, kinds)
        for key, (role, seed, control) in made.items():
            circuits[key] = control
            label = f"{role} {seed}"
            entry = RunArm(label, role, strength, seed, key)  # type: ignore[arg-type]
            arms.append((entry, Arm.of(control, strength, label)))
    return arms, circuits


def other_arms(
    chosen: Sequence[ChosenCircuit],
    multipliers: Sequence[float],
    circuits: dict[str, Circuit],
) -> list[Paired]:
    """Arms of further circuits, named after their files.

    Args:
        chosen: the circuits.
        multipliers: of those that have no multiplier of their own.
        circuits: of the run by name; these are added.
    """
    pairs: list[Paired] = []
    stems = [Path(one.name).stem for one in chosen]
    different = {circuit_sha256(one.circuit) for one in chosen}
    for number, (one, stem) in enumerate(zip(chosen, stems, strict=True), 2):
        name = f"circuit-{number}"
        circuits[name] = one.circuit
        stem = stem or name
        if stems.count(stem) > 1 and len(different) > 1:
            stem = f"{stem} ({number})"  # files of two directories
        for m in one.multipliers(multipliers):
            label = f"{stem} m={m:.15g}"
            entry = RunArm(label, "other", m, None, name)
            pairs.append((entry, Arm.of(one.circuit, m, label)))
    return pairs


def arm_of(
    arm: RunArm, circuits: Mapping[str, Circuit], direction: MeanDifference | None
) -> Arm:
    """An arm as it is generated with, from what a run's directory holds.

    Raises:
        InputError: it is CAA, and its direction is not known.
    """
    if arm.circuit is not None:
        return Arm.of(circuits[arm.circuit], arm.strength, arm.label)
    if arm.role == "caa":
        if direction is None:
            raise InputError(
                f"{arm.label}: its direction ({DIRECTION}) is missing from the run; "
                "the run's own command and --out write it anew"
            )
        return Arm(arm.label, ((direction, arm.strength),))
    return Arm(arm.label)


def _controls(
    circuit: Circuit,
    widths: Sequence[int],
    made_by: Reference | None,
    seeds: int,
    kinds: Sequence[str],
) -> dict[str, tuple[str, int, Circuit]]:
    found: dict[str, tuple[str, int, Circuit]] = {}
    for seed in range(seeds if "matched" in kinds else 0):
        if made_by is not None:
            control = matched_control(circuit, made_by.magnitudes, seed)
            found[f"matched-{seed}"] = "matched", seed, control
    for seed in range(seeds if "uniform" in kinds else 0):
        control = uniform_control(circuit, widths, seed)
        found[f"uniform-{seed}"] = "uniform", seed, control
    return found


def save_direction(direction: MeanDifference, directory: Path) -> None:
    """Keep CAA's direction beside a run, so that its arms can be made again.

    Raises:
        InputError: it cannot be written.
    """
    path = directory / DIRECTION
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            named = {f"layer_{n}": one for n, one in enumerate(direction.deltas)}
            np.savez(file, **named)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def load_direction(directory: Path) -> MeanDifference | None:
    """What :func:`save_direction` kept; None where it kept nothing.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    path = directory / DIRECTION
    try:
        # a file of our own: np.load leaves the one that it opens open where it fails
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return MeanDifference(
                tuple(found[f"layer_{n}"] for n in range(len(found.files)))
            )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except _DAMAGED:
        raise InputError(
            f"{path}: damaged, or cut off; copy it again, or give the run's own "
            "command and --out again, which write it anew"
        ) from None
