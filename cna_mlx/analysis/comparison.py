"""Compare two models, or two runs: what their circuits share and do in either."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cna_mlx.analysis.circuit_overlap import CircuitOverlap, compare_circuits
from cna_mlx.analysis.compared_model import (
    ComparedModel,
    about_other,
    are_rendered_alike,
    have_same_shape,
)
from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.statistics import (
    PairedChange,
    Proportion,
    paired_change,
    proportion,
)
from cna_mlx.analysis.summary import summarize, unrepeated
from cna_mlx.analysis.weight_changes import WeightChanges, weight_changes
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import CONTROLS, RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample, by_arm
from cna_mlx.util.records import JsonFields, plain

KINDS = ("target", "benign")
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Between(JsonFields):
    """The same arm of both models, prompt by prompt."""

    kind: str  # target or benign
    role: str
    strength: float
    change: PairedChange  # in refusals from A to B; lost: only A refuses


@dataclass(frozen=True)
class ModelComparison:
    """Two models compared on the prompts that both answered."""

    a: ComparedModel
    b: ComparedModel
    prompts: int = 0
    overlap: CircuitOverlap | None = None
    between: tuple[Between, ...] = ()
    weights: WeightChanges | None = None

    @property
    def sides(self) -> tuple[ComparedModel, ComparedModel]:
        """Both, A first."""
        return self.a, self.b

    @property
    def is_complete(self) -> bool:
        """Whether both have answered everything."""
        return self.a.is_complete and self.b.is_complete

    @property
    def is_same_shape(self) -> bool:
        """Whether each model has the neurons that the other's circuit names."""
        return have_same_shape(self.a.model, self.b.model)

    @property
    def is_rendered_alike(self) -> bool:
        """Whether both models' own renderings give the same ids."""
        return are_rendered_alike(self.a.rendering, self.b.rendering)

    def of(self, kind: str, role: str) -> Between | None:
        """The first pair of arms of this kind and role; None if there is none."""
        found = (one for one in self.between if (one.kind, one.role) == (kind, role))
        return next(found, None)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "same_shape": self.is_same_shape,
            "rendered_alike": self.is_rendered_alike,
            "prompts": {
                "both": self.prompts,
                "a": _answered(self.a.run),
                "b": _answered(self.b.run),
            },
            "overlap": self.overlap and self.overlap.to_dict(),
            "weights": plain(self.weights),
            "transfer": {
                name: {"own": plain(one.with_own), "other": plain(one.with_other)}
                for name, one in zip("ab", self.sides, strict=True)
            },
            "between": plain(self.between),
        }


def _answered(run: RunRecord | None) -> int:
    return len(run.samples()) // len(run.arms) if run else 0


def compare_sides(a: ComparedModel, b: ComparedModel) -> ModelComparison:
    """Compare two models or runs, on the prompts that both answered.

    Prompts are the same if id, text and kind are. If one has no run, the other's
    figures are of all its own prompts.

    Raises:
        InputError: the runs have no prompt in common, or cannot be read.
    """
    if are_rendered_alike(a.rendering, b.rendering):
        a, b = replace(a, same=a.own), replace(b, same=b.own)
    circuits = a.placed_circuit, b.placed_circuit
    overlap = None
    if circuits[0] and circuits[1]:
        overlap = compare_circuits(circuits[0], circuits[1])
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
        prompts = len({one.number for one in unrepeated(first)})
        between = _between(a.run, b.run, first, second)
    weights = None
    if a.sketches and b.sketches:
        weights = weight_changes(a.sketches, b.sketches)
    return ModelComparison(
        _with_figures(a, first),
        _with_figures(b, second),
        prompts,
        overlap,
        between,
        weights,
    )


def _with_figures(side: ComparedModel, samples: list[Sample]) -> ComparedModel:
    if side.run is None or not samples:
        return side
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(_pool(sample), []).append(sample)
    return replace(
        side,
        summary=summarize(side.run, samples),
        transferred=_transferred(side.run, samples),
        differing={kind: _differing(members) for kind, members in kinds.items()},
    )


def _transferred(run: RunRecord, samples: Sequence[Sample]) -> Summary | None:
    about = about_other(run)
    if about is None:
        return None
    labels = {arm.label for arm in about.arms}
    return summarize(about, [one for one in samples if one.arm in labels])


def _differing(samples: Sequence[Sample]) -> dict[str, Proportion]:
    columns = by_arm(unrepeated(samples))
    first = [one.token_ids for one in next(iter(columns.values()))]
    return {
        label: proportion(
            sum(old != new.token_ids for old, new in zip(first, column, strict=True)),
            len(column),
        )
        for label, column in columns.items()
    }


def _between(
    a: RunRecord, b: RunRecord, first: Sequence[Sample], second: Sequence[Sample]
) -> tuple[Between, ...]:
    refused = [
        {(one.arm, _key(one)): one.label for one in side} for side in (first, second)
    ]
    pools = {_key(one): _pool(one) for one in unrepeated(first)}
    found = []
    for one, other in _same_arms(a.arms, b.arms):
        for kind in KINDS:
            if not (own := [key for key, pool in pools.items() if pool == kind]):
                continue
            pairs = zip(refused, (one.label, other.label), strict=True)
            sides = [[known[label, key] for key in own] for known, label in pairs]
            change = paired_change(*sides)
            found.append(Between(kind, one.role, one.strength, change))
    return tuple(found)


def _same_arms(a: Sequence[RunArm], b: Sequence[RunArm]) -> list[tuple[RunArm, RunArm]]:
    """Arms of one role and intervention; controls of two circuits are not the same."""
    left = [arm for arm in b if arm.role not in CONTROLS]
    pairs = []
    for arm in a:
        for other in left:
            if (arm.role, arm.applied) == (other.role, other.applied):
                pairs.append((arm, other))
                left.remove(other)
                break
    return pairs


def _key(sample: Sample) -> _Key:
    return sample.set, sample.id, sample.prompt, sample.kind


def _pool(sample: Sample) -> str:
    return "benign" if sample.kind == "benign" else "target"
