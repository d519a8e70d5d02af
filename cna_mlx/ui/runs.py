"""Runs and reports on the screen: a few lines each, readable at 60 columns."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.report.content import RunContent
from cna_mlx.report.listing import Listed
from cna_mlx.report.writing import Report
from cna_mlx.ui.console import Screen
from cna_mlx.util.formatting import counted, percent


def runs_view(screen: Screen, found: Sequence[Listed]) -> Text:
    """Every run: its name, then its model and date, state and refusals."""
    lines: list[Text] = []
    for one in found:
        lines.append(screen.safe(one.run.directory.name, "bold"))
        lines += [screen.safe(f"  {line}") for line in _lines(one)]
    return Text("\n").join(lines)


def tell_end(screen: Screen, run: RunRecord) -> bool:
    """Say where a run is and how to continue it; return whether it is complete."""
    screen.note(f"saved to {run.directory} (cna-mlx report {run.word})")
    if run.status == "complete":
        return True
    done = len(run.samples()) // len(run.arms)
    screen.note(
        f"{done} of {counted(run.planned, 'prompt')} answered; repeat the command to "
        "continue"
    )
    return False


def report_view(screen: Screen, report: Report) -> Text:
    """The most important figures of each run, and the report's files."""
    lines: list[Text] = []
    for run in report.content.runs:
        lines += _run(screen, run)
    lines.append(Text())
    lines += [screen.safe(str(path)) for path in report.files.values()]
    return Text("\n").join(lines)


def _run(screen: Screen, run: RunContent) -> Iterator[Text]:
    yield screen.safe(run.title, "bold")
    for alert in run.alerts:
        yield screen.safe(alert, "yellow")
    yield screen.safe(run.conclusion.headline)
    for name, value in run.glance:
        yield screen.safe(f"  {name}: {value}")


def _lines(one: Listed) -> Iterator[str]:
    run = one.run
    day = str(run.facts.updated or "")[:10]
    yield ", ".join(part for part in (str(run.config.model.id), day) if part)
    if one.done is None:
        yield f"{run.status}, but its samples are damaged"
        return
    yield f"{run.status}, {one.done} of {counted(run.planned, 'prompt')}"
    if one.before is not None:
        refused = f"refused {percent(one.before.value)}"
        after = f", {one.arm} {percent(one.after.value)}" if one.after else ""
        yield refused + after
