"""The options that commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.errors import InputError

if TYPE_CHECKING:
    from cna_mlx.strength import Strength

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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


def directory_option(help_text: str, *names: str) -> _Decorator:
    """``--out DIR``, with further names."""
    return click.option(
        *names,
        "--out",
        metavar="DIR",
        shell_complete=complete.directories,
        help=help_text,
    )


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


class _BatchRows(click.IntRange):
    """``auto``, or a number of rows."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "auto":
            return value
        if isinstance(value, str) and not value.lstrip("-").isdecimal():
            self.fail(f"{value!r} is neither a number of rows nor auto", param, ctx)
        return super().convert(value, param, ctx)


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
        "the Hub.  [default: jbb and jbb-benign; demo for the demo]",
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
        "--batch",
        type=_BatchRows(),
        default=32,
        metavar="ROWS|auto",
        help="Rows of a batch, each an arm of a prompt: so many are answered together. "
        "auto measures what is fastest.",
    ),
    directory_option("Directory of the run; give it again to resume."),
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


def output_option(what: str = "circuit", **given: Any) -> _Decorator:
    """``-o FILE``, and ``--force`` to replace it."""
    help_text = f"Write the {what} to this file."
    names = ("-o", "--output")
    option = click.option(
        *names, metavar="FILE", shell_complete=complete.files, help=help_text, **given
    )
    return options(option, force_option)


def page_option(help_text: str) -> _Decorator:
    """``--out FILE.html``, ``--force`` to replace it and ``--open`` to look at it."""
    option = click.option(
        "--out", metavar="FILE.html", shell_complete=complete.files, help=help_text
    )
    return options(option, force_option, open_option)


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
