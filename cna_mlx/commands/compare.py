"""`compare`: compare two models or two runs."""

from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command
from cna_mlx.errors import InputError

if TYPE_CHECKING:
    from cna_mlx.analysis.comparison import ModelComparison
    from cna_mlx.evaluation.runs import RunRecord

_TYPED = click.core.ParameterSource.COMMANDLINE


@command(
    example="cna-mlx compare demo-base demo\n"
    "cna-mlx compare ./model-bf16 ./model-4bit --limit 50 --out ./comparison\n"
    "cna-mlx compare eval-demo-460fdcb54e ./my-run --json",
)
@click.argument("a", shell_complete=complete.models_and_runs)
@click.argument("b", shell_complete=complete.models_and_runs)
@click.option(
    "--offline", is_flag=True, help="Use what is on this machine; no network."
)
@click.option(
    "--circuit-a",
    metavar="FILE",
    shell_complete=complete.files,
    help="A's circuit, instead of the default.",
)
@click.option(
    "--circuit-b",
    metavar="FILE",
    shell_complete=complete.files,
    help="B's circuit, instead of the default.",
)
@opt.measuring_options
@opt.controls_option(default=5)
@opt.selection_options
@opt.rendering_options
@opt.json_option
@click.pass_context
def compare(
    context: click.Context, /, a: str, b: str, as_json: bool, **rest: Any
) -> bool:
    """Compare two models, or two runs: circuits, gauges, rates.

    Compare base and instruct, 4-bit and bf16, or a model and its fine-tune. Each model
    answers with its own circuit ablated and with the other's. The models are loaded one
    after the other. After Ctrl-C or a crash the same command resumes. Two runs are
    compared from their files, on the prompts that both answered.
    """
    from cna_mlx.analysis.compared_runs import compare_runs, run_of
    from cna_mlx.analysis.findings import findings, headline
    from cna_mlx.ui.compare import comparison_view
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.runs import tell_end

    runs = run_of(a), run_of(b)
    if runs[0] and runs[1]:
        if given := _given(context):
            raise InputError(
                "these options have no effect on two runs: leave out "
                f"{', '.join(given)}"
            )
        found = compare_runs(runs[0], runs[1])
    else:
        found = _compare_models((a, b), runs, rest)
    said = findings(found)
    if as_json:
        first = {"headline": headline(found), "statements": list(said)}
        emit_json({**found.to_dict(), **first})
    else:
        show(comparison_view(screen(), found, said))
    if all(runs):
        return True
    ends = [tell_end(screen(), one.run) for one in found.sides if one.run]
    return ends == [True, True]


def _compare_models(
    names: tuple[str, str],
    runs: "tuple[RunRecord | None, RunRecord | None]",
    rest: dict[str, Any],
) -> "ModelComparison":
    from cna_mlx.analysis.comparison_run import compare

    session = values.session_of(names[0], rest)
    return compare(
        runs[0] or names[0],
        runs[1] or names[1],
        circuits=(rest.pop("circuit_a"), rest.pop("circuit_b")),
        rendering=session.rendering,
        source=session.source,
        reporter=session.reporter,
        discovery=values.selection_of(rest),
        options=values.evaluation_of(rest),
        **rest,
    )


def _given(context: click.Context) -> list[str]:
    """Return the options that were typed and have no effect on runs."""
    flags = {one.name: one.opts[0] for one in context.command.params}
    return [
        flags[name]
        for name in context.params
        if name not in ("a", "b", "as_json", "offline")
        and context.get_parameter_source(name) is _TYPED
    ]
