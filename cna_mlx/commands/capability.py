"""`capability`: run lm-evaluation-harness with and without the circuit."""

from typing import Any

import click

from cna_mlx.commands.options import (
    circuit_options,
    command,
    expect_option,
    json_option,
    model_argument,
    model_options,
    rendering_options,
    selection_of,
    selection_options,
    session_of,
)


@command(
    example="cna-mlx capability ./model --circuit refusal.json --tasks mmlu\n"
    "cna-mlx capability demo --tasks mine --include-path ./tasks --json",
)
@model_argument
@model_options
@circuit_options
@click.option(
    "--tasks",
    multiple=True,
    required=True,
    metavar="TASK[,TASK]",
    help="Tasks, groups or patterns of lm-eval, such as mmlu.",
)
@click.option(
    "--include-path",
    metavar="DIR",
    help="Look for tasks (YAML files of lm-eval) here as well.",
)
@click.option(
    "--num-shots",
    type=click.IntRange(min=0),
    metavar="N",
    help="Few-shot examples.  [default: as each task says]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="The first N items of each task only: to try it, not to report it.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Prompts that are generated from together.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=123,
    show_default=True,
    help="For drawing few-shot examples.",
)
@click.option(
    "--fewshot-as-multiturn",
    is_flag=True,
    help="Few-shot examples as turns of a conversation.",
)
@selection_options
@expect_option
@rendering_options
@json_option
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

    Accuracy and what else a task measures, for the baseline and for each multiplier,
    in one table. Needs the extra: pip install 'cna-mlx[eval]'.
    """
    from cna_mlx.evaluation.capability import Protocol
    from cna_mlx.evaluation.capability_run import CapabilityRun
    from cna_mlx.ui.capability import Conditions, capability_view
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.output import emit_json, show

    names = [name.strip() for text in tasks for name in text.split(",")]
    run = CapabilityRun.of(
        session_of(model, rest),
        [name for name in names if name],
        selection_of(rest),
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
