"""The values that the shared options make."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.errors import InputError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.discovery.session import Session
    from cna_mlx.evaluation.options import EvalOptions
    from cna_mlx.models.loading import ModelOptions, Streaming
    from cna_mlx.prompts.chat_template import Rendering
    from cna_mlx.util.overwriting import Kind


def session_of(model: str, rest: dict[str, Any]) -> "Session":
    """Return a session that reports to the terminal; its model is not loaded yet."""
    from cna_mlx.discovery.session import Session
    from cna_mlx.ui.progress import terminal_reporter

    rendering, source = _rendering(rest), source_options(rest)
    transfer = rest.pop("allow_transfer", False)
    return Session(model, rendering, source, transfer, terminal_reporter())


def source_options(rest: dict[str, Any]) -> "ModelOptions":
    from cna_mlx.models.loading import ModelOptions

    # without the option the command needs all weights in memory
    chosen: dict[bool | None, Streaming] = {None: "auto", True: "yes", False: "no"}
    stream = chosen[rest.pop("stream", False)]
    return ModelOptions(rest.pop("revision", None), rest.pop("offline", False), stream)


def _rendering(rest: dict[str, Any]) -> "Rendering":
    from cna_mlx.prompts.chat_template import DEFAULT_DATE, Rendering

    day, system = rest.pop("date", None), rest.pop("system", None)
    try:
        day = DEFAULT_DATE if day is None else date.fromisoformat(day)
    except ValueError:
        raise InputError(f"--date {day!r}: write it as 2024-07-26") from None
    return Rendering(
        rest.pop("chat_template", "auto"),
        system and typed(system, "--system"),
        rest.pop("thinking", "off") == "on",
        day,
    )


def use_search(
    session: "Session", discovery: "DiscoveryOptions", rest: dict[str, Any]
) -> None:
    """With ``--search`` put the circuit of a search in the place of ``--circuit``."""
    if not rest.pop("is_searched"):
        return
    from cna_mlx.search.cached import searched_circuit
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.search import live_table

    require(not rest["circuits"], "give --search or --circuit, not both")
    with live_table(screen()) as shown:
        rest["circuits"] = (searched_circuit(session, discovery, shown),)


def selection_of(rest: dict[str, Any]) -> "DiscoveryOptions":
    from cna_mlx.discovery.options import DiscoveryOptions

    names = ("contrast", "positive", "negative", "column", "fraction", "layers", "rank")
    chosen = {name: rest.pop(name) for name in (*names, "universal", "positions")}
    chosen["layers"] = _band(chosen["layers"])
    expect, limit = rest.pop("expect", False), rest.pop("side_limit", None)
    return read_sides(DiscoveryOptions(**chosen, expect=expect, limit=limit))


def read_sides(options: "DiscoveryOptions") -> "DiscoveryOptions":
    """Read the files of ``--positive`` and ``--negative``; say which columns."""
    from cna_mlx.ui.progress import terminal_reporter

    return options.read(terminal_reporter(), offline=_is_offline())


def prompts_of(file: str, column: str | None = None) -> list[str]:
    """Read the prompts of ``--prompts`` or ``--text``; say which column."""
    from cna_mlx.prompts import read_prompts
    from cna_mlx.ui.progress import terminal_reporter

    reporter = terminal_reporter()
    return read_prompts(file, column, offline=_is_offline(), reporter=reporter)


def _is_offline() -> bool:
    return bool(click.get_current_context().params.get("offline"))


def _band(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise InputError(f"--layers {text!r}: write it as 8-23")
    return int(first), int(last)


def evaluation_of(rest: dict[str, Any]) -> "EvalOptions":
    from cna_mlx.evaluation.options import EvalOptions

    names = {field.name for field in fields(EvalOptions)} & set(rest)
    return EvalOptions(**{name: rest.pop(name) for name in names})


def check_output(path: str | None, kind: "Kind", force: bool) -> None:
    """Check that a file may be written; ask before one is replaced, on a terminal.

    Raises:
        InputError: it may not, or cannot.
    """
    from cna_mlx.util.overwriting import check_replaceable

    check_replaceable(path, kind, force=force, confirm=_confirm)


def open_page(path: "str | Path") -> None:
    """Open a page in the browser; say where it is if that fails."""
    from cna_mlx.ui.console import screen

    if not _is_opened(path):
        screen().note(f"no browser could be opened: open {path} yourself", "yellow")


def _is_opened(path: "str | Path") -> bool:
    if sys.platform == "darwin":
        return click.launch(str(path)) == 0
    # elsewhere click does not wait for xdg-open, which complains in many lines
    import webbrowser
    from pathlib import Path

    return webbrowser.open(Path(path).resolve().as_uri())


def _confirm(question: str) -> bool:
    is_answered = sys.stdin.isatty() and sys.stderr.isatty()
    return is_answered and click.confirm(question, err=True)


def typed_prompts(prompt: str | None, prompts: Sequence[str]) -> list[str]:
    """The prompts of the command line: the argument, then those of ``-p``."""
    given = [] if prompt is None else [typed(prompt, "PROMPT")]
    return given + [typed(one, "-p") for one in prompts]


def typed(text: str, where: str) -> str:
    """Decode a prompt from the command line in any locale.

    Raises:
        InputError: it is blank or not UTF-8.
    """
    from cna_mlx.prompts.validation import check_prompt

    # Python hides bytes that the locale cannot decode in half surrogate pairs
    whole = text.encode("utf-8", "surrogateescape")
    return check_prompt(whole.decode("utf-8", "surrogateescape"), where)


def require(condition: object, message: str) -> None:
    """Raise an error unless a condition holds.

    Raises:
        RequestError: it does not.
    """
    if not condition:
        raise RequestError(message)
