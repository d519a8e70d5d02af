"""Samples in, figures out: summarize a run from its files, without the model."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from statistics import fmean

from cna_mlx.analysis.damage import NATS, WORSE, is_comparable
from cna_mlx.analysis.metrics import (
    ArmFigures,
    CategoryFigures,
    ControlFigures,
    Correlation,
    Group,
    Openings,
    Summary,
)
from cna_mlx.analysis.statistics import (
    Interval,
    PairedChange,
    holm,
    kind_shares,
    mean_interval,
    paired_change,
    proportion,
    spearman,
)
from cna_mlx.discovery.auc import auc
from cna_mlx.evaluation.run_config import CONTROLS, RunArm, main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample, by_arm
from cna_mlx.labels.label import LabelKind
from cna_mlx.provenance import Auc
from cna_mlx.util.sanitize import first_words

#: By set, the ids of the prompts that discovery saw; None where they are unknown.
_Seen = Mapping[str, tuple[str, ...] | None]
_CATEGORY, _LEVEL = attrgetter("category"), attrgetter("level")
_WORDS = 3  # openings that are named
_WORD = re.compile(r"[^\W\d_]+")
# Fewer equal answers to different prompts may be chance.
_SAME = 3
_ENOUGH = 8  # prompts for a correlation


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
    benign = unrepeated([sample for sample in samples if sample.kind == "benign"])
    target = unrepeated([sample for sample in samples if sample.kind != "benign"])
    found = [_with_unseen(*key, members, run) for key, members in groups.items()]
    return Summary(
        run,
        _adjusted(found),
        _with_unseen("all", "target", target, run) if target else None,
        _with_unseen("all", "benign", benign, run) if benign else None,
        _separation(target, benign),
        (_opening([*target, *benign]), _opening(target)),
    )


def unrepeated(samples: Sequence[Sample]) -> list[Sample]:
    """The samples without prompts that are repeated."""
    first: dict[str, int] = {}
    for one in samples:
        first.setdefault(" ".join(one.prompt.casefold().split()), one.number)
    kept = set(first.values())
    return [one for one in samples if one.number in kept]


def _opening(samples: list[Sample]) -> Correlation | None:
    """The correlation of the gauge with the odds of a refusing opening."""
    known = [
        (one.gauge, one.opening)
        for one in samples
        if one.gauge is not None and one.opening is not None
    ]
    found = spearman(*zip(*known, strict=True)) if len(known) >= _ENOUGH else None
    return None if found is None else (found, len(known))


def _with_unseen(name: str, kind: str, samples: list[Sample], run: RunRecord) -> Group:
    """A group, and the same group without the prompts that discovery saw."""
    group = _with_extended(name, kind, samples, run)
    seen: _Seen = run.facts.contamination
    known = {one: seen.get(one) for one in {sample.set for sample in samples}}
    pairs = {(one, sample) for one, ids in known.items() for sample in ids or ()}
    left = [sample for sample in samples if (sample.set, sample.id) not in pairs]
    count = group.n - len(left) // len(group.arms)
    unseen = _with_extended(name, kind, left, run) if left and count else None
    return replace(group, seen=None if None in known.values() else count, unseen=unseen)


def _with_extended(
    name: str, kind: str, samples: Sequence[Sample], run: RunRecord
) -> Group:
    """A group, and the same group with the labels of its continued answers."""
    about = run.arms, run.facts.stand_ins
    group = group_figures(name, kind, samples, *about)
    continued = [(one, one.extended) for one in samples if one.extended]
    if not continued:
        return group
    moved: dict[str, Counter[str]] = {}
    for one, other in continued:
        loops = other.has_loop and not one.has_loop
        if other.label is not one.label or loops:
            counts = moved.setdefault(one.arm, Counter())
            then = f"{other.label} with a loop" if loops else other.label
            counts[f"{one.label} to {then}"] += 1
    later = [
        replace(one, label=one.extended.label) if one.extended else one
        for one in samples
    ]
    return replace(
        group,
        extended=group_figures(name, kind, later, *about),
        continued=dict(Counter(one.arm for one, _ in continued)),
        moved={arm: dict(counts) for arm, counts in moved.items()},
    )


def _separation(target: list[Sample], benign: list[Sample]) -> Auc | None:
    first = target[0].arm if target else ""  # the baseline: it leads each batch
    sides = [
        [one.gauge for one in side if one.gauge is not None and one.arm == first]
        for side in (target, benign)
    ]
    return auc(*sides) if all(sides) else None


def group_figures(
    name: str,
    kind: str,
    samples: Sequence[Sample],
    arms: Sequence[RunArm],
    stand_ins: float | None,
) -> Group:
    """The figures of a group of prompts.

    Args:
        arms: the first is the baseline.
        stand_ins: as in :class:`ControlFigures`.
    """
    columns = by_arm(samples)
    baseline = columns[arms[0].label]
    figures = tuple(_figures(arm, columns[arm.label], baseline) for arm in arms)
    main = main_arm(arms)
    judged = next((one for one in figures if one.arm is main), None)
    controls = tuple(
        _control(role, members, figures[0], judged, stand_ins)
        for role in CONTROLS
        if (members := [one for one in figures if one.arm.role == role])
    )
    gauges = [sample.gauge for sample in baseline if sample.gauge is not None]
    return Group(
        name,
        kind,
        len(baseline),
        figures,
        controls,
        _against_control(main, arms, controls, columns),
        _fates(baseline, columns[main.label]) if main else {},
        _categories(columns, main.label if main else None),
        fmean(gauges) if gauges else None,
        openings=_openings(baseline, columns[main.label]) if main else None,
        repeated=_repeated(baseline, columns[main.label]) if main else None,
    )


def _adjusted(groups: Sequence[Group]) -> tuple[Group, ...]:
    """The same groups, the p-values of their arms adjusted for their number."""
    tested = [
        (place, row, one.change.p)
        for place, group in enumerate(groups)
        for row, one in enumerate(group.arms)
        if one.change is not None and one.arm.role not in CONTROLS
    ]
    adjusted = holm([p for *_, p in tested])
    found = {at[:2]: p for at, p in zip(tested, adjusted, strict=True)}
    return tuple(
        replace(
            group,
            arms=tuple(
                replace(one, p_holm=found.get((place, row)))
                for row, one in enumerate(group.arms)
            ),
        )
        for place, group in enumerate(groups)
    )


def _against_control(
    main: RunArm | None,
    arms: Sequence[RunArm],
    controls: Sequence[ControlFigures],
    columns: Mapping[str, list[Sample]],
) -> PairedChange | None:
    """The change from the strongest matched control to the main arm."""
    matched = next((one.strongest for one in controls if one.role == "matched"), None)
    applied = next((arm.applied for arm in arms if arm.label == matched), None)
    is_like = main is not None and main.role in ("ablated", "scaled", "pinned")
    if main is None or matched is None or not is_like or main.applied != applied:
        return None
    return paired_change(_kinds(columns[matched]), _kinds(columns[main.label]))


def _kinds(samples: Sequence[Sample]) -> list[LabelKind]:
    return [sample.label for sample in samples]


def _fates(before: Sequence[Sample], after: Sequence[Sample]) -> dict[LabelKind, int]:
    pairs = zip(before, after, strict=True)
    became = [new.label for old, new in pairs if old.is_refused and not new.is_refused]
    return {kind: became.count(kind) for kind in LabelKind if kind in became}


def _repeated(
    before: Sequence[Sample], after: Sequence[Sample]
) -> tuple[str, int] | None:
    """The first words of what most lost refusals became, and how many did."""
    pairs = zip(before, after, strict=True)
    answers = (LabelKind.ANSWERED, LabelKind.PARTIAL)
    lost = [new for old, new in pairs if old.is_refused and new.label in answers]
    counts = Counter(one.text.strip() for one in lost)
    text, count = max(counts.items(), key=lambda one: one[1], default=("", 0))
    return (first_words(text, 8), count) if count >= _SAME else None


def _figures(
    arm: RunArm, samples: Sequence[Sample], baseline: Sequence[Sample]
) -> ArmFigures:
    n = len(samples)
    kls = [sample.kl for sample in samples if sample.kl is not None]
    pairs = zip(baseline, samples, strict=True)
    change = None
    if arm.role != "baseline":
        change = paired_change(_kinds(baseline), _kinds(samples))
    return ArmFigures(
        arm,
        kind_shares(_kinds(samples)),
        proportion(sum(one.is_truncated for one in samples), n),
        mean_interval([one.quality for one in samples]),
        Interval.bare(fmean(kls), n) if len(kls) == n else None,
        change,
        sum(one.has_loop for one in samples),
        sum(old.quality - new.quality >= WORSE for old, new in pairs),
        sum(kl > NATS for kl in kls),
    )


def _control(
    role: str,
    arms: Sequence[ArmFigures],
    baseline: ArmFigures,
    main: ArmFigures | None,
    stand_ins: float | None,
) -> ControlFigures:
    rates = [one.refused.value for one in arms]
    kls = [one.kl.value for one in arms if one.kl is not None]
    # a broken model refuses nothing either: its fall is not one to compare with
    whole = [one for one in arms if is_comparable(baseline, one)]
    return ControlFigures(
        role,
        tuple(one.arm.label for one in arms),
        fmean(rates),
        fmean(one.invalid.value for one in arms),
        fmean(one.quality.value for one in arms),
        fmean(kls) if len(kls) == len(arms) else None,
        min(rates),
        max(rates),
        max(whole or arms, key=_net).arm.label,
        tuple(one.arm.label for one in arms if one not in whole),
        sum(_net(one) >= _net(main) for one in whole) if main else 0,
        stand_ins if role == "matched" else None,
    )


def _net(one: ArmFigures) -> int:
    return one.change.net if one.change else 0


def _openings(before: Sequence[Sample], after: Sequence[Sample]) -> Openings | None:
    """How many lost refusals of the main arm come back with a refusal's first word."""
    pairs = zip(before, after, strict=True)
    tried = [(old, new.opened) for old, new in pairs if new.opened]
    refusals = [old.text for old, _ in tried if old.is_refused]
    words = Counter(found[0] for text in refusals if (found := _WORD.search(text)))
    returned = sum(one.label is LabelKind.REFUSED for _, one in tried)
    common = tuple(word for word, _ in words.most_common(_WORDS))
    return Openings(len(tried), returned, common) if tried else None


def _categories(
    columns: dict[str, list[Sample]], main: str | None
) -> tuple[CategoryFigures, ...]:
    """The categories, then the levels of harm, in the order of the prompts."""
    first = next(iter(columns.values()))
    found = []
    for is_level, of in ((False, _CATEGORY), (True, _LEVEL)):
        names = dict.fromkeys(name for one in first if (name := of(one)))
        for name in names:
            members = {
                label: [one for one in column if of(one) == name]
                for label, column in columns.items()
            }
            own = {label: _kinds(column) for label, column in members.items()}
            found.append(
                CategoryFigures(
                    name,
                    len(own[first[0].arm]),
                    {label: one.count(LabelKind.REFUSED) for label, one in own.items()},
                    paired_change(own[first[0].arm], own[main]).lost if main else 0,
                    is_level,
                )
            )
    return tuple(found)
