"""The class of commands: an example, options by their blocks, and Ctrl-C."""

from collections.abc import Callable, Sequence
from typing import Any

import click

_WHOLE = 200  # characters: more than a command's sentence has


class Command(click.Command):
    """A command with an example in its help."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        lines = "\n".join(f"  {line}" for line in example.splitlines())
        kwargs["epilog"] = f"\b\nExample:\n{lines}"
        super().__init__(*args, **kwargs)

    def format_options(
        self, context: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the command's own options, then the shared ones by their block."""
        blocks: dict[str, list[tuple[str, str]]] = {"Options": []}
        for one in self.get_params(context):
            record = one.get_help_record(context)
            if record and isinstance(one, click.Option):
                blocks.setdefault(getattr(one, "block", "Options"), []).append(record)
        for title, records in blocks.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, context: click.Context) -> Any:
        """Run the command; exit as interrupted if it returns False."""
        if super().invoke(context) is False:
            raise KeyboardInterrupt


class CommandGroup(click.Group):
    """A group whose help has each command's whole sentence."""

    def format_commands(
        self, context: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands and what they do."""
        names = self.list_commands(context)
        write_commands(self, context, formatter, "Commands", names)


def write_commands(
    group: click.Group,
    context: click.Context,
    formatter: click.HelpFormatter,
    title: str,
    names: Sequence[str],
    width: int = 0,
) -> None:
    """Write commands of a group under a heading; no sentence is cut off."""
    rows = [
        (name.ljust(width), one.get_short_help_str(_WHOLE))
        for name in names
        if (one := group.get_command(context, name))
    ]
    with formatter.section(title):
        formatter.write_dl(rows)


def command(
    name: str | None = None, *, example: str
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command; its function returns False if Ctrl-C ended it early."""
    return click.command(name, cls=Command, example=example)
