"""`circuit`: look at circuit files."""

import click

from cna_mlx.commands.options import Command, json_option


@click.group(
    invoke_without_command=True,
    epilog="\b\nExample:\n  cna-mlx circuit show magic.json",
)
@click.pass_context
def circuit(context: click.Context) -> None:
    """Look at circuit files."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@circuit.command(
    "show", cls=Command, example="cna-mlx circuit show magic.json", loads_model=False
)
@click.argument("file")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    help="Number of neurons to list.",
)
@json_option
def circuit_show(file: str, top: int, as_json: bool) -> None:
    """Show a circuit: its layers, its first neurons, where it comes from."""
    from cna_mlx.circuit import Circuit
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.tables import circuit_view

    found = Circuit.load(file)
    if not as_json:
        show(circuit_view(screen(), found, top))
        return
    emit_json(
        {
            "file": file,
            "model": found.model.to_dict(),
            **found.provenance.to_dict(),
            **found.intervention_entry(),
            "k": found.k,
            "by_layer": {
                str(layer): len(members) for layer, members in found.by_layer().items()
            },
            "neurons": [list(neuron) for neuron in found.neurons],
        }
    )
