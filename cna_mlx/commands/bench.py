"""`bench`: measure speed against plain mlx-lm."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    json_option,
    model_argument,
    model_options,
    source_of,
)


@command(
    example="cna-mlx bench demo --short\ncna-mlx bench ./model --only arms --json",
)
@model_argument
@model_options
@click.option("--short", "is_short", is_flag=True, help="Measure less.")
@click.option(
    "--only",
    type=click.Choice(["decoding", "arms", "discovery", "memory"]),
    multiple=True,
    help="Measure this part alone; more than once for more parts.",
)
@json_option
def bench(model: str, **rest: Any) -> None:
    """Measure how fast a model is steered and read here, against plain mlx-lm.

    Ratios of two ways timed in turn: steered decoding, several arms, discovery; with
    what the memory bandwidth allows, and the memory held beside its forecast.
    """
    from cna_mlx.commands.old.bench import run_bench

    run_bench(model, source_of(rest), **rest)
