"""`runs`: list what was measured here."""

from cna_mlx.commands.command import command
from cna_mlx.commands.options import json_option


@command(example="cna-mlx runs\ncna-mlx runs --json")
@json_option
def runs(as_json: bool) -> None:
    """List runs on this machine, the latest first.

    Each with its model, circuit, refusals and verdict. cna-mlx report --all makes the
    same list a page.
    """
    from cna_mlx.evaluation.runs import runs_directory
    from cna_mlx.report.listing import listed_runs
    from cna_mlx.report.runs_page import no_run
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter
    from cna_mlx.ui.runs import runs_view

    place = runs_directory()
    found = listed_runs(place, reporter=terminal_reporter())
    if as_json:
        emit_json({"directory": str(place), "runs": [one.to_dict() for one in found]})
        return
    if not found:
        screen().note(no_run(place))
        return
    show(runs_view(screen(), found))
    screen().note(
        f"stored in {place}; cna-mlx report NAME writes a page about one, "
        "cna-mlx report --all one of all"
    )
