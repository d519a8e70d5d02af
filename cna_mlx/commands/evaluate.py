"""`eval`: measure refusal rates with controls, quality and KL."""

from typing import Any

from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    "eval",
    example="cna-mlx eval demo --sweep\n"
    "cna-mlx eval ./model --circuit refusal.json --prompts jbb --limit 50\n"
    "cna-mlx eval ./model --prompts harmful=mine.csv --prompts benign=theirs.txt",
)
@opt.model_argument
@opt.model_options
@opt.evaluation_options
@opt.controls_option(default=5)
@opt.sweep_option(default=False)
@opt.selection_options
@opt.search_option
@opt.rendering_options
@opt.json_option
def evaluate(model: str, as_json: bool, **rest: Any) -> bool:
    """Measure refusal rates with and without the circuit, with controls.

    All arms answer each prompt in one batch: the baseline, the ablated circuit, and
    random neurons as controls. You get rates with intervals, quality, KL divergence and
    exact tests. The answers are saved as a run: the same command resumes it after
    Ctrl-C or a crash.
    """
    from cna_mlx.analysis.run import evaluate_session
    from cna_mlx.analysis.verdict import conclude
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.evaluation import headline_view, summary_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end

    session, discovery = values.session_of(model, rest), values.selection_of(rest)
    values.use_search(session, discovery, rest)
    run = evaluate_session(
        session,
        discovery=discovery,
        options=values.evaluation_of(rest),
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
