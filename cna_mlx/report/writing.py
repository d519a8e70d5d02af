"""Write a report of runs in all its formats, readable by their owner only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.report.build import ReportedRun, build
from cna_mlx.report.content import ReportContent, TextLevel
from cna_mlx.report.csv_tables import figures_csv, samples_csv
from cna_mlx.report.html import to_html
from cna_mlx.report.markdown import to_markdown
from cna_mlx.util.files import File, make_directory, typed_path, write_atomically
from cna_mlx.util.overwriting import Kind

#: The files of a report in its directory: name and kind.
FILES: dict[str, tuple[str, Kind]] = {
    "html": ("report.html", "page"),
    "markdown": ("report.md", "Markdown"),
    "figures": ("report.csv", "CSV"),
    "samples": ("samples.csv", "CSV"),
}


@dataclass(frozen=True)
class Report:
    """A report in the files of a directory."""

    directory: Path
    runs: tuple[ReportedRun, ...]
    content: ReportContent

    @property
    def files(self) -> dict[str, Path]:
        """The page with everything, the tables, figures and samples as CSV."""
        return {key: self.directory / name for key, (name, _) in FILES.items()}

    @property
    def html(self) -> Path:
        """The page with everything."""
        return self.files["html"]

    def to_dict(self) -> dict[str, Any]:
        """Where the report is and what it shows, for JSON."""
        return {
            "text": self.content.level,
            "files": {kind: str(path) for kind, path in self.files.items()},
            "runs": [
                {
                    **one.summary.to_dict(),
                    "verdict": one.conclusion.to_dict(),
                    "relabelled": one.changed,
                }
                for one in self.runs
            ],
        }


def write_report(
    runs: RunRecord | Sequence[RunRecord],
    directory: File | None = None,
    *,
    level: TextLevel = "excerpts",
    relabel: bool = False,
) -> Report:
    """Write what runs show as one page, as Markdown and as CSV.

    Args:
        runs: one or several; a run that is given twice counts once.
        directory: where the files go; made if it does not exist. The run's own if
            None.
        level: how much of prompts and answers is shown: ``hidden``, ``excerpts`` or
            ``full``.
        relabel: label the answers anew with this version.

    Raises:
        InputError: several runs and no directory; a run without a whole batch; files
            that cannot be written.
    """
    given = [runs] if isinstance(runs, RunRecord) else runs
    found = {run.directory.resolve(): run for run in given}
    if directory is None and len(found) != 1:
        raise InputError(
            "give --out DIR: a report of several runs has no directory of its own"
        )
    reported = tuple(ReportedRun.of(run, relabel=relabel) for run in found.values())
    own = next(iter(found.values())).directory
    place = typed_path(directory, "--out") if directory else own
    report = Report(place, reported, build(reported, level))
    _write(report)
    return report


def _write(report: Report) -> None:
    make_directory(report.directory)
    texts = (
        to_html(report.content),
        to_markdown(report.content),
        figures_csv(report.runs),
        samples_csv(report.runs, report.content.level),
    )
    for path, text in zip(report.files.values(), texts, strict=True):
        write_atomically(path, text, 0o600)
