"""`report`: write runs as a page, Markdown and CSV."""

from typing import TYPE_CHECKING

import click

from cna_mlx.commands.options import command, json_option

if TYPE_CHECKING:
    from cna_mlx.report.content import TextLevel


@command(
    loads_model=False,
    example="cna-mlx report eval-demo-460fdcb54e\n"
    "cna-mlx report ./my-run --hide-text\n"
    "cna-mlx report ./llama ./qwen --out compared",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Directory for the report.  [default: the run's directory]",
)
@click.option(
    "--relabel", is_flag=True, help="Label the answers again with this version."
)
@click.option(
    "--hide-text",
    is_flag=True,
    help="Show only the first words of prompts and answers.",
)
@click.option("--full-text", is_flag=True, help="Show whole answers.")
@json_option
def report(
    runs: tuple[str, ...],
    out: str | None,
    relabel: bool,
    hide_text: bool,
    full_text: bool,
    as_json: bool,
) -> None:
    """Write a report about runs: one HTML page, Markdown and CSV.

    A RUN is a directory, or a name that cna-mlx runs lists. report.html is a single
    file that you can open in a browser or send to a colleague. It shows the beginnings
    of answers; --full-text shows them whole. Several runs are put in one table.
    """
    from cna_mlx.commands.options import require
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.report.writing import write_report
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import report_view

    require(not (hide_text and full_text), "give --hide-text or --full-text, not both")
    level: TextLevel = "hidden" if hide_text else "full" if full_text else "excerpts"
    records = [RunRecord.open(run) for run in runs]
    found = write_report(records, out, level=level, relabel=relabel)
    if as_json:
        emit_json(found.to_dict())
    else:
        show(report_view(screen(), found))
