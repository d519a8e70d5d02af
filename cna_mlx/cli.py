"""The entry point: parse, call, render; every expected failure becomes one line."""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

import click

from cna_mlx.commands.command import write_commands
from cna_mlx.errors import CnaError, InputError, OutOfMemoryError
from cna_mlx.util import ranks
from cna_mlx.util.interrupt import Terminated, obey_ctrl_c_together, obey_signals
from cna_mlx.util.rank_link import RankLink

_PROGRAM = "cna-mlx"
_INTERRUPTED = 130
# A command's module, where it is not called as the command is.
_MODULES = {"eval": "evaluate"}
# The commands of the help, by what they are for.
_GROUPS = {
    "Start": ("demo", "chat", "diff"),
    "Find a circuit": ("discover", "search", "shrink", "stability"),
    "Look inside": ("circuit", "probe", "patch", "prompts"),
    "Serve": ("serve",),
    "Measure": ("audit", "eval", "verify", "compare", "capability", "label"),
    "Report": ("report", "runs", "export"),
    "Models and this machine": ("models", "doctor", "bench"),
}
# What several ranks do together under mlx.launch: see docs/two-macs.md.
_SHARED = ("discover", "diff", "chat", "eval", "serve")
_COMMANDS = tuple(name for names in _GROUPS.values() for name in names)
_WIDEST = max(map(len, _COMMANDS))
# What users of ollama, mlx_lm and lm-eval type, and what it is here.
_HABITS = {
    **dict.fromkeys(("list", "ls", "ps"), "cna-mlx models lists the models here"),
    "run": "cna-mlx chat MODEL talks to a model",
    "generate": "cna-mlx chat MODEL PROMPT answers once",
    "pull": "a model is fetched when it is first used: cna-mlx chat MODEL",
    "show": "cna-mlx circuit show FILE, or cna-mlx doctor MODEL",
    "evaluate": "cna-mlx eval MODEL measures refusals, cna-mlx capability benchmarks",
    "version": "cna-mlx --version",
    "help": "cna-mlx --help",
    "--model": "the model is the first argument: cna-mlx COMMAND MODEL",
    "--temperature": "it is --temp",
    "--top_p": "it is --top-p",
    "--top_k": "it is --top-k",
    "--min_p": "it is --min-p",
    "--max_tokens": "it is --max-tokens",
    "--max-new-tokens": "it is --max-tokens",
    "--num-predict": "it is --max-tokens",
    "--system-prompt": "it is --system",
    "--tasks": "cna-mlx capability runs tasks of lm-eval",
}


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

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; say what another tool's or a mistyped one is called here."""
        if (name := arguments[0]) not in _COMMANDS:
            close = get_close_matches(name, _COMMANDS, 1)
            hint = _HABITS.get(name) or (close and f"did you mean {close[0]}?")
            if hint:
                raise click.UsageError(f"no command {name!r}: {hint}", context)
        return super().resolve_command(context, arguments)

    def format_commands(
        self, context: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands by what they are for, each with its whole sentence."""
        for title, names in _GROUPS.items():
            write_commands(self, context, formatter, title, names, _WIDEST)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="cna-mlx", prog_name=_PROGRAM)
@click.pass_context
def cli(context: click.Context) -> None:
    """Find the neurons behind a model's refusals, scale them, and see what changes.

    MODEL is a directory, a Hugging Face id, or demo: an embedded model that needs no
    download. COMMAND -h shows a command's options.

    \b
    Start with:
      cna-mlx demo
      cna-mlx chat mlx-community/Llama-3.2-1B-Instruct-4bit --ablate
    """
    name = context.invoked_subcommand
    if name is None:
        click.echo(context.get_help())
    elif name not in _SHARED and ranks.count() > 1:
        raise InputError(
            f"{name} works on one machine: start it without mlx.launch; "
            f"{', '.join(_SHARED)} work on several"
        )


def main() -> None:
    """Run the command line and exit with its code."""
    for handle, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: else the next file becomes it
            null = os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if handle else "r")
            setattr(sys, name, null)
    obey_signals()
    try:
        ranks.enter()
        obey_ctrl_c_together()
        if (link := RankLink.connected()) is not None:
            _links.append(link)
        code = run(sys.argv[1:])
    except Terminated as signalled:
        code = 128 + signalled.number
    except CnaError as error:  # from before the command
        code = _fail(str(error), error.exit_code, is_own=True)
    except RuntimeError as error:
        if not ranks.is_lost(error):
            raise
        code = _fail("another rank is gone", 1, is_own=True)
    for link in _links:
        link.leave(code)
    sys.exit(code)


_links: list[RankLink] = []  # one, among several ranks


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
        is_own = isinstance(error, OutOfMemoryError)
        return _fail(str(error), error.exit_code, is_own=is_own)
    except (BrokenPipeError, SystemExit):  # click and Rich make the one the other
        # whoever read has enough: nothing may be written on the way out either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # no traceback reaches a user
        if os.environ.get("CNA_MLX_DEBUG") or ranks.is_lost(error):
            raise
        return _fail(*_unexpected(error), is_own=True)
    return 0


def _fail(message: str, code: int, *, is_own: bool = False) -> int:
    """Print a line; of another rank than the first only what is its own failure."""
    for link in _links if is_own else ():
        link.end_if_alone()
    line = " ".join(message.split())
    # a message may quote a file, and a file may hold what a terminal would obey
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    who = "" if ranks.is_first() else f"rank {ranks.rank()}: "
    said = f"{_PROGRAM}: {who}{safe}"
    if is_own:
        click.echo(said, file=ranks.voice())
    else:
        click.echo(said, err=True)
    return code


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else _PROGRAM
    said = error.format_message()
    if habit := _HABITS.get(getattr(error, "option_name", "")):
        said = f"no such option {error.option_name}: {habit}"  # type: ignore[attr-defined]
    return f"{said} ({command} --help)"


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
