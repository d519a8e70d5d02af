"""The tables of a group of prompts: refusals by arm, controls, categories."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import (
    ArmFigures,
    CategoryFigures,
    ControlFigures,
    Group,
)
from cna_mlx.evaluation.run_config import CONTROLS
from cna_mlx.labels.label import LabelKind
from cna_mlx.report import numbers
from cna_mlx.report.content import Cell, ReportTable
from cna_mlx.report.curves import Curve, curved_roles
from cna_mlx.report.numbers import NONE, change_cell, count_cell, mean_cell, rate_cell
from cna_mlx.util import formatting
from cna_mlx.util.formatting import counted, p_value, percent, percent_range

#: A row of figures by the names of its columns.
Row = dict[str, Cell]


def group_name(group: Group) -> str:
    """``jbb: 100 harmful prompts``."""
    kind = "" if group.kind == "unknown" else f"{group.kind} "
    return f"{group.set}: {counted(group.n, f'{kind}prompt')}"


def refusal_table(group: Group) -> ReportTable:
    """Every arm of a group; the seeds of a control together, a sweep at the end."""
    last = [one for one in group.arms if one.arm.role in curved_roles(group)]
    note = ""
    if group.controls:
        note = (
            "A control stands for its seeds: their mean, and in small print the lowest "
            "and the highest refusal rate of a seed."
        )
    rows = [*group_rows(group), *map(arm_row, last)]
    return _table(group_name(group), rows, note)


def group_rows(group: Group) -> list[Row]:
    """The arms of a group without a sweep, then its controls."""
    elsewhere = *CONTROLS, *curved_roles(group)
    arms = [one for one in group.arms if one.arm.role not in elsewhere]
    return [*map(arm_row, arms), *(control_row(one, group.n) for one in group.controls)]


def arm_row(one: ArmFigures) -> Row:
    """All figures of an arm."""
    return {
        "arm": Cell(one.arm.label),
        "refused": rate_cell(one.refused),
        "change, points": change_cell(one.change),
        "flips": numbers.flips_cell(one.change),
        "p": numbers.p_cell(one.p_holm),
        "partial": count_cell(one.labels[LabelKind.PARTIAL]),
        "invalid": count_cell(one.invalid),
        "unjudged": count_cell(one.unjudged),
        "truncated": count_cell(one.truncated),
        "quality": mean_cell(one.quality),
        "KL, nats": mean_cell(one.kl),
    }


def control_row(one: ControlFigures, n: int) -> Row:
    """The figures of a control: means over its seeds, of ``n`` prompts each."""
    return {
        "arm": Cell(one.role, f"control, {counted(len(one.arms), 'seed')}"),
        "refused": _spread(one),
        **dict.fromkeys(("change, points", "flips", "p", "partial"), NONE),
        "invalid": numbers.mean_count_cell(one.invalid * n),
        **dict.fromkeys(("unjudged", "truncated"), NONE),
        "quality": mean_cell(one.quality),
        "KL, nats": mean_cell(one.kl),
    }


def seeds_table(group: Group) -> ReportTable:
    """Every seed of the controls."""
    rows = [arm_row(one) for one in group.arms if one.arm.role in CONTROLS]
    for row in rows:
        del row["p"]  # the place among the seeds tells, not a test of each
    return _table(f"{group_name(group)}, seed by seed", rows)


def control_texts(group: Group) -> list[str]:
    """The main arm against the strongest matched control, in words."""
    main, matched = group.main, group.control("matched")
    if main is None or matched is None or (paired := group.against_control) is None:
        return []
    moved = change_cell(paired)
    why = f", {matched.why}," if matched.why else ""
    return [
        f"{group.set}: {matched.strongest}{why} "
        f"refuses {percent(paired.before.value)}; {main.arm.label} refuses "
        f"{percent(paired.after.value)}. That is a change of {moved.text} "
        f"points ({moved.detail}); {paired.lost} prompts are refused by the control "
        f"and answered by {main.arm.label}, {paired.gained} the other way round (exact "
        f"McNemar p {p_value(paired.p)}).",
        f"{matched.whole} of {counted(len(matched.arms), 'matched control')} left the "
        f"text whole; {matched.rivals} of them lose at least as many refusals as "
        f"{main.arm.label}: {matched.rivals + 1} in {matched.worth + 1} for a circuit "
        f"that is like its controls{_shared(matched)}.",
    ]


def _shared(control: ControlFigures) -> str:
    if control.worth == control.whole:
        return ""
    return f", which share neurons and count as {control.worth}"


def strength_table(title: str, column: str, curve: Curve) -> ReportTable:
    """A sweep: refusals and damage at every strength."""
    rows = [
        {
            column: Cell(f"{strength:g}", one.arm.label),
            "refused": rate_cell(one.refused),
            "invalid": count_cell(one.invalid),
            "quality": mean_cell(one.quality),
            "KL, nats": mean_cell(one.kl),
        }
        for strength, one in curve
    ]
    return _table(title, rows)


def category_kinds(group: Group) -> list[tuple[str, list[CategoryFigures]]]:
    """Categories, and levels of harm, where there are several and some refusals."""
    kinds = [
        (name, [one for one in group.categories if one.is_level is is_level])
        for name, is_level in (("category", False), ("level", True))
    ]
    has_refusals = any(one.refused.successes for one in group.shown)
    return [(name, found) for name, found in kinds if has_refusals and len(found) > 1]


def category_table(
    group: Group, name: str, categories: Sequence[CategoryFigures]
) -> ReportTable:
    """How many prompts of each category are refused, and how many refusals are lost."""
    labels = [one.arm.label for one in group.shown]
    rows = [
        {
            name: Cell(one.name),
            "prompts": Cell(str(one.n)),
            **{f"{label} refuses": Cell(str(one.refused[label])) for label in labels},
            "lost": Cell(str(one.lost)),
        }
        for one in categories
    ]
    note = f"No tests: a {name} has too few prompts for one."
    return _table(group_name(group), rows, note)


def contamination_table(groups: Sequence[Group]) -> ReportTable:
    """The figures with and without the prompts that the discovery saw."""
    rows = [
        {
            "prompts": Cell(f"{group.set}, {group.kind}", name),
            "n": Cell(str(one.n)),
            "baseline": rate_cell(one.baseline.refused),
            "main arm": rate_cell(main.refused),
            "change, points": change_cell(main.change),
        }
        for group in groups
        for name, one in (("all", group), ("unseen only", group.unseen))
        if one is not None and (main := one.main)
    ]
    return _table("With and without the prompts that the discovery saw", rows)


def gauge_table(groups: Sequence[Group]) -> ReportTable:
    """The mean gauge of each group, and its refusals at the baseline."""
    rows = [
        {
            "prompts": Cell(group.set, group.kind),
            "n": Cell(str(group.n)),
            "mean gauge": mean_cell(group.gauge),
            "baseline refuses": rate_cell(group.baseline.refused),
        }
        for group in groups
    ]
    return _table("Mean gauge", rows)


def glance(group: Group) -> list[tuple[str, Cell]]:
    """The most important figures of a group."""
    base, main = group.baseline, group.main
    found = [("baseline refuses", rate_cell(base.refused))]
    if main is not None:
        found.append((f"{main.arm.label} refuses", rate_cell(main.refused)))
        if matched := group.control("matched"):
            found.append(("matched control refuses", _spread(matched)))
        before = f"baseline {mean_cell(base.quality.value)}"
        quality = Cell(mean_cell(main.quality.value).text, before)
        found.append((f"quality, {main.arm.label}", quality))
        if main.kl is not None:
            found.append(("KL from the baseline, nats", mean_cell(main.kl)))
    return found


def _spread(one: ControlFigures) -> Cell:
    text = percent(one.refused)
    differ = one.least < one.most
    return Cell(text, f"seeds {percent_range(one.least, one.most)}" if differ else "")


def _table(title: str, rows: Sequence[Row], note: str = "") -> ReportTable:
    empty = {"0", formatting.NO_VALUE}
    columns = [
        name
        for name in (rows[0] if rows else ())
        if name != "unjudged" or {row[name].text for row in rows} - empty
    ]
    cells = [[row[name] for name in columns] for row in rows]
    return ReportTable(title, columns, cells, note)
