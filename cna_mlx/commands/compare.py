"""`compare`: compare two models or two runs."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    evaluation_of,
    json_option,
    measuring_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
)

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
    context: click.Context, /, a: str, b: str, as_json: bool, offline: bool, **rest: Any
) -> bool:
    """Compare two models, or two runs: circuits, gauges, rates.

    For base and instruct, 4-bit and bf16, a model and its fine-tune. Each model answers
    with its own circuit at 0 and with the other's; the models are loaded in turn.
    After Ctrl-C or a crash the same command goes on. Two runs are compared from their
    files, on the prompts that both answered.
    """
    from cna_mlx.commands.old.compare import run_compare
    from cna_mlx.commands.old.options import ModelOptions

    source = context.get_parameter_source
    typed = [one for one in context.params if source(one) is _TYPED]
    flags = {one.name: one.opts[0] for one in context.command.params}
    given = [flags[one] for one in typed if one not in ("a", "b", "as_json", "offline")]
    circuits = rest.pop("circuit_a"), rest.pop("circuit_b")
    rendering = rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    return run_compare(
        (a, b),
        ModelOptions(None, offline),
        rendering,
        selection,
        options,
        circuits=circuits,
        as_json=as_json,
        given=given,
    )
