"""A report as CSV: a row for each set and arm, and a row for each sample.

A text that a spreadsheet would read as a formula gets a leading apostrophe; numbers
stay unrounded.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from cna_mlx.report.build import ReportedRun
from cna_mlx.report.content import TextLevel
from cna_mlx.report.excerpts import excerpt, joined, shown_prompt
from cna_mlx.util.sanitize import visible

Row = dict[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def figures_csv(entries: Sequence[ReportedRun]) -> str:
    """Every run, set and arm with its figures, unrounded."""
    return _written(row for entry in entries for row in entry.summary.rows())


def samples_csv(entries: Sequence[ReportedRun], level: TextLevel) -> str:
    """Every sample, with as much of its texts as the level shows."""
    return _written(
        {
            "run": entry.summary.run.directory.name,
            **one.to_row(),
            "number": one.number + 1,
            "prompt": joined(shown_prompt(one.prompt, level)),
            "text": joined(excerpt(one.text, level, one.span)),
        }
        for entry in entries
        for one in entry.samples
    )


def _written(rows: Iterable[Row]) -> str:
    rows = list(rows)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return file.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return int(value) if isinstance(value, bool) else value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
