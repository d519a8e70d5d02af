"""`report`: write runs as a page, Markdown and CSV."""

from typing import TYPE_CHECKING

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import command
from cna_mlx.commands.options import (
    directory_option,
    force_option,
    json_option,
    open_option,
)
from cna_mlx.commands.values import check_output, open_page

if TYPE_CHECKING:
    from pathlib import Path

    from cna_mlx.report.content import TextLevel


@command(
    example="cna-mlx report eval-demo-460fdcb54e\n"
    "cna-mlx report ./my-run --hide-text\n"
    "cna-mlx report ./llama ./qwen --out compared\n"
    "cna-mlx report --all --open",
)
@click.argument("runs", metavar="RUN...", nargs=-1, shell_complete=complete.runs)
@click.option(
    "--all", "is_of_all", is_flag=True, help="List all runs on one page, index.html."
)
@directory_option(
    "Directory for the report.  [default: the run's directory; with --all that of the "
    "runs]",
    "-o",
)
@force_option
@click.option(
    "--relabel", is_flag=True, help="Label the answers again with this version."
)
@click.option(
    "--hide-text",
    is_flag=True,
    help="Show only the first words of prompts and answers.",
)
@click.option("--full-text", is_flag=True, help="Show whole answers.")
@open_option
@json_option
def report(
    runs: tuple[str, ...],
    is_of_all: bool,
    out: str | None,
    force: bool,
    relabel: bool,
    hide_text: bool,
    full_text: bool,
    is_opened: bool,
    as_json: bool,
) -> None:
    """Write a report about runs: one HTML page, Markdown and CSV.

    A RUN is a directory, or a name that cna-mlx runs lists. report.html is a single
    file that you can open in a browser or send to a colleague. It shows the beginnings
    of answers; --full-text shows them whole. Several runs are put in one table. --all
    lists every run that cna-mlx runs does, with links to the reports.
    """
    from cna_mlx.commands.values import require
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.report.writing import write_report
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import report_view
    from cna_mlx.util.files import typed_path

    require(not (hide_text and full_text), "give --hide-text or --full-text, not both")
    if is_of_all:
        require(not runs, "give RUNs or --all, not both")
        has_effect = not (relabel or hide_text or full_text)
        require(has_effect, "--all shows no answers: leave out --relabel and --..-text")
        _write_all(out, force, is_opened, as_json)
        return
    require(runs, "give a RUN (cna-mlx runs lists them), or --all for a page of all")
    level: TextLevel = "hidden" if hide_text else "full" if full_text else "excerpts"
    records = [RunRecord.open(run) for run in runs]
    own = [record.directory.resolve() for record in records]
    if out and typed_path(out, "--out").resolve() not in own:
        _check_files(typed_path(out, "--out"), force)
    found = write_report(records, out, level=level, relabel=relabel)
    if as_json:
        emit_json(found.to_dict())
    else:
        show(report_view(screen(), found))
    if is_opened:
        open_page(found.html)


def _check_files(directory: "Path", force: bool) -> None:
    """Ask once about a report that is in a directory already."""
    from cna_mlx.report.writing import FILES

    for name, kind in FILES.values():
        if (path := directory / name).exists():
            check_output(str(path), kind, force)
            force = True


def _write_all(out: str | None, force: bool, is_opened: bool, as_json: bool) -> None:
    """Write the page of all runs; it replaces an earlier one unasked."""
    from cna_mlx.evaluation.runs import runs_directory
    from cna_mlx.report.runs_page import INDEX, write_runs_page
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter
    from cna_mlx.ui.runs import runs_page_view
    from cna_mlx.util.files import typed_path
    from cna_mlx.util.overwriting import is_of

    place = typed_path(out, "--out") if out else runs_directory()
    path = place / INDEX
    if path.exists() and not is_of(path, "page of runs"):
        check_output(str(path), "page", force)
    page = write_runs_page(directory=out, reporter=terminal_reporter())
    if as_json:
        emit_json(page.to_dict())
    else:
        show(runs_page_view(screen(), page))
    if is_opened:
        open_page(page.path)
