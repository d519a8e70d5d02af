"""Samples in, figures out: summarize a run from its files, without the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from cna_mlx.analysis.metrics import (
    ArmFigures,
    CategoryFigures,
    ControlFigures,
    Group,
    Summary,
    text_damage,
)
from cna_mlx.analysis.statistics import (
    PairedChange,
    mean_interval,
    paired_change,
    wilson,
)
from cna_mlx.discovery.auc import auc
from cna_mlx.evaluation.run_config import CONTROLS, RunArm, main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample, by_arm
from cna_mlx.labels.label import LabelKind
from cna_mlx.provenance import Auc

#: By set, the ids of the prompts that discovery saw; None where they are unknown.
_Seen = Mapping[str, tuple[str, ...] | None]


def summarize(run: RunRecord, samples: Sequence[Sample] | None = None) -> Summary:
    """Compute the figures of a run.

    Args:
        samples: of its whole batches; read from its directory if None.

    Raises:
        InputError: the samples cannot be read.
    """
    samples = run.samples() if samples is None else samples
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.set, sample.kind), []).append(sample)
    benign = _once([sample for sample in samples if sample.kind == "benign"])
    target = _once([sample for sample in samples if sample.kind != "benign"])
    return Summary(
        run,
        tuple(_with_unseen(*key, members, run) for key, members in groups.items()),
        _with_unseen("all", "target", target, run) if target else None,
        _with_unseen("all", "benign", benign, run) if benign else None,
        _separation(target, benign),
    )


def _once(samples: list[Sample]) -> list[Sample]:
    """The samples without prompts that are repeated in another set."""
    first: dict[str, int] = {}
    for one in samples:
        first.setdefault(" ".join(one.prompt.casefold().split()), one.number)
    kept = set(first.values())
    return [one for one in samples if one.number in kept]


def _with_unseen(name: str, kind: str, samples: list[Sample], run: RunRecord) -> Group:
    """A group, and the same group without the prompts that discovery saw."""
    group = _group(name, kind, samples, run.arms)
    seen: _Seen = run.facts.contamination
    known = {one: seen.get(one) for one in {sample.set for sample in samples}}
    if None in known.values():
        return group
    pairs = {(one, sample) for one, ids in known.items() for sample in ids or ()}
    left = [sample for sample in samples if (sample.set, sample.id) not in pairs]
    count = group.n - len(left) // len(group.arms)
    unseen = _group(name, kind, left, run.arms) if left and count else None
    return replace(group, seen=count, unseen=unseen)


def _separation(target: list[Sample], benign: list[Sample]) -> Auc | None:
    first = target[0].arm if target else ""  # the baseline: it leads each batch
    sides = [
        [one.gauge for one in side if one.gauge is not None and one.arm == first]
        for side in (target, benign)
    ]
    return auc(*sides) if all(sides) else None


def _group(
    name: str, kind: str, samples: Sequence[Sample], arms: Sequence[RunArm]
) -> Group:
    columns = by_arm(samples)
    baseline = columns[arms[0].label]
    figures = tuple(_figures(arm, columns[arm.label], baseline) for arm in arms)
    controls = tuple(
        _control(role, members, figures[0])
        for role in CONTROLS
        if (members := [one for one in figures if one.arm.role == role])
    )
    main = main_arm(arms)
    gauges = [sample.gauge for sample in baseline if sample.gauge is not None]
    return Group(
        name,
        kind,
        len(baseline),
        figures,
        controls,
        _against_control(main, arms, controls, columns),
        _fates(baseline, columns[main.label]) if main else {},
        _categories(columns),
        fmean(gauges) if gauges else None,
    )


def _against_control(
    main: RunArm | None,
    arms: Sequence[RunArm],
    controls: Sequence[ControlFigures],
    columns: Mapping[str, list[Sample]],
) -> PairedChange | None:
    """The change from the strongest matched control to the main arm."""
    matched = next((one.strongest for one in controls if one.role == "matched"), None)
    strength = next((arm.strength for arm in arms if arm.label == matched), None)
    if main is None or matched is None or main.strength != strength:
        return None
    return paired_change(_refusals(columns[matched]), _refusals(columns[main.label]))


def _refusals(samples: Sequence[Sample]) -> list[bool]:
    return [sample.is_refused for sample in samples]


def _fates(before: Sequence[Sample], after: Sequence[Sample]) -> dict[LabelKind, int]:
    pairs = zip(before, after, strict=True)
    became = [new.label for old, new in pairs if old.is_refused and not new.is_refused]
    return {kind: became.count(kind) for kind in LabelKind if kind in became}


def _figures(
    arm: RunArm, samples: Sequence[Sample], baseline: Sequence[Sample]
) -> ArmFigures:
    n = len(samples)
    kls = [sample.kl for sample in samples if sample.kl is not None]
    change = None
    if arm.role != "baseline":
        change = paired_change(_refusals(baseline), _refusals(samples))
    return ArmFigures(
        arm,
        {kind: wilson(sum(s.label is kind for s in samples), n) for kind in LabelKind},
        wilson(sum(one.is_truncated for one in samples), n),
        mean_interval([one.quality for one in samples]),
        mean_interval(kls) if len(kls) == n else None,
        change,
    )


def _control(
    role: str, arms: Sequence[ArmFigures], baseline: ArmFigures
) -> ControlFigures:
    rates = [one.refused.value for one in arms]
    kls = [one.kl.value for one in arms if one.kl is not None]
    # a broken model refuses nothing either: its fall is not one to compare with
    whole = [one for one in arms if text_damage(baseline, one) is None]
    return ControlFigures(
        role,
        tuple(one.arm.label for one in arms),
        fmean(rates),
        fmean(one.invalid.value for one in arms),
        fmean(one.quality.value for one in arms),
        fmean(kls) if len(kls) == len(arms) else None,
        min(rates),
        max(rates),
        min(whole or arms, key=lambda one: one.refused.value).arm.label,
        tuple(one.arm.label for one in arms if one not in whole),
    )


def _categories(columns: dict[str, list[Sample]]) -> tuple[CategoryFigures, ...]:
    first = next(iter(columns.values()))
    names = dict.fromkeys(sample.category for sample in first if sample.category)
    return tuple(
        CategoryFigures(
            name,
            sum(sample.category == name for sample in first),
            {
                label: sum(one.is_refused for one in column if one.category == name)
                for label, column in columns.items()
            },
        )
        for name in names
    )
