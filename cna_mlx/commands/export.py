"""`export`: write a run for other tools."""

from typing import TYPE_CHECKING

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import command
from cna_mlx.commands.options import directory_option, force_option, json_option
from cna_mlx.commands.values import check_output

if TYPE_CHECKING:
    from cna_mlx.util.overwriting import Kind


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
@force_option
@json_option
def export(run: str, to: str, out: str | None, force: bool, as_json: bool) -> None:
    """Write a RUN for other tools: Inspect's logs or lm-eval's samples.

    A RUN is a directory, or a name that cna-mlx runs lists. Each arm becomes a log of
    its own, with the labels as scores. The files hold whole prompts and answers.
    """
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.report.export import changed, exported, write_exported
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json

    contents = exported(RunRecord.open(run), to, out)  # type: ignore[arg-type]
    files = list(contents)
    kind: Kind = "Inspect log" if to == "inspect" else "lm-eval"
    for path in changed(contents) if out else ():
        check_output(str(path), kind, force)
        force = True  # asked once
    write_exported(contents)
    if as_json:
        emit_json({"format": to, "files": [str(path) for path in files]})
        return
    for path in files:
        click.echo(path)
    if to == "inspect":
        screen().note(f"open them: inspect view --log-dir {files[0].parent}")
