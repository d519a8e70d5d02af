"""`shrink`: find the smallest part of a circuit that keeps most of its effect."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx shrink demo --circuit magic.json -o few.json\n"
    "cna-mlx shrink ./model --circuit deciding.json --keep 0.9 --minutes 30",
)
@opt.model_argument
@opt.model_options
@click.option(
    "--circuit",
    required=True,
    metavar="FILE[@M]",
    shell_complete=complete.files,
    help="Circuit file and its multiplier, @mean or @pin=C.",
)
@opt.contrast_options
@click.option(
    "--keep",
    type=float,
    default=0.8,
    metavar="X",
    help="Share of the circuit's lost refusals that the part must lose too.",
)
@click.option("--minutes", type=float, default=10.0, metavar="M", help="Time, about.")
@opt.transfer_option
@opt.rendering_options
@opt.output_option("part")
@opt.directory_option("Directory of the run that judges it.")
@opt.json_option
def shrink(
    model: str,
    circuit: str,
    keep: float,
    minutes: float,
    output: str | None,
    out: str | None,
    force: bool,
    as_json: bool,
    **rest: Any,
) -> bool:
    """Find the smallest part of a circuit that keeps most of its effect.

    Tries parts on the refusals that the circuit turns into answers, on one half of
    its contrast's prompts: its first neurons by several orders, down to one, then
    without what can be left out. Judges the part on the other half, beside the whole
    circuit, other sizes and equally active random neurons. Ctrl-C keeps the smallest
    part so far.
    """
    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.search.shrink import shrink_session
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end
    from cna_mlx.ui.shrink import live_parts, shrink_view

    values.check_output(output, "circuit", force)
    names = ("contrast", "positive", "negative", "column")
    discovery = values.read_sides(
        DiscoveryOptions(**{name: rest.pop(name) for name in names})
    )
    session = values.session_of(model, rest)
    with live_parts(screen()) as shown:
        found = shrink_session(
            session,
            circuit,
            discovery,
            keep=keep,
            minutes=minutes,
            out=out,
            shown=shown,
        )
    if output:
        found.circuit.save(output)
    if as_json:
        emit_json({"model": model, **found.to_dict(), "circuit_file": output})
    else:
        show(shrink_view(screen(), found, output))
    if found.run:
        tell_end(screen(), found.run)
    return found.is_complete
