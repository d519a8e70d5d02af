"""Write a report in all its formats, readable only by its owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cna_mlx.errors import InputError
from cna_mlx.report.build import ReportedRun
from cna_mlx.report.content import ReportContent
from cna_mlx.report.csv_tables import figures_csv, samples_csv
from cna_mlx.report.html import to_html
from cna_mlx.report.markdown import to_markdown
from cna_mlx.util.files import write_atomically


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report.

    Attributes:
        html: one page with everything.
        markdown: the tables.
        figures, samples: CSV.
    """

    html: Path
    markdown: Path
    figures: Path
    samples: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return self.html, self.markdown, self.figures, self.samples


def write_report(
    content: ReportContent, entries: Sequence[ReportedRun], directory: Path
) -> ReportFiles:
    """Write a report of one or several runs.

    Args:
        content: what it says; see :func:`cna_mlx.report.build.build`.
        entries: what it was made from.
        directory: where the files go; made if it is not there.

    Raises:
        InputError: they cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be made ({error.strerror}); give another --out"
        ) from None
    files = ReportFiles(
        directory / "report.html",
        directory / "report.md",
        directory / "report.csv",
        directory / "samples.csv",
    )
    texts = (
        to_html(content),
        to_markdown(content),
        figures_csv(entries),
        samples_csv(entries, content.level),
    )
    for path, text in zip(files.all, texts, strict=True):
        write_atomically(path, text, 0o600)
    return files
