"""`runs`: what was measured here."""

from cna_mlx.commands.output import emit_json, show
from cna_mlx.evaluation.runs import runs_directory
from cna_mlx.report.listing import listed_runs
from cna_mlx.ui.console import screen
from cna_mlx.ui.runs import runs_view


def run_runs(as_json: bool) -> None:
    """List the runs of the default directory, the latest first."""
    place = runs_directory()
    found = listed_runs(place)
    if as_json:
        emit_json({"directory": str(place), "runs": [one.to_json() for one in found]})
        return
    if not found:
        screen().note(
            f"no run in {place} yet: cna-mlx eval demo makes one in a few minutes"
        )
        return
    show(runs_view(screen(), found))
    screen().note(f"they lie in {place}; cna-mlx report NAME makes a page of one")
