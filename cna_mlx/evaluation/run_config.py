"""The content of ``run.json``: a run's configuration, and facts about it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from cna_mlx.circuit import Circuit
from cna_mlx.provenance import ContrastEntry, ModelEntry, Provenance, RenderingEntry
from cna_mlx.strength import Pin, Strength
from cna_mlx.util.records import Record

Role = Literal[
    "baseline", "ablated", "scaled", "pinned", "caa", "matched", "uniform", "other"
]

#: The kinds of control.
CONTROLS: tuple[Role, ...] = ("matched", "uniform")


@dataclass(frozen=True)
class RunArm(Record):
    """One arm of a run.

    Attributes:
        label: unique in the run; the samples name it.
        role: ``ablated`` is the circuit at 0, ``scaled`` at another multiplier,
            ``pinned`` to a constant, ``other`` a circuit of another model.
        strength: the multiplier, or CAA's alpha; 1 for the baseline, 0 for a pin.
        seed: of a control.
        circuit: its name in the run's directory; None for the baseline and CAA.
        intervention: the pin; None for scaling and CAA.
        constants: a hash of the circuit's own constants that it is pinned to.
    """

    label: str
    role: Role
    strength: float = 1.0
    seed: int | None = None
    circuit: str | None = None
    intervention: Pin | None = None
    constants: str | None = None

    @classmethod
    def of(cls, label: str, role: Role, strength: Strength, **rest: Any) -> "RunArm":
        """The arm of a circuit that is scaled or pinned."""
        if isinstance(strength, Pin):
            return cls(label, role, 0.0, intervention=strength, **rest)
        return cls(label, role, strength, **rest)

    @property
    def applied(self) -> Strength:
        """The multiplier, alpha or pin."""
        return self.intervention or self.strength

    def as_main(self) -> "RunArm":
        """The same arm with the role that a run's own circuit has."""
        return replace(self, role=role_of(self.applied))

    def to_dict(self) -> dict[str, Any]:
        """Return the arm for JSON; one that is not pinned is written as always."""
        data = super().to_dict()
        if self.stored is None:
            for name in ("intervention", "constants"):
                if data[name] is None:
                    del data[name]
        return data


def role_of(strength: Strength) -> Role:
    """The role of the run's own circuit at a strength."""
    if isinstance(strength, Pin):
        return "pinned"
    return "scaled" if strength else "ablated"


def main_arm(arms: Sequence[RunArm]) -> RunArm | None:
    """The arm that a run is about: pinned, else ablated, else the first steered one."""
    for role in ("pinned", "ablated", "scaled", "other", "caa"):
        for arm in arms:
            if arm.role == role:
                return arm
    return None


@dataclass(frozen=True)
class SetEntry(Record):
    """A prompt set of a run: its size, where it comes from, hashes, a note."""

    WRITES_NULL: ClassVar[bool] = False

    prompts: int
    name: str | None = None
    source: str | None = None
    revision: str | None = None
    sha256: str | None = None
    file_sha256: str | None = None
    is_published: bool | None = None
    licence: str | None = None
    citation: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class CircuitEntry(Record):
    """A circuit of a run: its model's fingerprint, its size and origin, a hash.

    ``k`` neurons were ranked; ``sha256`` is :func:`circuit_sha256`.
    """

    file: str | None = None
    fingerprint: str | None = None
    neurons: int | None = None
    k: int | None = None
    contrast: ContrastEntry | None = None
    fraction: float | None = None
    rank: str | None = None
    layers: tuple[int, ...] | None = None
    sha256: str | None = None
    control: str | None = None
    seed: int | None = None

    @classmethod
    def of(cls, circuit: Circuit) -> "CircuitEntry":
        """Describe a circuit."""
        names = ("contrast", "fraction", "rank", "layers", "control", "seed")
        data = {**circuit.entry(*names), "sha256": circuit_sha256(circuit)}
        return replace(cls.from_dict(data), stored=None)


