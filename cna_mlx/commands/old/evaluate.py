"""`eval`: refusal rates with intervals, controls, quality and damage, as a run."""

from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import conclude
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.preparing import (
    EvalOptions,
    Prepared,
    check_out,
    load_sets,
    prepare,
)
from cna_mlx.commands.old.shared import Session
from cna_mlx.evaluation.arms import (
    save_direction,
)
from cna_mlx.evaluation.journal import Journal, opened
from cna_mlx.evaluation.runner import evaluate
from cna_mlx.ui.console import screen
from cna_mlx.ui.evaluation import headline_view, summary_view
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import progress_bar
from cna_mlx.util.formatting import counted
from cna_mlx.util.interrupt import Interrupt


def run_eval(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    selection: SelectionOptions,
    options: EvalOptions,
    *,
    allow_transfer: bool,
    as_json: bool,
) -> bool:
    """Evaluate a circuit, or go on with an evaluation that was cut off.

    Returns:
        Whether it ran to its end: Ctrl-C keeps what was finished.
    """
    summary = evaluated(
        "eval", model, source, rendering, selection, options, allow_transfer
    )
    verdict = conclude(summary)
    if as_json:
        emit_json({**summary.to_json(), "verdict": verdict.to_json()})
    else:
        show(summary_view(screen(), summary))
        show(headline_view(screen(), verdict))
    return tell_end(summary)


def evaluated(
    command: str,
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    selection: SelectionOptions,
    options: EvalOptions,
    allow_transfer: bool,
) -> Summary:
    """The figures of a command's run, from what was typed; answers what is lacking.

    Raises:
        as :func:`check_out`, :func:`load_sets`, :meth:`Session.open`,
        :func:`prepare`, :func:`run_evaluation`.
    """
    check_out(options)
    sets = load_sets(model, options, source.offline)
    session = Session.open(model, rendering, allow_transfer, source)
    return run_evaluation(prepare(session, selection, options, sets, command))


def run_evaluation(prepared: Prepared) -> Summary:
    """Answer what is not answered yet, and return the figures of all.

    Raises:
        InputError: another run lies in the directory, or it cannot be written.
    """
    interrupt = Interrupt()
    evaluation = prepared.evaluation
    total = len(evaluation.prompts)
    with opened(
        prepared.directory, prepared.config, prepared.circuits, prepared.facts
    ) as journal:
        _announce(prepared, journal)
        if prepared.direction is not None:
            save_direction(prepared.direction, prepared.directory)
        status = "failed"
        try:
            with progress_bar("prompts") as progress, interrupt.watching():
                for _ in evaluate(
                    evaluation, journal, stop=interrupt, progress=progress
                ):
                    pass
            status = "complete" if journal.done == total else "interrupted"
        except KeyboardInterrupt:  # pressed twice
            status = "interrupted"
        finally:
            journal.finish(status)  # type: ignore[arg-type]
        return summarize(journal.run)


def tell_end(summary: Summary) -> bool:
    """Say where the run lies, and how to go on; whether it is complete."""
    run = summary.run
    screen().note(f"kept in {run.directory} (cna-mlx report {run.directory})")
    if run.status == "complete":
        return True
    done = sum(group.n for group in summary.groups)
    screen().note(
        f"{done} of {counted(run.planned, 'prompt')} answered; the same command goes on"
    )
    return False


def _announce(prepared: Prepared, journal: Journal) -> None:
    evaluation = prepared.evaluation
    total = len(evaluation.prompts)
    sizes = " + ".join(f"{len(one.prompts)} of {one.name}" for one in evaluation.sets)
    work = (
        f"{counted(total, 'prompt')} ({sizes}) x {len(evaluation.arms)} arms x "
        f"{evaluation.max_tokens} tokens at most"
    )
    left = total - journal.done
    if not left:
        screen().note(f"{work}: all of them are here")
        return
    seconds = evaluation.expected_seconds() * left / total
    again = f", {journal.done} prompts are here already" if journal.done else ""
    screen().note(f"{work}{again}: {duration(seconds)} or less")


def duration(seconds: float) -> str:
    """Seconds as people say them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
