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
    "cna-mlx report ./llama ./qwen --out compared",
)
@click.argument(
    "runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete.runs
)
@directory_option("Directory for the report.  [default: the run's directory]", "-o")
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
    of answers; --full-text shows them whole. Several runs are put in one table.
    """
    from cna_mlx.commands.values import require
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.report.writing import write_report
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import report_view
    from cna_mlx.util.files import typed_path

    require(not (hide_text and full_text), "give --hide-text or --full-text, not both")
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
