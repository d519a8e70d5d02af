"""The commands that measure: labels, evaluations, comparisons, runs and reports."""

from collections.abc import Callable
from typing import Any

import click

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
