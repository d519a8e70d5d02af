"""The entry point: parse, call, render; every expected failure becomes one line."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from cna_mlx.errors import CnaError

_PROGRAM = "cna-mlx"
_INTERRUPTED = 130
# A command's module, where it is not called as the command is.
_MODULES = {"eval": "evaluate"}
_COMMANDS = (
    "demo",
    "discover",
    "search",
    "shrink",
    "diff",
    "chat",
    "probe",
    "circuit",
    "stability",
    "patch",
    "prompts",
    "audit",
    "eval",
    "verify",
    "compare",
    "capability",
    "report",
    "export",
    "runs",
    "label",
    "models",
    "doctor",
    "bench",
)


class Commands(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in _COMMANDS:
            return None
        name = _MODULES.get(name, name)
        command: click.Command = getattr(
            import_module(f"cna_mlx.commands.{name}"), name
        )
        return command


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"show_default": True},
)
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
