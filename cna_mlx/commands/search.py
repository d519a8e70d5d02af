"""`search`: find the circuit whose ablation turns refusals into answers."""

from contextlib import suppress
from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command
from cna_mlx.errors import InputError


@command(
    example="cna-mlx search demo -o magic.json\n"
    "cna-mlx search ./model --minutes 30 -o deciding.json\n"
    "cna-mlx search ./model --without deciding.json -o second.json",
)
@opt.model_argument
@opt.model_options
@opt.contrast_options
@click.option(
    "--fraction",
    type=float,
    metavar="X",
    help="The paper's share of all neurons; sizes are 1, 2.5, 5 and 10 times it.  "
    "[default: 0.001; demo: 0.0025]",
)
@click.option(
    "--most", type=float, metavar="X", help="Largest share.  [default: 10 x --fraction]"
)
@opt.universal_option
@click.option(
    "--max-kl",
    "most_kl",
    type=float,
    default=0.4,
    metavar="NATS",
    help="KL on benign prompts that a circuit may cost.",
)
@click.option("--minutes", type=float, default=15.0, metavar="M", help="Time, about.")
@click.option(
    "--without",
    "without",
    multiple=True,
    metavar="FILE",
    shell_complete=complete.files,
    help="Leave out this circuit's neurons, to find a second one; repeat for more.",
)
@opt.transfer_option
@opt.rendering_options
@opt.output_option()
@opt.directory_option("Directory of the run that judges it.")
@opt.json_option
def search(
    model: str,
    output: str | None,
    out: str | None,
    force: bool,
    as_json: bool,
    without: tuple[str, ...],
    **rest: Any,
) -> bool:
    """Find the circuit whose ablation turns refusals into answers.

    Tries circuits by every ranking, in several layers and sizes, on one half of the
    contrast's prompts; the ranking influence takes a backward pass for each. Judges the
    best on the other half, beside the paper's circuit
    and equally active random neurons. Ctrl-C keeps what was found.
    """
    from cna_mlx.circuit import Circuit
    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.search.cached import keep_searched
    from cna_mlx.search.result import SearchOptions
    from cna_mlx.search.search import search_session
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end
    from cna_mlx.ui.search import live_table, search_view

    values.check_output(output, "circuit", force)
    names = ("contrast", "positive", "negative", "column", "fraction", "universal")
    discovery = values.read_sides(
        DiscoveryOptions(**{name: rest.pop(name) for name in names})
    )
    given = {name: rest.pop(name) for name in ("minutes", "most", "most_kl")}
    session = values.session_of(model, rest)
    options = SearchOptions(**given, without=without)

    def keep(circuit: Circuit) -> None:
        if output:
            circuit.save(output)

    with live_table(screen()) as shown:
        found = search_session(session, discovery, options, out, shown, keep)
    if found.circuit:
        keep(found.circuit)
        if options.is_usual if found.is_whole else not output:
            with suppress(InputError):  # the cache only saves time
                kept = keep_searched(
                    session, discovery, found.circuit, is_whole=found.is_whole
                )
                output = output or kept
    if as_json:
        file = output if found.circuit else None
        emit_json({"model": model, **found.to_dict(), "circuit_file": file})
    else:
        show(search_view(screen(), found, output))
    if found.run:
        tell_end(screen(), found.run)
    return found.is_whole
