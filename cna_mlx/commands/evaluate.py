"""`eval`: measure refusal rates with controls, quality and KL."""

from typing import Any

from cna_mlx.commands.options import (
    command,
    evaluation_of,
    evaluation_options,
    json_option,
    model_argument,
    model_options,
    rendering_options,
    selection_of,
    selection_options,
    session_of,
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
def evaluate(model: str, as_json: bool, **rest: Any) -> bool:
    """Measure refusal rates with and without the circuit, beside controls.

    Each prompt is answered by all arms in one batch: baseline, ablated, and random
    neurons as controls. Rates come with intervals, quality, KL and exact tests. The
    samples are kept as a run; after Ctrl-C or a crash the same command goes on.
    """
    from cna_mlx.analysis.run import evaluate_session
    from cna_mlx.analysis.verdict import conclude
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.evaluation import headline_view, summary_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end

    run = evaluate_session(
        session_of(model, rest),
        discovery=selection_of(rest),
        options=evaluation_of(rest),
        command="eval",
        **rest,
    )
    summary = run.summary()
    verdict = conclude(summary)
    if as_json:
        emit_json({**summary.to_dict(), "verdict": verdict.to_dict()})
    else:
        show(summary_view(screen(), summary))
        show(headline_view(screen(), verdict))
    return tell_end(screen(), run)
