"""`stability`: measure how much a circuit depends on its prompts."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx stability demo\n"
    "cna-mlx stability ./model --rank influence --other flattery --out page.html",
)
@opt.model_argument
@opt.walk_options
@opt.selection_options
@opt.rendering_options
@click.option(
    "--other",
    "others",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.contrasts,
    help="Compare with the circuit of this built-in contrast; repeat for more.",
)
@opt.page_option("Write a page with charts.")
@opt.json_option
def stability(
    model: str,
    others: tuple[str, ...],
    out: str | None,
    force: bool,
    is_opened: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Measure how much a circuit depends on its prompts, its size and the filter.

    Finds the circuit again from resampled prompts, from fewer, and from halves of
    them, at several sizes. The prompts are read once, as in a discovery.
    """
    from cna_mlx.prompts import load_contrast
    from cna_mlx.report.stability_page import write_stability_page
    from cna_mlx.search.stability import stability as measure
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.stability import stability_view

    values.require(out or not is_opened, "--open needs --out FILE.html")
    values.check_output(out, "page", force)
    session, chosen = values.session_of(model, rest), values.selection_of(rest)
    further = [load_contrast(one) for one in others]
    session.load()
    with session.reporter.progress("layers") as progress:
        found = measure(
            *session.load(),
            chosen,
            others=further,
            rendering=session.rendering,
            progress=progress,
        )
    if out:
        write_stability_page(found, out)
    if out and is_opened:
        values.open_page(out)
    if as_json:
        emit_json({**found.to_dict(), "page": out})
        return
    show(stability_view(screen(), found))
    if out:
        session.reporter.note(f"page: {out}")
