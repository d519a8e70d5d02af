"""The commands that measure: labels, evaluations, comparisons, runs and reports."""

from collections.abc import Callable
from typing import Any

import click

from cna_mlx.cli_options import (
    Command,
    circuit_options,
    expect_option,
    json_option,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
)
from cna_mlx.limits import check_open_files

_COMMANDS: list[click.Command] = []


def register(cli: click.Group) -> None:
    """Put this module's commands beside those of the main one."""
    for one in _COMMANDS:
        cli.add_command(one)


def command(*args: Any, **kwargs: Any) -> Callable[..., click.Command]:
    """``click.command``, and a place in :func:`register`."""
    make = click.command(*args, **kwargs)

    def decorate(function: Callable[..., Any]) -> click.Command:
        made: click.Command = make(function)
        _COMMANDS.append(made)
        return made

    return decorate


@command(
    cls=Command,
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
def capability(model: str, **rest: Any) -> None:
    """Run benchmarks of lm-evaluation-harness with and without the circuit.

    Accuracy and what else a task measures, for the baseline and for each multiplier,
    in one table. Needs the extra: pip install 'cna-mlx[eval]'.
    """
    check_open_files()
    from cna_mlx.commands.capability import run_capability

    if not run_capability(
        model, source_of(rest), rendering_of(rest), selection_of(rest), **rest
    ):
        raise KeyboardInterrupt
