"""`verify`: answer a few prompts of a run again."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import command
from cna_mlx.commands.options import json_option


@command(
    example="cna-mlx verify ./my-run --sample 10\n"
    "cna-mlx verify eval-demo-460fdcb54e --json",
)
@click.argument("run", shell_complete=complete.runs)
@click.option(
    "--sample",
    "count",
    type=click.IntRange(min=1),
    default=10,
    help="Number of prompts to answer again in all arms.",
)
@click.option("--model", help="The run's model, if it is in another place here.")
@click.option("--offline", is_flag=True, help="Use no network.")
@json_option
def verify(run: str, as_json: bool, **rest: Any) -> bool:
    """Answer a few prompts of a run again and count the answers that agree.

    Run it on another machine: the same weights and rendering give the same tokens,
    except where devices round differently.
    """
    from cna_mlx.evaluation import verify as library
    from cna_mlx.evaluation.runs import RunRecord
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.evaluation import verification_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter

    reporter = terminal_reporter()
    found = library.verify(RunRecord.open(run), reporter=reporter, **rest)
    if as_json:
        emit_json(found.to_dict())
    else:
        show(verification_view(screen(), found))
    return not reporter.stop()
