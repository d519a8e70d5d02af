"""`discover`: find the neurons that tell two sets of prompts apart."""

from typing import Any

import click

from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx discover demo -o magic.json\n"
    "cna-mlx discover ./model --positive yes.txt --negative no.txt --json",
)
@opt.model_argument
@opt.walk_options
@opt.selection_options
@click.option(
    "--limit",
    "side_limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use N prompts of each side, evenly spaced.",
)
@opt.expect_option
@opt.rendering_options
@opt.output_option()
@opt.json_option
def discover(
    model: str, output: str | None, force: bool, as_json: bool, **rest: Any
) -> None:
    """Find the neurons that tell two sets of prompts apart."""
    from cna_mlx.discovery.session import report_expectation
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.tables import discovery_view

    values.check_output(output, "circuit", force)
    session = values.session_of(model, rest)
    found = session.discover(values.selection_of(rest), output)
    discovery = found.discovery
    assert discovery is not None
    path = output or (str(found.path) if found.path else None)
    if not as_json:
        show(discovery_view(screen(), discovery, path))
        return
    emit_json({"model": model, **discovery.to_dict(), "circuit_file": path})
    report_expectation(found.circuit, session.reporter)
    if discovery.warning:
        session.reporter.warn(discovery.warning)
