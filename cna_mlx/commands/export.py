"""`export`: write a run for other tools."""

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import command
from cna_mlx.commands.options import directory_option, json_option


@command(
    example="cna-mlx export eval-demo-460fdcb54e\n"
    "cna-mlx export ./my-run --to lm-eval --out ./samples",
)
@click.argument("run", shell_complete=complete.runs)
@click.option(
    "--to",
    type=click.Choice(["inspect", "lm-eval"]),
    default="inspect",
    help="Logs for inspect view, or samples as lm-eval logs them.",
)
@directory_option(
    "Directory for the files.  [default: inspect or lm-eval in the run's]", "-o"
)
@json_option
def export(run: str, to: str, out: str | None, as_json: bool) -> None:
    """Write a RUN for other tools: Inspect's logs or lm-eval's samples.

    A RUN is a directory, or a name that cna-mlx runs lists. Each arm becomes a log of
    its own, with the labels as scores. The files hold whole prompts and answers.
    """
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.report.export import export_run
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json

    files = export_run(RunRecord.open(run), to, out)  # type: ignore[arg-type]
    if as_json:
        emit_json({"format": to, "files": [str(path) for path in files]})
        return
    for path in files:
        click.echo(path)
    if to == "inspect":
        screen().note(f"open them: inspect view --log-dir {files[0].parent}")
