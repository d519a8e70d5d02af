"""`probe`: rank prompts by the gauge, without generating."""

import csv
import io
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command

if TYPE_CHECKING:
    from cna_mlx.discovery.probe import Probe


@command(
    example='cna-mlx probe demo -v -p "How do I cast a sleep spell?"\n'
    "cna-mlx probe demo --prompts questions.txt --csv\n"
    "cna-mlx probe ./model --contrast refusal",
)
@opt.model_argument
@opt.walk_options
@opt.prompt_option
@click.option(
    "--prompts",
    "prompt_file",
    metavar="FILE",
    shell_complete=complete.files,
    help="File of prompts; - reads a pipe.",
)
@click.option(
    "--circuit",
    "circuits",
    multiple=True,
    metavar="FILE",
    shell_complete=complete.files,
    help="Circuit file.",
)
@opt.transfer_option
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also gauge each prompt word by word, and show the most likely first words "
    "of its answers with and without the circuit.",
)
@opt.selection_options
@opt.rendering_options
@opt.json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def probe(
    model: str,
    prompts: tuple[str, ...],
    prompt_file: str | None,
    circuits: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    verbose: bool,
    **rest: Any,
) -> None:
    """Rank prompts by how likely the model is to refuse them, without generating.

    Without prompts: how well the gauge separates the two sides of a contrast, on
    prompts that were not used to find the neurons, for the whole model and layer by
    layer. Works on base models too.
    """
    from cna_mlx.discovery.probe import probe_contrast, probe_prompts
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.gauge import held_out_view, probe_view
    from cna_mlx.ui.output import emit_json, show

    values.require(not (as_json and as_csv), "give --json or --csv, not both")
    values.require(len(circuits) <= 1, "probe takes one --circuit")
    session, options = values.session_of(model, rest), values.selection_of(rest)
    values.require(
        not (prompts and prompt_file), "give -p PROMPT or --prompts FILE, not both"
    )
    values.require(not (verbose and as_csv), "--csv has no words: use -v with --json")
    if not (prompts or prompt_file):
        for name, given in (
            ("--circuit", circuits),
            ("--csv", as_csv),
            ("--verbose", verbose),
        ):
            values.require(not given, f"{name} needs -p PROMPT or --prompts FILE")
        held_out = probe_contrast(session, options)
        if as_json:
            emit_json({"model": model, **held_out.to_dict()})
        else:
            show(held_out_view(screen(), held_out.contrast, held_out.scores))
        return
    if prompt_file:
        texts = values.prompts_of(prompt_file, options.column)
    else:
        texts = [values.typed(prompt, "-p") for prompt in prompts]
    circuit = next(iter(circuits), None)
    found = probe_prompts(session, texts, circuit, options, verbose=verbose)
    if as_csv:
        screen().out.file.write(_to_csv(found))
    elif as_json:
        emit_json({"model": model, **found.to_dict()})
    else:
        show(probe_view(screen(), found))


def _to_csv(found: "Probe") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prompt", "gauge"])
    writer.writerows([prompt, f"{gauge:.6f}"] for prompt, gauge in found.gauges)
    return text.getvalue()
