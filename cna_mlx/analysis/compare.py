"""Two models, or two runs: what their circuits share, and what each does in either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.chance_overlap import chance_of_sharing
from cna_mlx.analysis.circuit_overlap import CircuitOverlap, compare_circuits
from cna_mlx.analysis.compared_model import (
    ComparedModel,
    are_rendered_alike,
    have_same_shape,
)
from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.statistics import (
    PairedChange,
    Proportion,
    paired_change,
    wilson,
)
from cna_mlx.analysis.summary import summarize
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import CONTROLS, RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample, by_arm

KINDS = ("target", "benign")
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Effect:
    """What an arm does to a model's answers to the prompts of one kind.

    Attributes:
        arm: which.
        change: in refusals, from the baseline.
        differing: the share of answers that are not the baseline's, token by token.
    """

    arm: RunArm
    change: PairedChange
    differing: Proportion

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "arm": self.arm.label,
            "role": self.arm.role,
            "strength": self.arm.strength,
            "change": self.change.to_json(),
            "differing": self.differing.to_json(),
        }


@dataclass(frozen=True)
class Figures:
    """One side on the prompts that both have answered.

    Attributes:
        side: which.
        summary: its rates; None where it has answered nothing.
        differing: by kind (``target``: all that are not benign; ``benign``) and arm,
            the share of answers that are not the baseline's.
    """

    side: ComparedModel
    summary: Summary | None = None
    differing: Mapping[str, Mapping[str, Proportion]] = field(default_factory=dict)

    def group(self, kind: str) -> Group | None:
        """All prompts of a kind together; None if there are none."""
        if self.summary is None:
            return None
        return self.summary.target if kind == "target" else self.summary.benign

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
        """What its own circuit does to the prompts that should be declined."""
        return self.effect("ablated") or self.effect("scaled")

    @property
    def with_other(self) -> Effect | None:
        """What the other model's circuit does to them."""
        return self.effect("other")

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            **self.side.to_json(),
            "summary": self.summary and self.summary.to_json(),
            "differing": {
                kind: {label: share.to_json() for label, share in arms.items()}
                for kind, arms in self.differing.items()
            },
        }


@dataclass(frozen=True)
class Between:
    """The same arm of both sides, prompt by prompt.

    Attributes:
        kind: ``target`` or ``benign``.
        role, strength: of the arm on either side.
        change: in refusals from A to B: ``lost`` counts what A alone refuses.
    """

    kind: str
    role: str
    strength: float
    change: PairedChange

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "kind": self.kind,
            "role": self.role,
            "strength": self.strength,
            "change": self.change.to_json(),
        }


