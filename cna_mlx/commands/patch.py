"""`patch`: ask whether a circuit's activations are sufficient or necessary."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx patch demo\n"
    "cna-mlx patch ./model --circuit searched.json --pairs 12",
)
@opt.model_argument
@opt.model_options
@click.option(
    "--circuit",
    metavar="FILE",
    shell_complete=complete.files,
    help="Circuit file.  [default: found on the contrast's odd prompts]",
)
@opt.transfer_option
@opt.selection_options
@opt.rendering_options
@click.option(
    "--pairs", type=int, default=24, metavar="N", help="Pairs of prompts at most."
)
@click.option(
    "--controls",
    type=click.IntRange(0, 100),
    default=19,
    metavar="N",
    help="Number of matched random controls.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=48,
    metavar="N",
    help="New tokens per answer.",
)
@opt.json_option
def patch(model: str, circuit: str | None, as_json: bool, **rest: Any) -> bool:
    """Patch a circuit's activations from one prompt into another.

    At the last token of a prompt that the model answers, pins the circuit to its
    activations in a prompt that the model refuses: if it refuses now, they are
    sufficient. The reverse shows whether they are necessary. Prompts are paired by
    their place in the contrast; those that the circuit was found on are left out.
    """
    from cna_mlx.analysis.patching_run import PatchOptions, patch_session
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.patch import patch_view

    names = ("pairs", "controls", "max_tokens")
    options = PatchOptions(**{name: rest.pop(name) for name in names})
    session = values.session_of(model, rest)
    found = patch_session(session, circuit, values.selection_of(rest), options)
    if as_json:
        emit_json({"model": model, **found.to_dict()})
    elif found.effects:
        show(patch_view(screen(), found))
    return found.is_complete
