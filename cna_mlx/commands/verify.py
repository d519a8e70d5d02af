"""`verify`: answer a few prompts of a run again."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    json_option,
)


@command(
    example="cna-mlx verify ./my-run --sample 10\n"
    "cna-mlx verify eval-demo-460fdcb54e --json",
)
@click.argument("run")
@click.option(
    "--sample",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many prompts to answer again, in all arms.",
)
@click.option("--model", help="Where the run's model is here, if it lies elsewhere.")
@click.option("--offline", is_flag=True, help="Touch no network.")
@json_option
def verify(run: str, **rest: Any) -> None:
    """Answer a few prompts of a run again, and say how many answers agree.

    For a colleague's machine: the same weights with the same rendering give the same
    tokens, but for rounding, which differs between devices.
    """
    from cna_mlx.commands.old.verify import run_verify

    if not run_verify(run, **rest):
        raise KeyboardInterrupt