@dataclass(frozen=True)
class Comparison:
    """Two sides beside each other.

    Attributes:
        a, b: their figures, where both have a run on the prompts of both.
        prompts: how many both have answered.
        overlap: of their circuits; None where one has none.
        p: how likely random circuits with as many neurons in each layer share as many
            neurons as these, or more; None where they cannot share any.
        between: same arms of both, prompt by prompt.
    """

    a: Figures
    b: Figures
    prompts: int = 0
    overlap: CircuitOverlap | None = None
    p: float | None = None
    between: tuple[Between, ...] = ()

    @property
    def sides(self) -> tuple[Figures, Figures]:
        """Both, A first."""
        return self.a, self.b

    @property
    def is_complete(self) -> bool:
        """Whether both have answered everything."""
        return all(one.side.is_complete for one in self.sides)

    @property
    def is_same_shape(self) -> bool:
        """Whether a circuit of the one names neurons that the other has too."""
        return have_same_shape(self.a.side.model, self.b.side.model)

    @property
    def is_rendered_alike(self) -> bool:
        """Whether both models' own renderings give the same ids."""
        return are_rendered_alike(self.a.side.rendering, self.b.side.rendering)

    def of(self, kind: str, role: str) -> Between | None:
        """The first pair of arms of this kind and role; None if there is none."""
        found = (one for one in self.between if (one.kind, one.role) == (kind, role))
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        transfer = {
            name: {
                "own": figures.with_own and figures.with_own.to_json(),
                "other": figures.with_other and figures.with_other.to_json(),
            }
            for name, figures in zip("ab", self.sides, strict=True)
        }
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "same_shape": self.is_same_shape,
            "rendered_alike": self.is_rendered_alike,
            "prompts": {"both": self.prompts, **self._answered()},
            "overlap": self._overlap(),
            "transfer": transfer,
            "between": [one.to_json() for one in self.between],
        }

    def _overlap(self) -> dict[str, Any] | None:
        if self.overlap is None:
            return None
        shared, profiles = self.overlap.shared, self.overlap.profiles
        return {
            "sizes": list(self.overlap.sizes),
            "shared": shared and shared.count,
            "jaccard": shared and shared.jaccard,
            "chance": shared and shared.chance,
            "chance_by_layer": shared and shared.chance_by_layer,
            "p": self.p,
            "rank_correlation": shared and shared.order,
            "same_sign": shared and shared.same_sign.to_json(),
            "layers": {
                "a": list(profiles[0]),
                "b": list(profiles[1]),
                "overlap": self.overlap.profile_overlap,
                "by_depth": self.overlap.by_depth,
            },
        }

    def _answered(self) -> dict[str, int]:
        runs = (figures.side.run for figures in self.sides)
        counts = (len(run.samples()) // len(run.arms) if run else 0 for run in runs)
        return dict(zip("ab", counts, strict=True))


def compare_sides(a: ComparedModel, b: ComparedModel) -> Comparison:
    """Put two models or runs beside each other, on the prompts that both answered.

    Prompts are the same where id, text and kind are. A side without a run leaves the
    other one's figures on all of its own prompts.

    Args:
        a, b: B is compared with A: a change is what B has more.

    Raises:
        InputError: the runs have no prompt in common, or cannot be read.
    """
    if are_rendered_alike(a.rendering, b.rendering):
        a, b = replace(a, same=a.own), replace(b, same=b.own)
    overlap, p = None, None
    circuits = a.placed_circuit, b.placed_circuit
    if circuits[0] and circuits[1]:
        overlap = compare_circuits(circuits[0], circuits[1])
        if overlap.shared is not None:
            p = chance_of_sharing(circuits[0], circuits[1], a.model.d_ff or ())
    first, second = (side.run.samples() if side.run else [] for side in (a, b))
    prompts, between = 0, tuple[Between, ...]()
    if a.run and b.run and first and second:
        common = set(map(_key, first)) & set(map(_key, second))
        if not common:
            raise InputError(
                f"{a.name} and {b.name} have no prompt in common: compare runs on the "
                "same prompts"
            )
        first, second = (
            [one for one in side if _key(one) in common] for side in (first, second)
        )
        prompts, between = len(common), _between(a.run, b.run, first, second)
    return Comparison(
        _figures(a, first), _figures(b, second), prompts, overlap, p, between
    )


def _figures(side: ComparedModel, samples: list[Sample]) -> Figures:
    if side.run is None or not samples:
        return Figures(side)
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(_pool(sample), []).append(sample)
    shares = {kind: _differing(members) for kind, members in kinds.items()}
    return Figures(side, summarize(side.run, samples), shares)


def _differing(samples: Sequence[Sample]) -> dict[str, Proportion]:
    columns = by_arm(samples)
    first = next(iter(columns.values()))
    return {
        label: wilson(
            sum(
                old.token_ids != new.token_ids
                for old, new in zip(first, column, strict=True)
            ),
            len(column),
        )
        for label, column in columns.items()
    }


def _between(
    a: RunRecord, b: RunRecord, first: Sequence[Sample], second: Sequence[Sample]
) -> tuple[Between, ...]:
    refused = [
        {(one.arm, _key(one)): one.is_refused for one in side}
        for side in (first, second)
    ]
    keys = list(dict.fromkeys(map(_key, first)))
    found = []
    for one, other in _same_arms(a.arms, b.arms):
        for kind in KINDS:
            own = [key for key in keys if (key[3] == "benign") == (kind == "benign")]
            if not own:
                continue
            pairs = zip(refused, (one.label, other.label), strict=True)
            sides = [[known[label, key] for key in own] for known, label in pairs]
            change = paired_change(*sides)
            found.append(Between(kind, one.role, one.strength, change))
    return tuple(found)


def _same_arms(a: Sequence[RunArm], b: Sequence[RunArm]) -> list[tuple[RunArm, RunArm]]:
    """Arms of one role and strength; controls of two circuits are not the same."""
    left = [arm for arm in b if arm.role not in CONTROLS]
    pairs = []
    for arm in a:
        for other in left:
            if (arm.role, arm.strength) == (other.role, other.strength):
                pairs.append((arm, other))
                left.remove(other)
                break
    return pairs


def _key(sample: Sample) -> _Key:
    return sample.set, sample.id, sample.prompt, sample.kind


def _pool(sample: Sample) -> str:
    return "benign" if sample.kind == "benign" else "target"
