"""`bench`: measure speed against plain mlx-lm."""

import time
from dataclasses import replace
from typing import Any

import click

from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx bench demo --short\ncna-mlx bench ./model --only arms --json",
)
@opt.model_argument
@opt.model_options
@click.option("--short", "is_short", is_flag=True, help="Measure less, in 30 s.")
@click.option(
    "--seconds",
    type=click.FloatRange(10),
    help="About how long to measure (default: 140); more gives more and larger runs.",
)
@click.option(
    "--only",
    type=click.Choice(["decoding", "arms", "discovery", "memory"]),
    multiple=True,
    help="Measure only this part; repeat for more parts.",
)
@opt.json_option
def bench(
    model: str,
    is_short: bool,
    seconds: float | None,
    only: tuple[str, ...],
    as_json: bool,
    **rest: Any,
) -> None:
    """Measure how fast this machine steers and reads a model, against plain mlx-lm.

    Each ratio compares two ways timed in turn: steered decoding, several arms,
    discovery. Also shows what the memory bandwidth allows, what more rows in a batch
    cost, and measured memory with its forecast. Each figure is printed as soon as it is
    known; Ctrl-C keeps them. Sizes are chosen so that everything fits into the time.
    """
    from cna_mlx.diagnostics.bench import SHORT, Bench, Settings, to_json
    from cna_mlx.ui.bench import closing_line, environment_lines, result_lines
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import progress_bar
    from cna_mlx.util.environment import environment

    session = values.session_of(model, rest)
    session.load()
    settings = SHORT if is_short else Settings()
    settings = replace(
        settings,
        parts=only or settings.parts,
        seconds=seconds or settings.seconds,
    )
    around = environment()
    entry: dict[str, Any] = {"complete": False, "model": session.name}
    found: list[Any] = []
    started = time.perf_counter()
    if not as_json:
        show(environment_lines(screen(), around))
    try:
        with progress_bar("done") as progress:
            for result in Bench(session, settings, progress=progress).run():
                found.append(result)
                if not as_json:
                    show(result_lines(screen(), result, found))
        entry["complete"] = True
    finally:
        taken = time.perf_counter() - started
        if as_json:
            entry |= {"seconds": round(taken, 1), **to_json(found)}
            emit_json({**entry, "environment": around})
    if not as_json:
        show(closing_line(taken))
