"""`discover`: find the neurons that tell two sets of prompts apart."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    expect_option,
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
    example="cna-mlx discover demo -o magic.json\n"
    "cna-mlx discover ./model --positive yes.txt --negative no.txt --json",
)
@model_argument
@walk_options
@selection_options
@expect_option
@rendering_options
@click.option("-o", "--output", metavar="FILE", help="Write the circuit here.")
@json_option
def discover(model: str, output: str | None, as_json: bool, **rest: Any) -> None:
    """Find the neurons that tell two sets of prompts apart."""
    from cna_mlx.commands.old.discover import run_discover

    run_discover(
        model, source_of(rest), rendering_of(rest), selection_of(rest), output, as_json
    )
