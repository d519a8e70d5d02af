"""The class of commands, the options they share, and the values these make."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.errors import InputError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.discovery.session import Session
    from cna_mlx.evaluation.options import EvalOptions
    from cna_mlx.models.loading import ModelOptions, Streaming
    from cna_mlx.prompts.chat_template import Rendering
    from cna_mlx.strength import Strength
    from cna_mlx.util.overwriting import Kind

_WHOLE = 200  # characters: more than a command's sentence has
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command with an example in its help.

    Attributes:
        loads_model: check first that mlx_lm can be imported.
    """

    def __init__(
        self, *args: Any, example: str, loads_model: bool = True, **kwargs: Any
    ) -> None:
        lines = "\n".join(f"  {line}" for line in example.splitlines())
        kwargs["epilog"] = f"\b\nExample:\n{lines}"
        super().__init__(*args, **kwargs)
        self.loads_model = loads_model

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
        if self.loads_model:
            from cna_mlx.models.open_files import check_open_files

            check_open_files()
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
    name: str | None = None, *, example: str, loads_model: bool = True
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command; its function returns False if Ctrl-C ended it early."""
    return click.command(name, cls=Command, example=example, loads_model=loads_model)


def options(*several: _Decorator) -> _Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


def block(title: str, *several: _Decorator) -> _Decorator:
    """Options that stand under a heading of their own in the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        before = len(getattr(command, "__click_params__", ()))
        command = options(*several)(command)
        for one in command.__click_params__[before:]:  # type: ignore[attr-defined]
            one.block = getattr(one, "block", title)
        return command

    return decorate


model_options = block(
    "Model",
    click.option(
        "--revision",
        metavar="REV",
        help="Branch, tag or commit of a hub id; a branch checks for a newer version.",
    ),
    click.option(
        "--offline", is_flag=True, help="Use what is on this machine; no network."
    ),
)
# For commands that need one layer in memory at a time.
walk_options = block(
    "Model",
    model_options,
    click.option(
        "--stream/--no-stream",
        default=None,
        help="Read one layer at a time from disk.  "
        "[default: if the weights and a discovery do not fit in memory]",
    ),
)
rendering_options = block(
    "Chat template",
    click.option(
        "--chat-template",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        help="Use the tokenizer's chat template (auto: if it has one).",
    ),
    click.option("--system", metavar="TEXT", help="System prompt."),
    click.option(
        "--thinking",
        type=click.Choice(["on", "off"]),
        default="off",
        help="Let models that can think write their thoughts.",
    ),
    click.option(
        "--date",
        metavar="YYYY-MM-DD",
        help="Date given to templates that print today's date.  [default: 2024-07-26]",
    ),
)
contrast_options = block(
    "Prompts of the discovery",
    click.option(
        "--contrast",
        metavar="NAME",
        help="A built-in contrast (see cna-mlx prompts).",
        shell_complete=complete.contrasts,
    ),
    click.option(
        "--positive",
        metavar="FILE",
        help="Your prompts that show the behaviour: FILE, FILE:COLUMN, or "
        "org/set:split:column on the Hub.",
        shell_complete=complete.files,
    ),
    click.option(
        "--negative",
        metavar="FILE",
        help="Your prompts that do not.",
        shell_complete=complete.files,
    ),
    click.option(
        "--column",
        metavar="NAME",
        help="Column or key that holds the prompts in files without their own.",
    ),
)
universal_option = block(
    "Neurons of the discovery",
    click.option(
        "--universal/--no-universal",
        default=True,
        help="Leave out neurons that respond to every contrast.",
    ),
)
selection_options = block(
    "Neurons of the discovery",
    contrast_options,
    click.option(
        "--fraction",
        type=float,
        metavar="X",
        help="Share of all neurons to keep.  [default: 0.001; demo: 0.0025]",
    ),
    click.option("--layers", metavar="A-B", help="Rank within these layers only."),
    click.option(
        "--rank",
        type=click.Choice(
            [
                *("delta", "normalized", "weighted", "residual"),
                *("direct", "influence", "causal"),
            ]
        ),
        default="delta",
        help="Score: |delta| (the paper's), over the layer's RMS, or times the output "
        "norm; or what a neuron adds to the difference of the residual stream "
        "(residual, without the last two fifths of the layers) or to the first words "
        "of refusals: direct (without the last tenth), by gradient (influence) or by "
        "ablating it alone (causal; both without the last third).",
    ),
    click.option(
        "--positions",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Score at the prompt's last N tokens.",
    ),
    universal_option,
)
search_option = click.option(
    "--search",
    "is_searched",
    is_flag=True,
    help="Use the circuit of cna-mlx search, an earlier one's if there is one.",
)
expect_option = click.option(
    "--expect/--no-expect",
    default=True,
    help="Try a new circuit on a few held-out prompts (up to a minute).",
)


