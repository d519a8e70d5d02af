"""`eval`: measure refusal rates with controls, quality and KL."""

from typing import Any

from cna_mlx.commands.options import (
    command,
    evaluation_of,
    evaluation_options,
    json_option,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
    sweep_option,
)


@command(
    "eval",
    example="cna-mlx eval demo --sweep\n"
    "cna-mlx eval ./model --circuit refusal.json --prompts jbb --limit 50\n"
    "cna-mlx eval ./model --prompts harmful=mine.csv --prompts benign=theirs.txt",
)
@model_argument
@model_options
@evaluation_options
@sweep_option(default=False)
@selection_options
@rendering_options
@json_option
def evaluate(model: str, as_json: bool, allow_transfer: bool, **rest: Any) -> bool:
    """Measure refusal rates with and without the circuit, beside controls.

    Each prompt is answered by all arms in one batch: baseline, ablated, and random
    neurons as controls. Rates come with intervals, quality, KL and exact tests. The
    samples are kept as a run; after Ctrl-C or a crash the same command goes on.
    """
    from cna_mlx.commands.old.evaluate import run_eval

    source, rendering = source_of(rest), rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    return run_eval(
        model,
        source,
        rendering,
        selection,
        options,
        allow_transfer=allow_transfer,
        as_json=as_json,
    )