@dataclass(frozen=True)
class RunConfig(Record):
    """Everything that decides a run's samples.

    Attributes:
        command: ``eval``, ``audit`` or ``compare``.
        circuits: of the arms, by name.
        direction: a hash of the prompts of CAA's difference of means; None without CAA.
        arms: in the order of a batch's rows; the baseline is the first.
        kl_tokens: tokens of the baseline's answer that the KL covers; 0 for no KL.
        rows: of a batch, each an arm of a prompt: so many are answered together.
            In runs that are not grouped, the arms.
        gauge: whether the prompts were gauged.
        order: of the prompts: ``grouped`` by length; None in runs of version 0.1,
            which answered one set after the other.
        extend_to: tokens in all of answers that continue past ``max_tokens``; 0 where
            none do, None in runs of version 0.1.
    """

    command: str | None = None
    model: ModelEntry = field(default_factory=ModelEntry)
    rendering: RenderingEntry = field(default_factory=RenderingEntry)
    circuits: Mapping[str, CircuitEntry] = field(default_factory=dict)
    direction: str | None = None
    arms: tuple[RunArm, ...] = ()
    sets: tuple[SetEntry, ...] = ()
    limit: int | None = None
    max_tokens: int | None = None
    kl_tokens: int | None = None
    sampling: str | None = None
    rows: int | None = None
    gauge: bool | None = None
    order: str | None = None
    extend_to: int | None = None

    @property
    def planned(self) -> int:
        """How many prompts the complete run has."""
        return sum(one.prompts for one in self.sets)

    @property
    def main_circuit(self) -> CircuitEntry | None:
        """The circuit that the run evaluates: the first."""
        return next(iter(self.circuits.values()), None)

    @property
    def identity(self) -> str:
        """A hash, the same for equal configurations."""
        text = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def differences(self, other: "RunConfig") -> list[str]:
        """Which entries differ from another configuration's, by name."""
        old, new = self.to_dict(), other.to_dict()
        return [key for key in {**old, **new} if old.get(key) != new.get(key)]


@dataclass(frozen=True)
class EnvironmentEntry(Record):
    """The machine and the versions of packages."""

    system: str | None = None
    device: str | None = None
    backend: str | None = None
    blas: str | None = None
    python: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


#: Versions of the rules that label answers and judge runs. Raise one when answers or
#: runs of before would be labelled or judged differently: figures of two versions
#: cannot be compared as they are. Runs without an entry are of version 1.
RULES = {"labels": 3, "verdict": 2}


@dataclass(frozen=True)
class RunFacts(Record):
    """What does not decide a run's samples.

    Attributes:
        created, updated: when, in ISO 8601.
        contamination: by set, the ids of prompts that the discovery used; None if the
            discovery's prompts are unknown.
        versions: of packages; in early runs without an environment.
        shape: layers, widths and heads of the model.
        discovery: a part of the main circuit's provenance.
        openings: the text and the token ids of each phrase that begins the model's
            refusals; :func:`cna_mlx.discovery.refusing_openings.refusing_openings`.
        stand_ins: how many different neurons the matched controls have for each neuron
            of the circuit; :func:`cna_mlx.discovery.controls.stand_ins`.
    """

    WRITES_NULL: ClassVar[bool] = False

    created: str | None = None
    contamination: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    environment: EnvironmentEntry = field(default_factory=EnvironmentEntry)
    versions: Mapping[str, str] = field(default_factory=dict)
    shape: Mapping[str, Any] | None = None
    discovery: Provenance = field(default_factory=Provenance)
    rules: Mapping[str, int] = field(default_factory=dict)
    openings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stand_ins: float | None = None
    resumed: bool | None = None
    updated: str | None = None


def constants_sha256(circuit: Circuit, strength: Strength) -> str | None:
    """Hash what a circuit's neurons are pinned to; None if the pin itself says it."""
    if not isinstance(strength, Pin) or strength.value is not None:
        return None
    rows = zip(circuit.neurons, circuit.constants(strength), strict=True)
    pinned = sorted([layer, index, to] for (layer, index, _), to in rows)
    return hashlib.sha256(json.dumps(pinned).encode()).hexdigest()


def circuit_sha256(circuit: Circuit) -> str:
    """Hash which neurons a circuit has.

    Without their deltas: a second discovery may change the last digits, and scaling
    does not use them.
    """
    rows = sorted([layer, index] for layer, index, _ in circuit.neurons)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
