"""What the commands share: their class, groups of options, and what these mean."""

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.errors import InputError, RequestError

if TYPE_CHECKING:
    from cna_mlx.discovery.options import DiscoveryOptions
    from cna_mlx.discovery.session import Session
    from cna_mlx.evaluation.plan import EvalOptions
    from cna_mlx.models.loading import ModelOptions, Streaming
    from cna_mlx.prompts.chat_template import Rendering

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

    def invoke(self, context: click.Context) -> Any:
        """Run the command; exit as interrupted if it returns False."""
        if self.loads_model:
            from cna_mlx.models.open_files import check_open_files

            check_open_files()
        if super().invoke(context) is False:
            raise KeyboardInterrupt


def command(
    name: str | None = None, *, example: str, loads_model: bool = True
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command; its function returns False where Ctrl-C cut it short."""
    return click.command(name, cls=Command, example=example, loads_model=loads_model)


def options(*several: _Decorator) -> _Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(several):
            command = option(command)
        return command

    return decorate


model_options = options(
    click.option(
        "--revision",
        metavar="REV",
        help="A branch, tag or commit of a hub id; a branch asks the Hub for news.",
    ),
    click.option("--offline", is_flag=True, help="Use what is here; touch no network."),
)
# Of commands that can do without all weights in memory.
walk_options = options(
    model_options,
    click.option(
        "--stream/--no-stream",
        default=None,
        help="Leave the weights on the disk and read each layer for its turn.  "
        "[default: where they do not fit into the memory]",
    ),
)
rendering_options = options(
    click.option(
        "--chat-template",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="Use the tokenizer's chat template; auto: if it has one.",
    ),
    click.option("--system", metavar="TEXT", help="A system prompt."),
    click.option(
        "--thinking",
        type=click.Choice(["on", "off"]),
        default="off",
        show_default=True,
        help="Let models that can think aloud do so.",
    ),
    click.option(
        "--date",
        metavar="YYYY-MM-DD",
        help="What templates that print today's date are told.  [default: 2024-07-26]",
    ),
)
selection_options = options(
    click.option(
        "--contrast", metavar="NAME", help="A built-in contrast (cna-mlx prompts)."
    ),
    click.option(
        "--positive", metavar="FILE", help="Your own prompts that show the behaviour."
    ),
    click.option("--negative", metavar="FILE", help="Your own prompts that do not."),
    click.option(
        "--column", metavar="NAME", help="The column or key with the prompts."
    ),
    click.option(
        "--fraction",
        type=float,
        metavar="X",
        help="Share of all neurons to keep.  [default: 0.001; demo: 0.0025]",
    ),
    click.option("--layers", metavar="A-B", help="Rank within these layers only."),
    click.option(
        "--rank",
        type=click.Choice(["delta", "normalized", "weighted"]),
        default="delta",
        show_default=True,
        help="The score: |delta|, over its layer's RMS, or times its output's norm.",
    ),
    click.option(
        "--universal/--no-universal",
        default=True,
        show_default=True,
        help="Leave out neurons that answer to any contrast.",
    ),
)
expect_option = click.option(
    "--expect/--no-expect",
    default=True,
    show_default=True,
    help="Try a fresh circuit on a few held-out prompts: a minute at most.",
)
circuit_options = options(
    click.option(
        "--circuit",
        "circuits",
        multiple=True,
        metavar="FILE[@M]",
        help="A circuit file, with its multiplier; more than one for more arms.",
    ),
    click.option(
        "-m",
        "--multiplier",
        "multipliers",
        type=float,
        multiple=True,
        metavar="M",
        help="Scale the circuit by M: 0 ablates, 1 changes nothing.  [default: 0]",
    ),
    click.option(
        "--allow-transfer",
        is_flag=True,
        help="Accept a circuit of other weights of the same shape.",
    ),
)
measuring_options = options(
    click.option(
        "--prompts",
        "prompts",
        multiple=True,
        metavar="NAME|FILE",
        help="jbb, jbb-benign, xstest, demo, or a file.  [default: jbb and jbb-benign]",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=1),
        metavar="N",
        help="N prompts of each set, evenly spread.",
    ),
    click.option(
        "--controls",
        "seeds",
        type=click.IntRange(0, 100),
        default=5,
        show_default=True,
        help="How many random controls of each kind.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        default=150,
        show_default=True,
        help="New tokens for each answer.",
    ),
    click.option("--kl/--no-kl", "has_kl", default=True, help="Measure the KL."),
    click.option(
        "--out", metavar="DIR", help="The run's directory; to go on, give it again."
    ),
)
evaluation_options = options(
    circuit_options,
    click.option(
        "--caa",
        "alphas",
        type=float,
        multiple=True,
        metavar="A",
        help="Add A times the difference of means, to compare with.",
    ),
    measuring_options,
)


def sweep_option(*, default: bool) -> _Decorator:
    return click.option(
        "--sweep/--no-sweep",
        default=default,
        show_default=True,
        help="Multipliers 0 to 2, and CAA from -1 to 1, on the same prompts.",
    )


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
hide_text_option = click.option(
    "--hide-text",
    is_flag=True,
    help="Show first words, labels, gauges and lengths only, as before people.",
)
model_argument = click.argument("model")


def session_of(model: str, rest: dict[str, Any]) -> "Session":
    """The model with its options, and the terminal to report to; not loaded yet."""
    from cna_mlx.discovery.session import Session
    from cna_mlx.ui.progress import terminal_reporter

    rendering, source = _rendering(rest), source_of(rest)
    transfer = rest.pop("allow_transfer", False)
    return Session(model, rendering, source, transfer, terminal_reporter())


def source_of(rest: dict[str, Any]) -> "ModelOptions":
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


def selection_of(rest: dict[str, Any]) -> "DiscoveryOptions":
    from cna_mlx.discovery.options import DiscoveryOptions

    names = ("contrast", "positive", "negative", "column", "fraction", "layers", "rank")
    chosen = {name: rest.pop(name) for name in (*names, "universal")}
    chosen["layers"] = _band(chosen["layers"])
    return DiscoveryOptions(**chosen, expect=rest.pop("expect", False))


def _band(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, dash, last = text.partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise InputError(f"--layers {text!r}: write it as 8-23")
    return int(first), int(last)


def evaluation_of(rest: dict[str, Any]) -> "EvalOptions":
    from cna_mlx.evaluation.plan import EvalOptions

    names = ("multipliers", "alphas", "seeds", "limit", "max_tokens", "has_kl", "sweep")
    return EvalOptions(**{name: rest.pop(name) for name in names if name in rest})


def typed(text: str, where: str) -> str:
    """A prompt from the command line, whatever the locale made of its bytes.

    Raises:
        InputError: it is blank, or not UTF-8.
    """
    from cna_mlx.prompts.validation import check_prompt

    # Python hides bytes that the locale cannot decode in half surrogate pairs
    whole = text.encode("utf-8", "surrogateescape")
    return check_prompt(whole.decode("utf-8", "surrogateescape"), where)


def require(condition: object, message: str) -> None:
    """Refuse a request with one line.

    Raises:
        RequestError: the condition does not hold.
    """
    if not condition:
        raise RequestError(message)
