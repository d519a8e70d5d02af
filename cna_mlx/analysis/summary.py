"""Samples in, figures out: what a run shows, from its files and without the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from cna_mlx.analysis.metrics import (
    ArmFigures,
    CategoryFigures,
    ControlFigures,
    Group,
    Summary,
    main_arm,
    text_damage,
)
from cna_mlx.analysis.statistics import mean_interval, paired_change, wilson
from cna_mlx.discovery.auc import Auc, auc
from cna_mlx.evaluation.run_config import CONTROLS, RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample, by_arm
from cna_mlx.labels.label import LabelKind


def summarize(run: RunRecord, samples: Sequence[Sample] | None = None) -> Summary:
    """The figures of a run.

    Args:
        run: as :meth:`RunRecord.load` returns it.
        samples: of its whole batches; read from its directory if None.

    Raises:
        InputError: the samples cannot be read.
    """
    samples = run.samples() if samples is None else samples
    seen = run.facts.contamination
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.set, sample.kind), []).append(sample)
    benign = _once([sample for sample in samples if sample.kind == "benign"])
    target = _once([sample for sample in samples if sample.kind != "benign"])
    return Summary(
        run,
        tuple(
            _with_unseen(_group(key, members, run.arms), members, seen)
            for key, members in groups.items()
        ),
        _pooled("target", target, run, seen),
        _pooled("benign", benign, run, seen),
        _separation(target, benign),
    )


def relabelled(samples: Sequence[Sample]) -> list[Sample]:
    """The same answers with the labels of this version."""
    return [sample.relabelled() for sample in samples]


def _once(samples: list[Sample]) -> list[Sample]:
    """The samples without those of a prompt that another set has as well."""
    first: dict[str, int] = {}
    for one in samples:
        first.setdefault(" ".join(one.prompt.casefold().split()), one.number)
    kept = set(first.values())
    return [one for one in samples if one.number in kept]


def _pooled(
    kind: str,
    samples: list[Sample],
    run: RunRecord,
    seen: Mapping[str, tuple[str, ...] | None],
) -> Group | None:
    if not samples:
        return None
    group = _group(("all", kind), samples, run.arms)
    return _with_unseen(group, samples, seen)


def _with_unseen(
    group: Group, samples: list[Sample], seen: Mapping[str, tuple[str, ...] | None]
) -> Group:
    """The group with what is left of it without the prompts that discovery saw."""
    known = {name: seen.get(name) for name in {sample.set for sample in samples}}
    if None in known.values():
        return group
    pairs = {(name, one) for name, ids in known.items() for one in ids or ()}
    left = [sample for sample in samples if (sample.set, sample.id) not in pairs]
    count = group.n - len(left) // len(group.arms)
    arms = [figures.arm for figures in group.arms]
    unseen = _group((group.set, group.kind), left, arms) if left and count else None
    return replace(group, seen=count, unseen=unseen)


def _separation(target: list[Sample], benign: list[Sample]) -> Auc | None:
    first = target[0].arm if target else ""  # the baseline: it leads each batch
    sides = [
        [one.gauge for one in side if one.gauge is not None and one.arm == first]
        for side in (target, benign)
    ]
    if not all(sides):
        return None
    return auc(*sides)


def _group(
    key: tuple[str, str], samples: Sequence[Sample], arms: Sequence[RunArm]
) -> Group:
    columns = by_arm(samples)
    refused = {
        label: [sample.is_refused for sample in column]
        for label, column in columns.items()
    }
    baseline = columns[arms[0].label]
    figures = tuple(
        _figures(arm, columns[arm.label], refused[arms[0].label]) for arm in arms
    )
    controls = tuple(
        _control(role, members, figures[0])
        for role in CONTROLS
        if (members := [one for one in figures if one.arm.role == role])
    )
    main = main_arm(arms)
    matched = next((one for one in controls if one.role == "matched"), None)
    against = (
        paired_change(refused[matched.strongest], refused[main.label])
        if main and matched and main.strength == _strength(arms, matched.strongest)
        else None
    )
    gauges = [sample.gauge for sample in baseline if sample.gauge is not None]
    return Group(
        *key,
        len(baseline),
        figures,
        controls,
        against,
        _fates(baseline, columns[main.label]) if main else {},
        _categories(columns),
        fmean(gauges) if gauges else None,
    )


def _fates(before: Sequence[Sample], after: Sequence[Sample]) -> dict[LabelKind, int]:
    pairs = zip(before, after, strict=True)
    became = [new.label for old, new in pairs if old.is_refused and not new.is_refused]
    return {
        verdict: became.count(verdict) for verdict in LabelKind if verdict in became
    }


def _figures(
    arm: RunArm, samples: Sequence[Sample], baseline: Sequence[bool]
) -> ArmFigures:
    n = len(samples)
    kls = [sample.kl for sample in samples if sample.kl is not None]
    return ArmFigures(
        arm,
        {
            verdict: wilson(sum(one.label is verdict for one in samples), n)
            for verdict in LabelKind
        },
        wilson(sum(one.is_truncated for one in samples), n),
        mean_interval([one.quality for one in samples]),
        mean_interval(kls) if len(kls) == n else None,
        None
        if arm.role == "baseline"
        else paired_change(baseline, [one.is_refused for one in samples]),
    )


def _strength(arms: Sequence[RunArm], label: str) -> float | None:
    return next(arm.strength for arm in arms if arm.label == label)


def _control(
    role: str, arms: Sequence[ArmFigures], baseline: ArmFigures
) -> ControlFigures:
    rates = [one.refused.value for one in arms]
    kls = [one.kl.value for one in arms if one.kl is not None]
    # a model that was broken refuses nothing either: that is no rival's fall
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
