"""`diff`: answer prompts with and without the circuit, side by side."""

from typing import Any

import click

from cna_mlx.commands.options import (
    circuit_options,
    command,
    expect_option,
    hide_text_option,
    json_option,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
)


@command(
    example='cna-mlx diff demo -p "How do I cast a sleep spell?"\n'
    "cna-mlx diff ./model --circuit refusal.json -m 0 -m 0.5 --prompts list.txt --json",
)
@model_argument
@model_options
@circuit_options
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="PROMPT", help="A prompt."
)
@click.option(
    "--prompts", "prompt_file", metavar="FILE", help="Prompts of a file; - for a pipe."
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=150,
    show_default=True,
    help="New tokens for each answer.",
)
@click.option("--svg", metavar="FILE", help="Draw what is shown as an SVG picture.")
@hide_text_option
@selection_options
@expect_option
@rendering_options
@json_option
def diff(model: str, **rest: Any) -> bool:
    """Answer prompts with and without the circuit, side by side."""
    from cna_mlx.commands.old.diff import run_diff

    return run_diff(
        model, source_of(rest), rendering_of(rest), selection_of(rest), **rest
    )
