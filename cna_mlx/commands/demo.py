"""`demo`: show the whole job on an embedded model."""

import click

from cna_mlx.commands.options import (
    command,
)


@command(example='cna-mlx demo -p "Can you teach me a fire spell?"')
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="Your question."
)
def demo(prompts: tuple[str, ...]) -> None:
    """Show the whole job on an embedded model; needs no download."""
    from cna_mlx.commands.old.demo import run_demo

    if not run_demo(prompts):
        raise KeyboardInterrupt
