"""Runs and reports on the screen: a few lines each, readable at 60 columns."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.report.content import RunContent
from cna_mlx.report.listing import Listed
from cna_mlx.report.runs_page import RunsPage, counts_text
from cna_mlx.report.writing import Report
from cna_mlx.ui.console import Screen, folded
from cna_mlx.util.formatting import counted, percent


def runs_view(screen: Screen, found: Sequence[Listed]) -> Text:
    """Every run: its name, then date and state, model and circuit, and its verdict."""
    lines: list[Text] = []
    for one in found:
        lines.append(screen.safe(" ".join(one.name.split()), "bold"))
        style = "yellow" if one.state == "damaged" else ""
        lines += [Text(line, style) for line in folded(screen, list(_lines(one)), 2)]
    return Text("\n").join(lines)


def runs_page_view(screen: Screen, page: RunsPage) -> Text:
    """How many runs a page lists, and where it is."""
    return Text("\n").join(
        [screen.safe(counts_text(page.runs)), screen.safe(str(page.path))]
    )


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
    yield ", ".join(filter(None, (one.date, one.state_text)))
    if about := ", ".join(filter(None, (one.model, one.circuit_text))):
        yield about
    if one.before is not None:
        rates = f"refused {percent(one.before.value)}"
        if one.arm and one.after:
            rates += f", {one.arm.label} {percent(one.after.value)}"
        yield f"{rates} of {counted(one.before.n, 'prompt')}"
    figures = one.figures
    yield from filter(None, (figures.headline, figures.problem, one.note))
