"""`chat`: talk to a model and to the same model with its circuit scaled."""

from typing import Any

import click

from cna_mlx.commands.options import (
    circuit_options,
    command,
    expect_option,
    hide_text_option,
    model_argument,
    model_options,
    rendering_options,
    selection_of,
    selection_options,
    session_of,
)


@command(
    example="cna-mlx chat demo --ablate\n"
    "cna-mlx chat ./model --circuit refusal.json@0.5 --temp 0.7 --seed 1\n"
    "cna-mlx chat ./model --circuit a.json@0 --circuit b.json@1.5",
)
@model_argument
@model_options
@click.option("--ablate", is_flag=True, help="Answer with the steered arm as well.")
@circuit_options
@click.option(
    "--temp",
    "temperature",
    type=float,
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 is greedy.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="For sampling.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="New tokens for each answer.",
)
@hide_text_option
@click.option(
    "--history/--no-history",
    default=True,
    show_default=True,
    help="Keep what is typed for the next session's arrow keys.",
)
@selection_options
@expect_option
@rendering_options
def chat(model: str, ablate: bool, hide_text: bool, history: bool, **rest: Any) -> None:
    """Talk to a model, and to the same model with its circuit scaled.

    Up to four arms answer at once: the baseline, and one for each circuit and
    multiplier.
    """
    from cna_mlx.chat.opening import open_conversation
    from cna_mlx.discovery.cache import cache_directory
    from cna_mlx.ui.chat import run_chat
    from cna_mlx.ui.console import screen

    conversation = open_conversation(
        session_of(model, rest),
        selection_of(rest),
        is_ablating=ablate,
        hides_text=hide_text,
        **rest,
    )
    kept = cache_directory() / "chat.history" if history else None
    run_chat(screen(), conversation, history=kept)
