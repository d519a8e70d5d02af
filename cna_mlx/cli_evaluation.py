"""The commands that measure: labels, evaluations, comparisons, runs and reports."""

from collections.abc import Callable
from typing import Any

import click

from cna_mlx.cli_options import (
    Command,
    circuit_options,
    evaluation_of,
    evaluation_options,
    expect_option,
    hide_text_option,
    json_option,
    measuring_options,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
    sweep_option,
)
from cna_mlx.models.open_files import check_open_files

_TYPED = click.core.ParameterSource.COMMANDLINE
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
    "eval",
    cls=Command,
    example="cna-mlx eval demo --sweep\n"
    "cna-mlx eval ./model --circuit refusal.json --prompts jbb --limit 50\n"
    "cna-mlx eval ./model --prompts harmful=mine.csv --prompts benign=theirs.txt",
)
@model_argument
@model_options
@evaluation_options
@sweep_option(default=False)
@selection_options
@rendering_options
@json_option
def evaluate(model: str, as_json: bool, allow_transfer: bool, **rest: Any) -> None:
    """Measure refusal rates with and without the circuit, beside controls.

    Each prompt is answered by all arms in one batch: baseline, ablated, and random
    neurons as controls. Rates come with intervals, quality, KL and exact tests. The
    samples are kept as a run; after Ctrl-C or a crash the same command goes on.
    """
    check_open_files()
    from cna_mlx.commands.evaluate import run_eval

    source, rendering = source_of(rest), rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    if not run_eval(
        model,
        source,
        rendering,
        selection,
        options,
        allow_transfer=allow_transfer,
        as_json=as_json,
    ):
        raise KeyboardInterrupt


@command(
    cls=Command,
    example="cna-mlx verify ./my-run --sample 10\n"
    "cna-mlx verify eval-demo-460fdcb54e --json",
)
@click.argument("run")
@click.option(
    "--sample",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many prompts to answer again, in all arms.",
)
@click.option("--model", help="Where the run's model is here, if it lies elsewhere.")
@click.option("--offline", is_flag=True, help="Touch no network.")
@json_option
def verify(run: str, **rest: Any) -> None:
    """Answer a few prompts of a run again, and say how many answers agree.

    For a colleague's machine: the same weights with the same rendering give the same
    tokens, but for rounding, which differs between devices.
    """
    check_open_files()
    from cna_mlx.commands.verify import run_verify

    if not run_verify(run, **rest):
        raise KeyboardInterrupt


@command(
    cls=Command,
    example="cna-mlx audit demo\n"
    "cna-mlx audit ./model --layers 8-23 --fraction 0.005 --limit 50",
)
@model_argument
@model_options
@evaluation_options
@sweep_option(default=True)
@selection_options
@rendering_options
@json_option
def audit(model: str, as_json: bool, allow_transfer: bool, **rest: Any) -> None:
    """Discover, evaluate, sweep and judge: one command, one report.

    The first screen says in plain words whether refusals fell, beyond what as active
    random neurons do, or whether the model broke; how sure that is, and for what.
    After Ctrl-C or a crash the same command goes on.
    """
    check_open_files()
    from cna_mlx.commands.audit import run_audit

    source, rendering = source_of(rest), rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    if not run_audit(
        model,
        source,
        rendering,
        selection,
        options,
        allow_transfer=allow_transfer,
        as_json=as_json,
    ):
        raise KeyboardInterrupt


@command(
    cls=Command,
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
) -> None:
    """Compare two models, or two runs: circuits, gauges, rates.

    For base and instruct, 4-bit and bf16, a model and its fine-tune. Each model answers
    with its own circuit at 0 and with the other's; the models are loaded in turn.
    After Ctrl-C or a crash the same command goes on. Two runs are compared from their
    files, on the prompts that both answered.
    """
    check_open_files()
    from cna_mlx.commands.compare import run_compare
    from cna_mlx.commands.options import ModelOptions

    source = context.get_parameter_source
    typed = [one for one in context.params if source(one) is _TYPED]
    flags = {one.name: one.opts[0] for one in context.command.params}
    given = [flags[one] for one in typed if one not in ("a", "b", "as_json", "offline")]
    circuits = rest.pop("circuit_a"), rest.pop("circuit_b")
    rendering = rendering_of(rest)
    selection, options = selection_of(rest), evaluation_of(rest)
    if not run_compare(
        (a, b),
        ModelOptions(None, offline),
        rendering,
        selection,
        options,
        circuits=circuits,
        as_json=as_json,
        given=given,
    ):
        raise KeyboardInterrupt


@command(
    cls=Command,
    example="cna-mlx report eval-demo-460fdcb54e\n"
    "cna-mlx report ./my-run --hide-text\n"
    "cna-mlx report ./llama ./qwen --out compared",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    metavar="DIR",
    help="Where the report goes.  [default: the run's own directory]",
)
@click.option(
    "--relabel", is_flag=True, help="Label the answers anew with this version."
)
@click.option(
    "--hide-text",
    is_flag=True,
    help="No more of prompts and answers than their first words.",
)
@click.option("--full-text", is_flag=True, help="The whole answers.")
@json_option
def report(
    runs: tuple[str, ...], hide_text: bool, full_text: bool, **rest: Any
) -> None:
    """Write what runs show as one page, as Markdown and as CSV.

    A RUN is its directory, or a name that cna-mlx runs lists. report.html needs nothing
    but itself: open it in a browser, send it to a colleague. Answers are cut to their
    beginnings unless told otherwise. Several runs make a table.
    """
    check_open_files()
    from cna_mlx.commands.report import run_report

    run_report(runs, hides_text=hide_text, is_full=full_text, **rest)


@command(cls=Command, example="cna-mlx runs\ncna-mlx runs --json")
@json_option
def runs(as_json: bool) -> None:
    """List what was measured here, the latest first."""
    check_open_files()
    from cna_mlx.commands.runs import run_runs

    run_runs(as_json)


@command(
    "label",
    cls=Command,
    example="cna-mlx label answers.jsonl\n"
    "cna-mlx label answers.csv --column reply --json\n"
    "cat answers.jsonl | cna-mlx label -",
)
@click.argument("file")
@click.option(
    "--column",
    metavar="NAME",
    help="The column or key with the answers.  [default: text, answer, response, "
    "completion or output]",
)
@hide_text_option
@json_option
def label_answers(file: str, **rest: Any) -> None:
    """Label the answers of a FILE: refused, answered, partial or invalid.

    FILE is JSON Lines (objects with the answer as text, optionally its prompt; or -
    for standard input), a .json list, .csv or .tsv with a header. No model is needed.
    """
    check_open_files()
    from cna_mlx.commands.label import run_label

    run_label(file, **rest)


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


@command(
    cls=Command,
    example="cna-mlx bench demo --short\ncna-mlx bench ./model --only arms --json",
)
@model_argument
@model_options
@click.option("--short", "is_short", is_flag=True, help="Measure less.")
@click.option(
    "--only",
    type=click.Choice(["decoding", "arms", "discovery", "memory"]),
    multiple=True,
    help="Measure this part alone; more than once for more parts.",
)
@json_option
def bench(model: str, **rest: Any) -> None:
    """Measure how fast a model is steered and read here, against plain mlx-lm.

    Ratios of two ways timed in turn: steered decoding, several arms, discovery; with
    what the memory bandwidth allows, and the memory held beside its forecast.
    """
    check_open_files()
    from cna_mlx.commands.bench import run_bench

    run_bench(model, source_of(rest), **rest)
