"""`probe`: rank prompts by the gauge, without generating."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    json_option,
    model_argument,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
    walk_options,
)


@command(
    example="cna-mlx probe demo --prompts questions.txt --csv\n"
    "cna-mlx probe ./model --contrast refusal",
)
@model_argument
@walk_options
@click.option(
    "--prompts", "prompt_file", metavar="FILE", help="Prompts of a file; - for a pipe."
)
@click.option(
    "--circuit", "circuits", multiple=True, metavar="FILE", help="A circuit file."
)
@click.option(
    "--allow-transfer",
    is_flag=True,
    help="Accept a circuit of other weights of the same shape.",
)
@selection_options
@rendering_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def probe(model: str, **rest: Any) -> None:
    """Rank prompts by how refusable the model takes them for; generates nothing.

    Without --prompts: how well the two sides of a contrast are told apart on prompts
    that had no part in finding the neurons, for the whole model and layer by layer.
    Works on base models as well.
    """
    from cna_mlx.commands.old.probe import run_probe

    run_probe(model, source_of(rest), rendering_of(rest), selection_of(rest), **rest)
