"""What the commands share: their class, groups of options, and what these mean."""

from collections.abc import Callable
from typing import Any

import click

from cna_mlx.errors import RequestError

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


def source_of(rest: dict[str, Any]) -> Any:
    from cna_mlx.commands.old.options import ModelOptions

    # of a command without the option all weights have to be in memory
    chosen: dict[bool | None, Any] = {None: "auto", True: "yes", False: "no"}
    stream = chosen[rest.pop("stream", False)]
    return ModelOptions(rest.pop("revision"), rest.pop("offline"), stream)


def rendering_of(rest: dict[str, Any]) -> Any:
    from cna_mlx.commands.old.options import RenderingOptions

    names = ("chat_template", "system", "thinking", "date")
    return RenderingOptions(**{name: rest.pop(name) for name in names})


def selection_of(rest: dict[str, Any]) -> Any:
    from cna_mlx.commands.old.options import SelectionOptions

    sides = ("contrast", "positive", "negative", "column")
    ranking = ("fraction", "layers", "rank", "universal")
    chosen = {name: rest.pop(name) for name in sides + ranking}
    return SelectionOptions(**chosen, expect=rest.pop("expect", False))


def evaluation_of(rest: dict[str, Any]) -> Any:
    from cna_mlx.commands.old.preparing import EvalOptions

    names = ("circuits", "prompts", "multipliers", "alphas", "seeds", "limit")
    more = ("max_tokens", "has_kl", "sweep", "out")
    given = [name for name in names + more if name in rest]
    return EvalOptions(**{name: rest.pop(name) for name in given})


def require(condition: object, message: str) -> None:
    """Refuse a request with one line.

    Raises:
        RequestError: the condition does not hold.
    """
    if not condition:
        raise RequestError(message)
