"""One page that lists all runs of a directory and leads to their reports."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cna_mlx.analysis.decision import Outcome
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import runs_directory
from cna_mlx.report.content import RunsContent, ShownRun
from cna_mlx.report.facts import written
from cna_mlx.report.html import to_html
from cna_mlx.report.listing import Listed, listed_runs
from cna_mlx.util.files import (
    File,
    make_directory,
    typed_path,
    without_home,
    write_atomically,
)
from cna_mlx.util.formatting import counted, percent
from cna_mlx.util.progress import SILENT, Reporter

#: The page's file in its directory.
INDEX = "index.html"


@dataclass(frozen=True)
class RunsPage:
    """A page of runs, and what it lists."""

    path: Path
    directory: Path  # of the runs
    runs: tuple[Listed, ...]

    def to_dict(self) -> dict[str, Any]:
        """Where the page is and what it shows, for JSON."""
        return {
            "file": str(self.path),
            "directory": str(self.directory),
            "runs": [one.to_dict() for one in self.runs],
        }


def write_runs_page(
    runs: File | None = None,
    directory: File | None = None,
    *,
    reporter: Reporter = SILENT,
) -> RunsPage:
    """Write ``index.html``: every run with its model, circuit, verdict and date.

    Args:
        runs: the directory of the runs; the default one if None.
        directory: where the page goes; made if it does not exist. With the runs if
            None.
        reporter: its progress counts the runs that are read.

    Raises:
        InputError: the run does not exist; a directory or a file that cannot be read or
            written.
    """
    place = typed_path(runs) if runs else runs_directory()
    out = typed_path(directory, "--out") if directory else place
    found = listed_runs(place, reporter=reporter)
    if not found:
        raise InputError(no_run(place))
    make_directory(out)
    path = out / INDEX
    write_atomically(path, to_html(runs_content(found, place, out)), 0o600)
    return RunsPage(path, place, tuple(found))


def no_run(place: Path) -> str:
    """What to say about a directory without runs."""
    return f"no run in {place} yet: cna-mlx eval demo makes one in a few minutes"


def runs_content(found: Sequence[Listed], place: Path, out: Path) -> RunsContent:
    """The content of the page in ``out`` about the runs of ``place``."""
    return RunsContent(
        "Runs",
        f"{counts_text(found)} in {without_home(place.absolute())}",
        [_shown(one, out.resolve()) for one in found],
        written(),
        ["cna-mlx report --all writes this page again"],
    )


def counts_text(found: Sequence[Listed]) -> str:
    """``12 runs, 2 incomplete, 1 damaged``."""
    states = Counter(one.state for one in found)
    rest = [f"{states[key]} {key}" for key in ("incomplete", "damaged") if states[key]]
    return ", ".join([counted(len(found), "run"), *rest])


def _shown(one: Listed, out: Path) -> ShownRun:
    figures, before, after = one.figures, one.before, one.after
    fell = before.value - after.value if before and after else None
    return ShownRun(
        name=one.name,
        command=(one.run and one.run.config.command) or "",
        link=_link(one.report, out) if one.report else "",
        hint=one.command or "" if one.report is None or one.is_report_old else "",
        is_old=one.report is not None and one.is_report_old,
        model=one.model,
        circuit=one.circuit_text,
        outcome=_outcome(figures.outcome),
        headline=figures.headline or "",
        before=percent(before.value) if before else "",
        after=percent(after.value) if after else "",
        prompts=counted(before.n, "prompt") if before else "",
        fell=f"{fell:.4f}" if fell is not None and fell == fell else "",
        date=one.date,
        state=one.state,
        state_text=one.state_text,
        problem=figures.problem or "",
        note=one.note or "",
    )


def _outcome(name: str | None) -> str:
    found = Outcome.__members__.get((name or "").upper())
    return str(found) if found else ""


def _link(report: Path, out: Path) -> str:
    """The address of a report, from the page on."""
    run = report.parent
    target = run.parent.resolve() / run.name / report.name
    return quote(os.fsencode(os.path.relpath(target, out)))
