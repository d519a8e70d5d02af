"""The charts of a group: refusals by arm, strengths, categories."""

from collections.abc import Sequence

from cna_mlx.analysis.metrics import ArmFigures, CategoryFigures, Group
from cna_mlx.analysis.statistics import Interval, Proportion
from cna_mlx.evaluation.run_config import CONTROLS
from cna_mlx.report.content import Chart, Point, Series

_FEWEST = 3  # strengths that make a curve, the baseline among them

Curve = Sequence[tuple[float, ArmFigures]]


def refusal_chart(group: Group) -> Chart:
    """How much each arm refuses, with its interval; controls as one bar each."""
    names: list[str] = []
    points: list[Point] = []
    for one in group.arms:
        if one.arm.role not in (*CONTROLS, *curved_roles(group)):
            names.append(one.arm.label)
            points.append(_share(len(points), one.refused))
    for control in group.controls:
        names.append(f"{control.role} control")
        edges = (100 * control.least, 100 * control.most)
        points.append(Point(len(points), 100 * control.refused, *edges))
    title = f"Refused, {group.set} ({group.kind})"
    return Chart("bars", title, [Series("refused", points)], names, "", "%", 100)


def strength_charts(title: str, axis: str, curve: Curve) -> list[Chart]:
    """Refusals, quality, INVALID if there are any, and KL against strength."""
    series = [
        Series("refused", [_share(x, one.refused) for x, one in curve]),
        Series("quality", [_mean(x, one.quality, 100) for x, one in curve]),
    ]
    if any(one.invalid.successes for _, one in curve):
        series.append(Series("invalid", [_share(x, one.invalid) for x, one in curve]))
    said = f"{title}: {', '.join(one.name for one in series)} in %"
    charts = [Chart("lines", said, series, axis=axis, unit="%", top=100)]
    kls = [(x, one.kl) for x, one in curve if one.kl is not None]
    if len(kls) == len(curve):
        points = [_mean(x, kl) for x, kl in kls]
        damage = f"{title}: KL from the baseline, nats"
        charts.append(Chart("lines", damage, [Series("KL", points)], axis=axis))
    return charts


def is_curve(curve: Curve) -> bool:
    """Whether there are enough strengths to draw a line through."""
    return len(curve) >= _FEWEST


def curved_roles(group: Group) -> tuple[str, ...]:
    """The roles whose arms are points of a curve."""
    scaled = ("scaled",) if is_curve(group.multipliers) else ()
    return (*scaled, "caa") if is_curve(group.additions) else scaled


def category_chart(
    group: Group, kind: str, categories: Sequence[CategoryFigures]
) -> Chart:
    """How much of each category is refused, before and after."""
    series = []
    for label in (one.arm.label for one in group.shown):
        shares = [100 * one.refused[label] / one.n for one in categories]
        points = [Point(place, share) for place, share in enumerate(shares)]
        series.append(Series(label, points))
    names = [one.name for one in categories]
    title = f"Refused by {kind}, {group.set} ({group.kind})"
    return Chart("bars", title, series, names, "", "%", 100)


def _share(x: float, one: Proportion) -> Point:
    return Point(x, 100 * one.value, 100 * one.low, 100 * one.high)


def _mean(x: float, one: Interval, scale: float = 1.0) -> Point:
    return Point(x, scale * one.value, scale * one.low, scale * one.high)
