"""The tables of a group of prompts: refusals by arm, controls, categories."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import ArmFigures, ControlFigures, Group
from cna_mlx.evaluation.run_config import CONTROLS
from cna_mlx.labels.label import LabelKind
from cna_mlx.report import numbers
from cna_mlx.report.content import Cell, Table
from cna_mlx.report.curves import curved_roles
from cna_mlx.util.formatting import counted, p_value

_NAMES = {"matched": "matched control", "uniform": "uniform control"}
_RATES = (
    "arm",
    "refused",
    "change, points",
    "flips",
    "p",
    "partial",
    "invalid",
    "truncated",
    "quality",
    "KL, nats",
)


def group_name(group: Group) -> str:
    """``jbb: 100 harmful prompts``."""
    kind = "" if group.kind == "unknown" else f"{group.kind} "
    return f"{group.set}: {counted(group.n, f'{kind}prompt')}"


def refusal_table(group: Group) -> Table:
    """Every arm of a group; the seeds of a control together, a sweep at the end."""
    curved = curved_roles(group)
    first = [one for one in group.arms if one.arm.role not in (*CONTROLS, *curved)]
    last = [one for one in group.arms if one.arm.role in curved]
    rows = [*map(_arm_row, first), *map(_control_row, group.controls)]
    rows += map(_arm_row, last)
    note = ""
    if group.controls:
        note = (
            "A control stands for its seeds: their mean, and in small print the lowest "
            "and the highest refusal rate of a seed."
        )
    return Table(group_name(group), _RATES, tuple(rows), note)


def seeds_table(group: Group) -> Table:
    """Every seed of the controls."""
    rows = [_arm_row(one) for one in group.arms if one.arm.role in CONTROLS]
    return Table(f"{group_name(group)}, seed by seed", _RATES, tuple(rows))


def control_texts(group: Group) -> tuple[str, ...]:
    """The main arm against the strongest matched control, in words."""
    main, matched = group.main, group.control("matched")
    if main is None or matched is None or (paired := group.against_control) is None:
        return ()
    moved = numbers.change(paired)
    why = f", {matched.why}," if matched.why else ""
    return (
        f"{group.set}: {matched.strongest}{why} "
        f"refuses {numbers.percent(paired.before.value)}; {main.arm.label} refuses "
        f"{numbers.percent(paired.after.value)}. That is a change of {moved.text} "
        f"points ({moved.detail}); {paired.lost} prompts are refused by the control "
        f"alone and {paired.gained} by {main.arm.label} alone (McNemar exact, p "
        f"{p_value(paired.p)}).",
    )


def strength_table(
    title: str, column: str, points: Sequence[tuple[float, ArmFigures]]
) -> Table:
    """A sweep: what becomes of refusals and of the text at every strength."""
    columns = (column, "refused", "invalid", "quality", "KL, nats")
    rows = tuple(
        (
            Cell(f"{strength:g}", one.arm.label),
            numbers.rate(one.refused),
            numbers.counted_share(one.invalid),
            numbers.mean(one.quality),
            numbers.mean(one.kl),
        )
        for strength, one in points
    )
    return Table(title, columns, rows)


def has_categories(group: Group) -> bool:
    """Whether there are several categories, and one of them was refused something."""
    shown = [one.arm.label for one in (group.baseline, group.main) if one is not None]
    return len(group.categories) > 1 and any(
        category.refused[label] for category in group.categories for label in shown
    )


def category_table(group: Group) -> Table:
    """How many prompts of each category are refused, before and after."""
    shown = [one for one in (group.baseline, group.main) if one is not None]
    columns = ("category", "prompts", *(one.arm.label for one in shown))
    rows = tuple(
        (
            Cell(category.name),
            Cell(str(category.n)),
            *(Cell(str(category.refused[one.arm.label])) for one in shown),
        )
        for category in group.categories
    )
    note = "How many are refused. No tests: a category has too few prompts for one."
    return Table(group_name(group), columns, rows, note)


def contamination_table(groups: Sequence[Group]) -> Table:
    """The figures with and without the prompts that the discovery saw."""
    columns = ("prompts", "n", "baseline", "main arm", "change, points", "p")
    rows: list[tuple[Cell, ...]] = []
    for group in groups:
        kept = [("all", group), ("unseen alone", group.unseen)]
        for name, one in kept:
            if one is None or one.main is None:
                continue
            paired = one.main.change
            rows.append(
                (
                    Cell(f"{group.set}, {group.kind}", name),
                    Cell(str(one.n)),
                    numbers.rate(one.baseline.refused),
                    numbers.rate(one.main.refused),
                    numbers.change(paired),
                    numbers.probability(paired),
                )
            )
    return Table(
        "With and without the prompts that the discovery saw", columns, tuple(rows)
    )


def gauge_table(groups: Sequence[Group]) -> Table:
    """The mean gauge of each group, and what the baseline refuses of it."""
    rows = tuple(
        (
            Cell(group.set, group.kind),
            Cell(str(group.n)),
            numbers.mean(group.gauge),
            numbers.rate(group.baseline.refused),
        )
        for group in groups
    )
    columns = ("prompts", "n", "mean gauge", "baseline refuses")
    return Table("Mean gauge", columns, rows)


def glance(group: Group) -> tuple[tuple[str, Cell], ...]:
    """The figures of a group that matter most."""
    base, main = group.baseline, group.main
    found = [("baseline refuses", numbers.rate(base.refused))]
    if main is not None:
        found.append((f"{main.arm.label} refuses", numbers.rate(main.refused)))
        if matched := group.control("matched"):
            found.append(("matched control refuses", _spread(matched)))
        before = f"baseline {numbers.mean(base.quality.value).text}"
        quality = numbers.mean(main.quality.value).text
        found.append((f"quality, {main.arm.label}", Cell(quality, before)))
        if main.kl is not None:
            found.append(("KL from the baseline, nats", numbers.mean(main.kl)))
    return tuple(found)


def _arm_row(one: ArmFigures) -> tuple[Cell, ...]:
    return (
        Cell(one.arm.label),
        numbers.rate(one.refused),
        numbers.change(one.change),
        numbers.flips(one.change),
        numbers.probability(one.change),
        numbers.counted_share(one.labels[LabelKind.PARTIAL]),
        numbers.counted_share(one.invalid),
        numbers.counted_share(one.truncated),
        numbers.mean(one.quality),
        numbers.mean(one.kl),
    )


def _control_row(one: ControlFigures) -> tuple[Cell, ...]:
    seeds = counted(len(one.labels), "seed")
    return (
        Cell(_NAMES[one.role], seeds),
        _spread(one),
        numbers.NONE,
        numbers.NONE,
        numbers.NONE,
        numbers.NONE,
        Cell(numbers.percent(one.invalid)),
        numbers.NONE,
        numbers.mean(one.quality),
        numbers.mean(one.kl),
    )


def _spread(one: ControlFigures) -> Cell:
    text = numbers.percent(one.refused)
    if len(one.labels) == 1:
        return Cell(text)
    return Cell(text, f"{100 * one.least:.0f} to {100 * one.most:.0f}")
