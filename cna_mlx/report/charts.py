"""Charts as SVG, drawn by pygal: one for light pages, one for dark ones."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cna_mlx.report.content import Chart, Point, Series
from cna_mlx.util.sanitize import visible

_WIDTH = 460
_LINES_HEIGHT = 300
_BAR_HEIGHT = 30
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
# What pygal adds for its tooltips, which do not work in an <img>.
_UNUSED = re.compile(r"<script.*?</script>|<!--.*?-->|<desc.*?</desc>", re.DOTALL)
_DASHES = ("", "7, 4", "2, 4")
# What a legend adds to the colour.
_STROKES = ("solid", "dashed", "dotted")
_ROWS = ("upper bar", "lower bar")
_TEXTS = ("label", "major_label", "legend", "title")
_GUIDES = ("guide", "major_guide")
_LIGHT: dict[str, Any] = {
    "colors": ("#a8442a", "#2c6a8e", "#6b5b95"),
    "foreground": "#55544e",
    "foreground_strong": "#3a3a36",
    "foreground_subtle": "#e4e2da",
}
_DARK: dict[str, Any] = {
    "colors": ("#e58a6c", "#7fb6d6", "#b3a3d9"),
    "foreground": "#b9b7ae",
    "foreground_strong": "#dddbd2",
    "foreground_subtle": "#3b3a36",
}


def draw(chart: Chart, *, dark: bool = False) -> str:
    """Return a chart as the text of a self-contained SVG file."""
    # XML allows no control characters
    names = list(map(visible, chart.names))
    lines = [Series(visible(name), points) for name, points in chart.series]
    chart = replace(chart, names=names, series=lines)
    made = _bars(chart, dark) if chart.kind == "bars" else _lines(chart, dark)
    return _UNUSED.sub("", made.render())


def size(chart: Chart) -> tuple[int, int]:
    """Its width and height in pixels."""
    if chart.kind == "lines":
        return _WIDTH, _LINES_HEIGHT
    bars = len(chart.names) * len(chart.series)
    legend = 30 if len(chart.series) > 1 else 0
    return _WIDTH, 50 + legend + max(2, bars) * _BAR_HEIGHT


def _bars(chart: Chart, dark: bool) -> Any:
    import pygal

    made = pygal.HorizontalBar(**_common(chart, dark), spacing=8, rounded_bars=2)
    # pygal draws from the bottom
    single = chart.series[0].points if len(chart.series) == 1 else ()
    names = [
        f"{name}  {chart.shown(single[number].value)}" if single else name
        for number, name in enumerate(chart.names)
    ]
    made.x_labels = names[::-1]
    for number, series in enumerate(chart.series):
        where = f", {_ROWS[number]}" if not single else ""
        bars = [_bar(point) for point in series.points[::-1]]
        made.add(f"{series.name}{where}", bars)
    return made


def _lines(chart: Chart, dark: bool) -> Any:
    import pygal

    places = sorted({point.x for series in chart.series for point in series.points})
    made = pygal.XY(
        **_common(chart, dark),
        show_x_guides=False,
        x_title=chart.axis,
        x_value_formatter=lambda value: f"{value:g}",
    )
    made.x_labels = _spread(places)
    for number, series in enumerate(chart.series):
        drawn = f", {_STROKES[number]}" if len(chart.series) > 1 else ""
        made.add(
            f"{series.name}{drawn}",
            [(point.x, point.value) for point in series.points],
            stroke_style={"width": 2.2, "dasharray": _DASHES[number]},
            dots_size=3.5,
        )
    for series in chart.series:
        made.add(None, _whiskers(series), show_dots=False, stroke_style={"width": 1.2})
    return made


def _common(chart: Chart, dark: bool) -> dict[str, Any]:
    from pygal.style import Style

    palette = dict(_DARK if dark else _LIGHT)
    colors = tuple(palette["colors"][: len(chart.series)])
    if chart.kind == "bars" and len(chart.series) > 1:  # before is grey
        colors = (str(palette["foreground"]), *colors[:1])
    palette["colors"] = colors * 2  # a second time for the whiskers
    subtle = palette["foreground_subtle"]
    style = Style(
        **palette,
        background="transparent",
        plot_background="transparent",
        font_family=_FONTS,
        **{f"{part}_font_size": 13 for part in _TEXTS},
        **{f"{guide}_stroke_color": subtle for guide in _GUIDES},
        **{f"{guide}_stroke_dasharray": "none" for guide in _GUIDES},
        opacity=".85",
        stroke_opacity="1",
        transition="0s",
    )
    width, height = size(chart)
    top = chart.top if chart.top is not None else _top(chart.series)
    return {
        "style": style,
        "width": width,
        "height": height,
        "js": [],
        "no_prefix": True,
        "disable_xml_declaration": True,
        "margin": 4,
        "margin_right": 26,
        "range": (0, top),
        "y_labels": _ticks(top),
        "value_formatter": chart.shown,
        "show_legend": len(chart.series) > 1,
        "legend_at_bottom": True,
        "legend_box_size": 10,
        "allow_interruptions": True,
        "truncate_legend": -1,
        "truncate_label": -1,
    }


def _bar(point: Point) -> Any:
    if not point.has_interval:
        return point.value
    return {"value": point.value, "ci": {"low": point.low, "high": point.high}}


def _whiskers(series: Series) -> list[tuple[float | None, float | None]]:
    """Intervals as vertical strokes: pygal's own fail with an x axis."""
    found: list[tuple[float | None, float | None]] = []
    for point in series.points:
        if point.has_interval:
            found += [(point.x, point.low), (point.x, point.high), (None, None)]
    return found


def _top(series: Sequence[Series]) -> float:
    """The end of a scale from 0: the next 1, 2 or 5 times a power of ten."""
    values = [edge for one in series for point in one.points for edge in point[1:]]
    most = max((value for value in values if math.isfinite(value)), default=0.0)
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most)


def _ticks(top: float) -> list[float]:
    """Four or five steps, whichever are round."""
    steps = 5 if f"{top:e}".startswith("5") else 4
    return [top * step / steps for step in range(steps + 1)]


def _spread(places: Sequence[float]) -> list[float]:
    """The places that can be labelled without overlap."""
    span = places[-1] - places[0] or 1.0
    kept = [places[0]]
    for place in places[1:]:
        if place - kept[-1] >= span / 9:
            kept.append(place)
    return kept
