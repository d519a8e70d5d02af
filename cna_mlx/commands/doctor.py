"""`doctor`: check this machine and a model on it."""

from typing import Any

import click

from cna_mlx.commands.options import (
    command,
    json_option,
    model_options,
    source_of,
)


@command(example="cna-mlx doctor\ncna-mlx doctor demo --json")
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
    from cna_mlx.commands.old.doctor import run_clear_cache, run_doctor

    if clear_cache:
        run_clear_cache(model, as_json)
    else:
        run_doctor(model, source_of(rest), as_json)
