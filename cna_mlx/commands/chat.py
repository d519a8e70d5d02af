"""`chat`: talk to a model and to the same model with its circuit scaled."""

from typing import Any

import click

from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx chat demo --ablate\n"
    'cna-mlx chat demo "How do I cast a sleep spell?" --ablate\n'
    "cna-mlx chat ./model --circuit refusal.json@0.5 --temp 0.7 --seed 1\n"
    "cna-mlx chat ./model --circuit a.json@0 --circuit b.json@1.5",
)
@opt.model_argument
@opt.prompt_argument
@opt.model_options
@click.option("--ablate", is_flag=True, help="Also answer with the circuit ablated.")
@opt.circuit_options
@opt.prompt_option
@click.option(
    "--temp",
    "temperature",
    type=float,
    default=0.0,
    help="Sampling temperature; 0 is greedy.",
)
@click.option("--top-p", type=float, default=1.0, help="Keep this probability mass.")
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=0,
    help="Keep this many tokens; 0 keeps all.",
)
@click.option(
    "--min-p",
    type=float,
    default=0.0,
    help="Keep tokens at least this likely, relative to the first.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    help="Seed for sampling.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    help="New tokens per answer.",
)
@opt.hide_text_option
@click.option(
    "--history/--no-history",
    default=True,
    help="Keep what you type for the arrow keys of the next session, and the "
    "conversation until the chat ends.",
)
@opt.selection_options
@opt.search_option
@opt.expect_option
@opt.rendering_options
def chat(
    model: str,
    prompt: str | None,
    prompts: tuple[str, ...],
    ablate: bool,
    hide_text: bool,
    history: bool,
    **rest: Any,
) -> bool:
    """Talk to a model, and to the same model with its circuit scaled.

    Up to four arms answer at once: the baseline, and one for each circuit and
    multiplier. With a PROMPT (or -p) the chat answers it and ends.
    """
    from cna_mlx.chat.opening import open_conversation
    from cna_mlx.ui.chat import answer_once, run_chat
    from cna_mlx.ui.console import screen
    from cna_mlx.util.files import cache_directory

    messages = values.typed_prompts(prompt, prompts)
    session, options = values.session_of(model, rest), values.selection_of(rest)
    values.use_search(session, options, rest)
    conversation = open_conversation(
        session,
        options,
        is_ablating=ablate,
        hides_text=hide_text,
        **rest,
    )
    if messages:
        return answer_once(screen(), conversation, messages)
    kept = cache_directory() if history else None
    run_chat(
        screen(),
        conversation,
        history=kept and kept / "chat.history",
        journals=kept and kept / "chats",
    )
    return True
