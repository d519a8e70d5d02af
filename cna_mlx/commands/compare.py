"""`compare`: compare two models or two runs."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    evaluation_of,
    json_option,
    measuring_options,
    rendering_options,
    selection_of,
    selection_options,
    session_of,
)
from cna_mlx.errors import InputError

_TYPED = click.core.ParameterSource.COMMANDLINE


@command(
    example="cna-mlx compare demo-base demo\n"
    "cna-mlx compare ./model-bf16 ./model-4bit --limit 50 --out ./comparison\n"
    "cna-mlx compare eval-demo-460fdcb54e ./my-run --json",
)
@click.argument("a")
@click.argument("b")
@click.option("--offline", is_flag=True, help="Use what is here; touch no network.")
@click.option("--circuit-a", metavar="FILE", help="A's circuit, if not the default.")
@click.option("--circuit-b", metavar="FILE", help="B's circuit, if not the default.")
@measuring_options
@selection_options
@rendering_options
@json_option
@click.pass_context
def compare(
    context: click.Context, /, a: str, b: str, as_json: bool, **rest: Any
) -> bool:
    """Compare two models, or two runs: circuits, gauges, rates.

    For base and instruct, 4-bit and bf16, a model and its fine-tune. Each model answers
    with its own circuit at 0 and with the other's; the models are loaded in turn.
    After Ctrl-C or a crash the same command goes on. Two runs are compared from their
    files, on the prompts that both answered.
    """
    from cna_mlx.analysis import comparison_run as library
    from cna_mlx.analysis.findings import findings
    from cna_mlx.ui.compare import comparison_view
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end

    runs = library.run_of(a), library.run_of(b)
    if all(runs) and (given := _given(context)):
        raise InputError(
            f"two runs are compared as they are: leave out {', '.join(given)}"
        )
    session = session_of(a, rest)
    found = library.compare(
        runs[0] or a,
        runs[1] or b,
        circuits=(rest.pop("circuit_a"), rest.pop("circuit_b")),
        rendering=session.rendering,
        source=session.source,
        reporter=session.reporter,
        discovery=selection_of(rest),
        options=evaluation_of(rest),
        **rest,
    )
    said = findings(found)
    if as_json:
        emit_json({**found.to_dict(), "statements": list(said)})
    else:
        show(comparison_view(screen(), found, said))
    if all(runs):
        return True
    ends = [tell_end(screen(), one.run) for one in found.sides if one.run]
    return ends == [True, True]


def _given(context: click.Context) -> list[str]:
    """The options that were typed and mean nothing for runs."""
    flags = {one.name: one.opts[0] for one in context.command.params}
    return [
        flags[name]
        for name in context.params
        if name not in ("a", "b", "as_json", "offline")
        and context.get_parameter_source(name) is _TYPED
    ]
