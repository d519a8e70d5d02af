"""`report`: one or several runs as a page, Markdown and CSV."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.commands.output import emit_json, require, show
from cna_mlx.evaluation.runs import find_run
from cna_mlx.report.build import Entry, build
from cna_mlx.report.content import TextLevel
from cna_mlx.report.writing import ReportFiles, write_report
from cna_mlx.ui.console import screen
from cna_mlx.ui.runs import report_view
from cna_mlx.util.files import typed_path


def run_report(
    names: Sequence[str],
    *,
    out: str | None,
    relabel: bool,
    hides_text: bool,
    is_full: bool,
    as_json: bool,
) -> None:
    """Write a report of runs, and say what it shows and where it lies."""
    require(not (hides_text and is_full), "give --hide-text or --full-text, not both")
    level: TextLevel = "hidden" if hides_text else "full" if is_full else "excerpts"
    runs = {run.directory.resolve(): run for run in map(find_run, names)}
    require(
        out or len(runs) == 1,
        "a report of several runs lies in none of them: say where with --out DIR",
    )
    entries = [Entry.of(run, relabel=relabel) for run in runs.values()]
    directory = typed_path(out, "--out") if out else next(iter(runs.values())).directory
    content = build(entries, level)
    files = write_report(content, entries, directory)
    if as_json:
        emit_json(_entry(entries, files, level))
    else:
        show(report_view(screen(), content, files))


def _entry(
    entries: Sequence[Entry], files: ReportFiles, level: TextLevel
) -> dict[str, Any]:
    return {
        "text": level,
        "files": {
            "html": str(files.html),
            "markdown": str(files.markdown),
            "figures": str(files.figures),
            "samples": str(files.samples),
        },
        "runs": [
            {
                **one.summary.to_json(),
                "verdict": one.conclusion.to_json(),
                "relabelled": one.changed,
            }
            for one in entries
        ],
    }
