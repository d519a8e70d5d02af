"""Print results on stdout: JSON, views and lines."""

import json
from typing import Any

from rich.text import Text

from cna_mlx.ui.console import screen

SCHEMA_VERSION = 1


def emit_json(data: dict[str, Any]) -> None:
    """Print a command's result as JSON on stdout."""
    # JSON's own escapes where the locale lacks a character: \\xe9 is not one of them
    text = json.dumps(
        {"schema_version": SCHEMA_VERSION, **data}, ensure_ascii=screen().is_ascii
    )
    # not through Rich: it would wrap, and escape what is already escaped
    screen().out.file.write(text + "\n")


def show(view: Any) -> None:
    """Print a result on stdout; wrapped for people, whole lines on a pipe."""
    screen().show(view)


def say(text: str) -> None:
    """Print a line of plain text on stdout."""
    show(Text(text))
