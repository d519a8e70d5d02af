"""`capability`: run lm-evaluation-harness with and without the circuit."""

from typing import Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands import options as opt
from cna_mlx.commands import values
from cna_mlx.commands.command import command


@command(
    example="cna-mlx capability ./model --circuit refusal.json --tasks mmlu\n"
    "cna-mlx capability demo --tasks mine --include-path ./tasks --json",
)
@opt.model_argument
@opt.model_options
@opt.circuit_options
@click.option(
    "--tasks",
    multiple=True,
    required=True,
    metavar="TASK[,TASK]",
    help="Tasks, groups or patterns of lm-eval, for example mmlu.",
)
@click.option(
    "--include-path",
    metavar="DIR",
    shell_complete=complete.directories,
    help="Also look for tasks (YAML files of lm-eval) here.",
)
@click.option(
    "--num-shots",
    type=click.IntRange(min=0),
    metavar="N",
    help="Number of few-shot examples.  [default: the task's]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only the first N items of each task, for a quick try.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    help="Prompts per batch when generating.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=123,
    help="Seed for drawing few-shot examples.",
)
@click.option(
    "--fewshot-as-multiturn",
    is_flag=True,
    help="Give few-shot examples as turns of a conversation.",
)
@opt.selection_options
@opt.expect_option
@opt.rendering_options
@opt.json_option
def capability(
    model: str,
    tasks: tuple[str, ...],
    include_path: str | None,
    limit: int | None,
    batch_size: int,
    seed: int,
    fewshot_as_multiturn: bool,
    as_json: bool,
    **rest: Any,
) -> bool:
    """Run benchmarks of lm-evaluation-harness with and without the circuit.

    Shows each task's metrics for the baseline and every multiplier in one table. Needs
    an extra: pip install 'cna-mlx[eval]'.
    """
    from cna_mlx.evaluation.capability import Protocol
    from cna_mlx.evaluation.capability_run import CapabilityRun
    from cna_mlx.ui.capability import Conditions, capability_view
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show

    names = [name.strip() for text in tasks for name in text.split(",")]
    run = CapabilityRun.of(
        values.session_of(model, rest),
        [name for name in names if name],
        values.selection_of(rest),
        include_path=include_path,
        protocol=Protocol(limit, batch_size, seed, fewshot_as_multiturn),
        **rest,
    )
    try:
        return run.run()
    finally:  # finished arms are printed even if later ones fail
        if run.results and as_json:
            emit_json(run.to_dict())
        elif run.results:
            show(capability_view(screen(), run.results, Conditions.of(run)))
