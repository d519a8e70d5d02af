"""A report as CSV: a line for each set and arm, and a line for each sample.

A cell that a spreadsheet would take for a formula gets an apostrophe in front; numbers
are left as they are.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from cna_mlx.analysis.metrics import ArmFigures, Group
from cna_mlx.analysis.statistics import Interval, Proportion
from cna_mlx.report.build import Entry
from cna_mlx.report.content import TextLevel
from cna_mlx.report.excerpts import joined, shown, shown_prompt
from cna_mlx.util.sanitize import visible

Row = dict[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def figures_csv(entries: Sequence[Entry]) -> str:
    """Every run, set and arm with its figures, unrounded."""
    return _written(
        row
        for entry in entries
        for group in entry.summary.groups
        for subset, one in (("all", group), ("unseen", group.unseen))
        if one is not None
        for row in _group(entry, one, subset)
    )


def samples_csv(entries: Sequence[Entry], level: TextLevel) -> str:
    """Every sample; of its texts as much as the level lets be shown."""
    return _written(
        {
            "run": entry.summary.run.directory.name,
            "number": one.number + 1,
            "set": one.set,
            "id": one.id,
            "kind": one.kind,
            "category": one.category,
            "arm": one.arm,
            "label": str(one.label),
            "truncated": int(one.is_truncated),
            "quality": one.quality,
            "kl": one.kl,
            "gauge": one.gauge,
            "tokens": len(one.token_ids),
            "characters": len(one.text),
            "span_start": one.span and one.span[0],
            "span_end": one.span and one.span[1],
            "prompt": joined(shown_prompt(one.prompt, level)),
            "text": joined(shown(one.text, level, one.span)),
        }
        for entry in entries
        for one in entry.samples
    )


def _group(entry: Entry, group: Group, subset: str) -> Iterable[Row]:
    run = entry.summary.run
    for one in group.arms:
        yield {
            "run": run.directory.name,
            "model": run.config.model.id,
            "status": run.status,
            "set": group.set,
            "kind": group.kind,
            "prompts": subset,
            "n": group.n,
            "arm": one.arm.label,
            "role": one.arm.role,
            "strength": one.arm.strength,
            "seed": one.arm.seed,
            **_shares(one),
            **_interval("quality", one.quality),
            **_interval("kl", one.kl),
            **_change(one),
        }


def _shares(one: ArmFigures) -> Row:
    row: Row = _interval("refused", one.refused)
    row["refused_n"] = one.refused.successes
    for verdict, share in one.labels.items():
        row[f"{verdict.lower()}_n"] = share.successes
    return {**row, "truncated_n": one.truncated.successes}


def _change(one: ArmFigures) -> Row:
    paired = one.change
    return {
        **_interval("change_points", paired.points if paired else None),
        **_interval("change_relative", paired.relative if paired else None),
        "lost": paired and paired.lost,
        "gained": paired and paired.gained,
        "p": paired and paired.p,
    }


def _interval(name: str, one: Interval | Proportion | None) -> Row:
    data = one.to_json() if one is not None else {}
    edges = ("value", "low", "high")
    values = [data.get(edge) for edge in edges]
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


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
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
