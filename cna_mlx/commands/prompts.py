"""`prompts`: list and print the built-in prompt sets."""

from dataclasses import asdict

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import Command, CommandGroup
from cna_mlx.commands.options import json_option
from cna_mlx.errors import InputError


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    epilog="\b\nExample:\n  cna-mlx prompts\n  cna-mlx prompts show refusal",
)
@json_option
@click.pass_context
def prompts(context: click.Context, as_json: bool) -> None:
    """List the built-in prompt sets."""
    if context.invoked_subcommand is not None:
        return
    from cna_mlx.prompts import contrast_names, load_contrast
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.lists import prompt_sets_view
    from cna_mlx.ui.output import emit_json, show

    sets = [load_contrast(name) for name in contrast_names()]
    if not as_json:
        show(prompt_sets_view(screen(), sets))
        return
    entries = [
        {
            "name": one.name,
            "description": one.description,
            "positive": {"label": one.positive_label, "prompts": one.sizes[0]},
            "negative": {"label": one.negative_label, "prompts": one.sizes[1]},
            "sha256": one.sha256,
        }
        for one in sets
    ]
    emit_json({"prompt_sets": entries})


@prompts.command(
    "show",
    cls=Command,
    example="cna-mlx prompts show refusal-small\ncna-mlx prompts show jbb",
)
@click.argument("name", shell_complete=complete.prompt_sets)
@click.option(
    "--offline", is_flag=True, help="Use what is on this machine; no network."
)
@json_option
def prompts_show(name: str, offline: bool, as_json: bool) -> None:
    """Print the prompts of a contrast, or of jbb, jbb-benign, xstest or demo."""
    from cna_mlx.prompts import contrast_names, load_contrast
    from cna_mlx.prompts.benchmarks import NAMES
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.lists import prompts_view
    from cna_mlx.ui.output import emit_json, show

    if name in NAMES:
        _show_benchmark(name, offline, as_json)
        return
    if name not in (known := contrast_names()):
        raise InputError(
            f"no prompts {name!r}: there are {', '.join((*known, *NAMES))}"
        )
    one = load_contrast(name)
    if not as_json:
        show(prompts_view(screen(), one))
        return
    emit_json(
        {
            "name": one.name,
            "description": one.description,
            "positive": list(one.positive),
            "negative": list(one.negative),
            "positive_label": one.positive_label,
            "negative_label": one.negative_label,
        }
    )


def _show_benchmark(name: str, offline: bool, as_json: bool) -> None:
    from cna_mlx.prompts.benchmarks import load_benchmark
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.lists import benchmark_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter

    with terminal_reporter().progress("files") as progress:
        one = load_benchmark(name, offline=offline, progress=progress)
    if as_json:
        emit_json({**one.to_dict(), "prompts": [asdict(p) for p in one.prompts]})
    else:
        show(benchmark_view(screen(), one))
