"""`circuit`: look at circuit files, compare and combine them."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import Command, CommandGroup


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    epilog="\b\nExample:\n  cna-mlx circuit show magic.json",
)
@click.pass_context
def circuit(context: click.Context) -> None:
    """Look at circuit files, compare and combine them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@circuit.command(
    "show",
    cls=Command,
    example="cna-mlx circuit show magic.json\n"
    "cna-mlx circuit show magic.json --model demo",
)
@click.argument("file", shell_complete=complete.files)
@opt.page_option("Draw the circuit on a page.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    help="Number of neurons to list.",
)
@click.option("--model", help="Say what the listed neurons write in this model.")
@opt.model_options
@opt.transfer_option
@opt.json_option
def circuit_show(
    file: str,
    out: str | None,
    force: bool,
    is_opened: bool,
    top: int,
    model: str | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Show a circuit: its layers, its first neurons, where it comes from."""
    from cna_mlx.circuit import Circuit
    from cna_mlx.circuit_profile import effect_sizes, mass_by_layer
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.neurons import written_view
    from cna_mlx.ui.output import emit_json, say, show
    from cna_mlx.ui.tables import circuit_view

    values.require(out or not is_opened, "--open needs --out FILE.html")
    values.check_output(out, "page", force)
    found = Circuit.load(file)
    if out:
        from cna_mlx.report.circuit_page import write_circuit_page

        write_circuit_page(found, out)
        if is_opened:
            values.open_page(out)
    listed, written = found.neurons[:top], []
    if model is not None:
        from cna_mlx.discovery.attribution import written_tokens

        session = values.session_of(model, rest)
        session.choose(file)
        written = [written_tokens(*session.load(), neuron) for neuron in listed]
    if not as_json:
        show(circuit_view(screen(), found, top))
        if written:
            show(written_view(screen(), found, written))
        if out:
            say(f"page: {out}")
        return
    said = [
        {"layer": neuron.layer, "index": neuron.index, **one.to_dict()}
        for neuron, one in zip(listed, written, strict=bool(written))
    ]
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
            "mass_by_layer": {
                str(layer): mass for layer, mass in mass_by_layer(found).items()
            },
            "neurons": [list(neuron) for neuron in found.neurons],
            "effect_sizes": effect_sizes(found),
            **({"page": out} if out else {}),
            **({"written": said} if model is not None else {}),
        }
    )


@circuit.command(
    "neuron",
    cls=Command,
    example="cna-mlx circuit neuron magic.json 5 407 --model demo\n"
    "cna-mlx circuit neuron magic.json 5 407 --model demo --text book.txt",
)
@click.argument("file", shell_complete=complete.files)
@click.argument("layer", type=int)
@click.argument("index")
@click.option(
    "--model",
    required=True,
    shell_complete=complete.models,
    help="The model to read the neuron in.",
)
@click.option(
    "--text",
    metavar="FILE",
    shell_complete=complete.files,
    help="Also read each line of this file.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=5,
    help="Number of tokens and prompts to list.",
)
@opt.contrast_options
@opt.model_options
@opt.transfer_option
@opt.rendering_options
@opt.json_option
def circuit_neuron(
    file: str,
    layer: int,
    index: str,
    model: str,
    text: str | None,
    top: int,
    as_json: bool,
    **rest: Any,
) -> None:
    """Show one neuron of a circuit: what it writes, where it fires, what it decides.

    INDEX is what circuit show lists: 407, or EXPERT:407 in a mixture of experts.
    Reads it at every token of the contrast (the circuit's own unless given) and of
    unrelated prompts, and ablates it alone.
    """
    from cna_mlx.circuit import Circuit
    from cna_mlx.discovery.neuron_page import neuron_page, place_of
    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.discovery.own_contrast import own_contrast
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.neurons import neuron_view
    from cna_mlx.ui.output import emit_json, show

    names = ("contrast", "positive", "negative", "column")
    options = values.read_sides(
        DiscoveryOptions(**{name: rest.pop(name) for name in names})
    )
    texts = values.prompts_of(text) if text else []
    found = Circuit.load(file)
    number = found.model.index_of_name(layer, index)
    place_of(found, layer, number)
    contrast = own_contrast(found, options, model)
    session = values.session_of(model, rest)
    session.choose(file)
    with session.reporter.progress("prompts") as progress:
        page = neuron_page(
            *session.load(),
            found,
            layer,
            number,
            contrast,
            texts=texts,
            rendering=session.rendering,
            count=top,
            progress=progress,
        )
    if as_json:
        emit_json({"file": file, "model": model, **page.to_dict()})
    else:
        show(neuron_view(screen(), page))


@circuit.command(
    "overlap",
    cls=Command,
    example="cna-mlx circuit overlap delta.json influence.json",
)
@click.argument(
    "files", nargs=-1, required=True, metavar="A B ...", shell_complete=complete.files
)
@opt.json_option
def circuit_overlap(files: tuple[str, ...], as_json: bool) -> None:
    """Count the neurons that each pair of circuits shares, and compare with chance."""
    from itertools import combinations

    from cna_mlx.analysis.circuit_overlap import compare_circuits
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.neurons import overlaps_view
    from cna_mlx.ui.output import emit_json, show

    pairs = [
        (a.file, b.file, compare_circuits(a, b))
        for a, b in combinations(_load(files), 2)
    ]
    if not as_json:
        show(overlaps_view(screen(), pairs))
        return
    emit_json({"pairs": [{"a": a, "b": b, **one.to_dict()} for a, b, one in pairs]})


def _add_combining(operation: str, what: str) -> None:
    """Add `union`, `intersect` or `minus`."""

    @circuit.command(
        operation,
        cls=Command,
        example=f"cna-mlx circuit {operation} a.json b.json -o c.json",
        help=f"Write a circuit of the neurons that are in {what}.",
    )
    @click.argument(
        "files",
        nargs=-1,
        required=True,
        metavar="A B ...",
        shell_complete=complete.files,
    )
    @_output_option
    @opt.transfer_option
    @opt.json_option
    def combine(
        files: tuple[str, ...],
        output: str,
        force: bool,
        allow_transfer: bool,
        as_json: bool,
    ) -> None:
        from cna_mlx import circuit_sets

        values.check_output(output, "circuit", force)
        combined = getattr(circuit_sets, operation)
        _write(combined(_load(files), allow_transfer=allow_transfer), output, as_json)


_output_option = opt.output_option(required=True)
_add_combining("union", "any of the files")
_add_combining("intersect", "all of the files")
_add_combining("minus", "the first file and in none of the others")


@circuit.command(
    "top",
    cls=Command,
    example="cna-mlx circuit top magic.json 4 -o four.json",
)
@click.argument("file", shell_complete=complete.files)
@click.argument("count", metavar="N", type=int)
@_output_option
@opt.json_option
def circuit_top(file: str, count: int, output: str, force: bool, as_json: bool) -> None:
    """Write a circuit of the first N neurons of a file."""
    from cna_mlx.circuit import Circuit
    from cna_mlx.circuit_sets import top

    values.check_output(output, "circuit", force)
    _write(top(Circuit.load(file), count), output, as_json)


def _load(files: tuple[str, ...]) -> list[Any]:
    from cna_mlx.circuit import Circuit

    values.require(len(files) > 1, "give two circuit files or more")
    return [Circuit.load(file) for file in files]


def _write(made: Any, output: str, as_json: bool) -> None:
    from cna_mlx.ui.output import emit_json, say
    from cna_mlx.util.formatting import counted

    made.save(output)
    if as_json:
        emit_json({"file": output, **made.entry("contrast", "rank", "made_from")})
    else:
        say(f"{counted(len(made.neurons), 'neuron')} written to {output}")
