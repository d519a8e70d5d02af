"""The entry point: parse, call, render; every expected failure becomes one line."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from cna_mlx import cli_evaluation
from cna_mlx.cli_options import (
    Command,
    circuit_options,
    expect_option,
    hide_text_option,
    json_option,
    model_argument,
    model_options,
    rendering_of,
    rendering_options,
    selection_of,
    selection_options,
    source_of,
    walk_options,
)
from cna_mlx.errors import CnaError
from cna_mlx.models.open_files import check_open_files

_PROGRAM = "cna-mlx"
_INTERRUPTED = 130


@click.group(invoke_without_command=True)
@click.version_option(package_name="cna-mlx", prog_name=_PROGRAM)
@click.pass_context
def cli(context: click.Context) -> None:
    """Find the neurons behind a model's refusals, scale them, and see what changes.

    MODEL is a directory, a Hugging Face id, or demo: an embedded model that needs no
    download.

    \b
    Start with:
      cna-mlx demo
      cna-mlx chat mlx-community/Llama-3.2-1B-Instruct-4bit --ablate
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(
    cls=Command,
    example="cna-mlx discover demo -o magic.json\n"
    "cna-mlx discover ./model --positive yes.txt --negative no.txt --json",
)
@model_argument
@walk_options
@selection_options
@expect_option
@rendering_options
@click.option("-o", "--output", metavar="FILE", help="Write the circuit here.")
@json_option
def discover(model: str, output: str | None, as_json: bool, **rest: Any) -> None:
    """Find the neurons that tell two sets of prompts apart."""
    check_open_files()
    from cna_mlx.commands.discover import run_discover

    run_discover(
        model, source_of(rest), rendering_of(rest), selection_of(rest), output, as_json
    )


@cli.command(
    cls=Command,
    example='cna-mlx diff demo -p "How do I cast a sleep spell?"\n'
    "cna-mlx diff ./model --circuit refusal.json -m 0 -m 0.5 --prompts list.txt --json",
)
@model_argument
@model_options
@circuit_options
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="PROMPT", help="A prompt."
)
@click.option(
    "--prompts", "prompt_file", metavar="FILE", help="Prompts of a file; - for a pipe."
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=150,
    show_default=True,
    help="New tokens for each answer.",
)
@click.option("--svg", metavar="FILE", help="Draw what is shown as an SVG picture.")
@hide_text_option
@selection_options
@expect_option
@rendering_options
@json_option
def diff(model: str, **rest: Any) -> None:
    """Answer prompts with and without the circuit, side by side."""
    check_open_files()
    from cna_mlx.commands.diff import run_diff

    if not run_diff(
        model, source_of(rest), rendering_of(rest), selection_of(rest), **rest
    ):
        raise KeyboardInterrupt


@cli.command(
    cls=Command,
    example="cna-mlx chat demo --ablate\n"
    "cna-mlx chat ./model --circuit refusal.json@0.5 --temp 0.7 --seed 1\n"
    "cna-mlx chat ./model --circuit a.json@0 --circuit b.json@1.5",
)
@model_argument
@model_options
@click.option("--ablate", is_flag=True, help="Answer with the steered arm as well.")
@circuit_options
@click.option(
    "--temp",
    "temperature",
    type=float,
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 is greedy.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="For sampling.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="New tokens for each answer.",
)
@hide_text_option
@click.option(
    "--history/--no-history",
    default=True,
    show_default=True,
    help="Keep what is typed for the next session's arrow keys.",
)
@selection_options
@expect_option
@rendering_options
def chat(model: str, **rest: Any) -> None:
    """Talk to a model, and to the same model with its circuit scaled.

    Up to four arms answer at once: the baseline, and one for each circuit and
    multiplier.
    """
    check_open_files()
    from cna_mlx.commands.chat import run

    run(model, source_of(rest), rendering_of(rest), selection_of(rest), **rest)


@cli.command(
    cls=Command,
    example="cna-mlx probe demo --prompts questions.txt --csv\n"
    "cna-mlx probe ./model --contrast refusal",
)
@model_argument
@walk_options
@click.option(
    "--prompts", "prompt_file", metavar="FILE", help="Prompts of a file; - for a pipe."
)
@click.option(
    "--circuit", "circuits", multiple=True, metavar="FILE", help="A circuit file."
)
@click.option(
    "--allow-transfer",
    is_flag=True,
    help="Accept a circuit of other weights of the same shape.",
)
@selection_options
@rendering_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def probe(model: str, **rest: Any) -> None:
    """Rank prompts by how refusable the model takes them for; generates nothing.

    Without --prompts: how well the two sides of a contrast are told apart on prompts
    that had no part in finding the neurons, for the whole model and layer by layer.
    Works on base models as well.
    """
    check_open_files()
    from cna_mlx.commands.probe import run_probe

    run_probe(model, source_of(rest), rendering_of(rest), selection_of(rest), **rest)


