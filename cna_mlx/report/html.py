"""A report as one page that makes no requests and works without JavaScript.

Its content security policy allows only the page's own style and script, by their
hashes, and embedded pictures: a model's text can never run.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from cna_mlx.report.charts import draw, size
from cna_mlx.report.content import Chart, Page, ReportContent, RunsContent
from cna_mlx.util.formatting import counted, decimal, percent
from cna_mlx.util.sanitize import visible

# The gauge is drawn from -0.25 to 1.25; 100 units are its 0 to 1.
_LOW, _HIGH = -0.25, 1.25
# A template with a script; other pages have none.
_TEMPLATES: dict[type, str] = {ReportContent: "report", RunsContent: "runs"}
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d|$)")


def to_html(report: ReportContent | RunsContent | Page) -> str:
    """The page as text; everything in it is escaped here."""
    from markupsafe import Markup

    name = _TEMPLATES.get(type(report), "page")
    style, script = _part("report.css"), ""
    if name != "page":
        script = _part("filters.js") + _part(f"{name}.js")
    template = _environment().get_template(f"{name}.html")
    return template.render(
        report=report,
        policy=policy(style, script),
        # ours, and neither closes its element; hashed unchanged
        style=Markup(style),
        script=Markup(script),
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and script."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def _part(name: str) -> str:
    return files("cna_mlx.report").joinpath("page", name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        minus=_minus,
        picture=_picture,
        size=size,
        along=_along,
        counted=counted,
        decimal=decimal,
        percent=percent,
    )
    return environment


def _shown(value: Any) -> Any:
    """Show control characters of every value except our markup."""
    is_plain = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if is_plain else value


def _minus(text: str) -> str:
    """Numbers with a minus as wide as a plus, except in exponents."""
    return _NEGATIVE.sub("\u2212", text)


def _picture(chart: Chart, dark: bool) -> str:
    data = base64.b64encode(draw(chart, dark=dark).encode()).decode()
    return f"data:image/svg+xml;base64,{data}"


def _along(gauge: float) -> int:
    return round(100 * (min(max(gauge, _LOW), _HIGH) - _LOW))
