"""`audit`: discover, evaluate, sweep and judge."""

from typing import Any

from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx audit demo\n"
    "cna-mlx audit ./model --layers 8-23 --fraction 0.005 --limit 50",
)
@opt.model_argument
@opt.model_options
@opt.evaluation_options
@opt.controls_option(default=19)
@opt.sweep_option(default=True)
@opt.selection_options
@opt.search_option
@opt.rendering_options
@opt.open_option
@opt.json_option
def audit(model: str, is_opened: bool, as_json: bool, **rest: Any) -> bool:
    """Discover, evaluate, sweep and judge in one go, and write a report.

    The first screen says whether refusals fell more than equally active random neurons
    explain, or whether the model broke, and how sure that is. After Ctrl-C or a crash
    the same command resumes.
    """
    from cna_mlx.analysis.run import evaluate_session
    from cna_mlx.analysis.verdict import conclude
    from cna_mlx.report.writing import write_report
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.evaluation import (
        discovery_lines,
        headline_view,
        summary_view,
        verdict_view,
    )
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end

    session, discovery = values.session_of(model, rest), values.selection_of(rest)
    values.use_search(session, discovery, rest)
    run = evaluate_session(
        session,
        discovery=discovery,
        options=values.evaluation_of(rest),
        command="audit",
        **rest,
    )
    summary = run.summary()
    verdict = conclude(summary)
    report = write_report(run) if summary.groups else None
    if as_json:
        emit_json(
            {
                "verdict": verdict.to_dict(),
                **summary.to_dict(),
                "discovery": run.facts.to_dict().get("discovery"),
                "report": report and str(report.html),
            }
        )
    else:
        show(verdict_view(screen(), verdict))
        show(discovery_lines(screen(), summary))
        show(summary_view(screen(), summary))
        show(headline_view(screen(), verdict))
    if report:
        screen().note(f"the report: {report.html}")
        if is_opened:
            values.open_page(report.html)
    return tell_end(screen(), run)
