"""Results as flat rows, for pandas and Jupyter."""

from collections.abc import Sequence
from html import escape
from typing import Any

Row = dict[str, Any]

#: A notebook shows this many rows.
_SHOWN = 100


def html_table(rows: Sequence[Row]) -> str:
    """Return rows of the same keys as an HTML table; all text is escaped."""
    if not rows:
        return "<p>no rows</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows[:_SHOWN])
    more = len(rows) - _SHOWN
    rest = f"<p>and {more:,} more rows</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _cells(row: Row) -> str:
    return "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