class _Strength(click.ParamType):  # type: ignore[type-arg]  # one since click 8.4
    """A multiplier, ``mean`` or ``pin=C``."""

    name = "multiplier"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Strength":
        from cna_mlx.strength import parse_strength

        if not isinstance(value, str):
            return value
        try:
            return parse_strength(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


transfer_option = click.option(
    "--allow-transfer",
    is_flag=True,
    help="Accept a circuit found on other weights of the same shape.",
)
circuit_options = block(
    "Circuit",
    click.option(
        "--circuit",
        "circuits",
        multiple=True,
        metavar="FILE[@M]",
        shell_complete=complete.files,
        help="Circuit file and its multiplier, @mean or @pin=C; repeat for more arms.",
    ),
    click.option(
        "-m",
        "--multiplier",
        "multipliers",
        type=_Strength(),
        multiple=True,
        metavar="M",
        help="Scale the circuit by M: 0 ablates, 1 changes nothing; or pin it: mean "
        "(over benign prompts) or pin=C.  [default: 0]",
    ),
    transfer_option,
)
measuring_options = block(
    "Measurement",
    click.option(
        "--prompts",
        "prompts",
        multiple=True,
        metavar="NAME|FILE",
        shell_complete=complete.prompts,
        help="jbb, jbb-benign, xstest, demo, a contrast such as refusal:even (what a "
        "search of refusal did not use), FILE, FILE:COLUMN, or org/set:split:column on "
        "the Hub.  [default: jbb and jbb-benign]",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        metavar="N",
        help="Use N prompts of each set, evenly spaced.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        default=150,
        help="New tokens per answer.",
    ),
    click.option(
        "--extend-to",
        type=click.IntRange(min=0),
        default=512,
        metavar="N",
        help="Continue partial and cut-off answers to N tokens; 0 for never.",
    ),
    click.option(
        "--kl/--no-kl", "has_kl", default=True, help="Measure the KL divergence."
    ),
    click.option(
        "--out",
        metavar="DIR",
        shell_complete=complete.directories,
        help="Directory of the run; give it again to resume.",
    ),
)
evaluation_options = block(
    "Measurement",
    circuit_options,
    click.option(
        "--caa",
        "alphas",
        type=float,
        multiple=True,
        metavar="A",
        help="Add an arm with A times the mean difference (CAA).",
    ),
    measuring_options,
)


def controls_option(*, default: int) -> _Decorator:
    return click.option(
        "--controls",
        "seeds",
        type=click.IntRange(0, 100),
        default=default,
        help="Number of matched random controls; up to 3 uniform ones come with them.",
    )


def sweep_option(*, default: bool) -> _Decorator:
    return click.option(
        "--sweep/--no-sweep",
        default=default,
        help="Add multipliers 0 to 2 and CAA from -1 to 1.",
    )


open_option = click.option(
    "--open", "is_opened", is_flag=True, help="Open the page in the browser."
)
force_option = click.option(
    "--force", is_flag=True, help="Replace an existing file of this kind unasked."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
hide_text_option = click.option(
    "--hide-text",
    is_flag=True,
    help="Show only first words, labels, gauges and lengths.",
)
prompt_option = click.option(
    "-p",
    "--prompt",
    "prompts",
    multiple=True,
    metavar="PROMPT",
    help="Prompt; repeat for more.",
)
model_argument = click.argument("model", shell_complete=complete.models)
prompt_argument = click.argument("prompt", required=False)


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

    if click.launch(str(path)):
        screen().note(f"no browser could be opened: open {path} yourself", "yellow")


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