@cli.group(
    invoke_without_command=True,
    epilog="\b\nExample:\n  cna-mlx circuit show magic.json",
)
@click.pass_context
def circuit(context: click.Context) -> None:
    """Look at circuit files."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@circuit.command("show", cls=Command, example="cna-mlx circuit show magic.json")
@click.argument("file")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many neurons to list.",
)
@json_option
def circuit_show(file: str, top: int, as_json: bool) -> None:
    """Show a circuit: layers as a bar chart, first neurons, where it came from."""
    check_open_files()
    from cna_mlx.commands.info import run_circuit_show

    run_circuit_show(file, as_json, top)


@cli.group(
    invoke_without_command=True,
    epilog="\b\nExample:\n  cna-mlx prompts\n  cna-mlx prompts show refusal",
)
@json_option
@click.pass_context
def prompts(context: click.Context, as_json: bool) -> None:
    """List the built-in prompt sets."""
    if context.invoked_subcommand is None:
        check_open_files()
        from cna_mlx.commands.info import run_prompts

        run_prompts(as_json)


@prompts.command("show", cls=Command, example="cna-mlx prompts show refusal-small")
@click.argument("name")
@json_option
def prompts_show(name: str, as_json: bool) -> None:
    """Print the prompts of a set."""
    check_open_files()
    from cna_mlx.commands.info import run_prompts_show

    run_prompts_show(name, as_json)


@cli.command(cls=Command, example="cna-mlx models --check")
@click.option("--check", is_flag=True, help="Ask the Hub which are there.")
@json_option
def models(check: bool, as_json: bool) -> None:
    """List the paper's models and which of them fit this machine."""
    check_open_files()
    from cna_mlx.commands.info import run_models

    run_models(check, as_json)


@cli.command(cls=Command, example='cna-mlx demo -p "Can you teach me a fire spell?"')
@click.option(
    "-p", "--prompt", "prompts", multiple=True, metavar="TEXT", help="Your question."
)
def demo(prompts: tuple[str, ...]) -> None:
    """Show the whole job on an embedded model; needs no download."""
    check_open_files()
    from cna_mlx.commands.demo import run_demo

    if not run_demo(prompts):
        raise KeyboardInterrupt


@cli.command(cls=Command, example="cna-mlx doctor\ncna-mlx doctor demo --json")
@click.argument("model", required=False)
@click.option(
    "--clear-cache", is_flag=True, help="Remove the kept circuits; do nothing else."
)
@model_options
@json_option
def doctor(model: str | None, clear_cache: bool, as_json: bool, **rest: Any) -> None:
    """Check this machine, and a MODEL on it, on one screen for an issue.

    Versions, memory, disk, the Hub, the terminal; then the device's arithmetic, the
    embedded models' stored figures and the laws of steering, and the bandwidth. Shows
    no user name, home directory or token. Exit code 1 if a check failed.
    """
    check_open_files()
    from cna_mlx.commands.doctor import run_clear_cache, run_doctor

    if clear_cache:
        run_clear_cache(model, as_json)
    else:
        run_doctor(model, source_of(rest), as_json)


cli_evaluation.register(cli)


# -------------------------------------------------------------------- the edge


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.stdin is None:  # closed: else the first file that is opened becomes it
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; failures are one line on stderr.

    Returns:
        0 done; 2 the request must change; 1 it failed on the way; 130 interrupted.
    """
    try:
        cli.main(list(arguments), prog_name=_PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _fail(_usage(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except CnaError as error:
        return _fail(str(error), error.exit_code)
    except (BrokenPipeError, SystemExit):  # click and Rich make the one the other
        # whoever read has enough: nothing may be written on the way out either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # no traceback reaches a user
        if os.environ.get("CNA_MLX_DEBUG"):
            raise
        return _fail(*_unexpected(error))
    return 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    # a message may quote a file, and a file may hold what a terminal would obey
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    click.echo(f"{_PROGRAM}: {safe}", err=True)
    return code


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _PROGRAM
    return f"{error.format_message()} ({command} --help)"


def _unexpected(error: Exception) -> tuple[str, int]:
    """What to say of an error that is not one of ours."""
    message = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError):
        return f"out of memory ({message or 'MemoryError'})", 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", 1
    return (
        f"unexpected {type(error).__name__}: {message}; please report it "
        "(CNA_MLX_DEBUG=1 shows where)",
        1,
    )


if __name__ == "__main__":
    main()
