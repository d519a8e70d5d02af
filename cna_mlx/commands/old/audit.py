"""`audit`: discover, evaluate, sweep and judge; one command, one report."""

from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.verdict import conclude
from cna_mlx.commands.old.evaluate import evaluated, tell_end
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.preparing import EvalOptions
from cna_mlx.report.build import Entry, build
from cna_mlx.report.writing import ReportFiles, write_report
from cna_mlx.ui.console import screen
from cna_mlx.ui.evaluation import discovery_lines, summary_view, verdict_view
from cna_mlx.ui.output import emit_json, show


def run_audit(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    selection: SelectionOptions,
    options: EvalOptions,
    *,
    allow_transfer: bool,
    as_json: bool,
) -> bool:
    """Audit a model, or go on with an audit that was cut off.

    Returns:
        Whether it ran to its end: Ctrl-C keeps what was finished.
    """
    summary = evaluated(
        "audit", model, source, rendering, selection, options, allow_transfer
    )
    verdict = conclude(summary)
    report = _report(summary)
    if as_json:
        emit_json(
            {
                "verdict": verdict.to_json(),
                **summary.to_json(),
                "discovery": summary.run.facts.to_json().get("discovery"),
                "report": report and str(report.html),
            }
        )
    else:
        show(verdict_view(screen(), verdict))
        show(discovery_lines(screen(), summary))
        show(summary_view(screen(), summary))
    if report:
        screen().note(f"the report: {report.html}")
    return tell_end(summary)


def _report(summary: Summary) -> ReportFiles | None:
    """The report, in the run's directory; none where nothing was answered."""
    if not summary.groups:
        return None
    entries = [Entry.of(summary.run)]
    return write_report(build(entries), entries, summary.run.directory)
