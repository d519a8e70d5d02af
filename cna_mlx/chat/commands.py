"""The slash commands of the chat."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from cna_mlx.chat import transcripts
from cna_mlx.chat.conversation import Conversation, View
from cna_mlx.chat.inspection import neurons, sweep, why
from cna_mlx.chat.reply import Reply
from cna_mlx.chat.settings import SETTINGS, change, show
from cna_mlx.errors import InputError
from cna_mlx.prompts import contrast_names
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.util.files import typed_path, write_atomically
from cna_mlx.util.formatting import counted

_PICTURES = (".svg", ".html", ".htm")


@dataclass(frozen=True)
class Command:
    """A slash command.

    Attributes:
        usage: how it is written.
        help: what it does.
        run: what carries it out.
        words: what may stand behind it, for completion.
        takes_file: whether a path stands behind it.
    """

    usage: str
    help: str
    run: Callable[[Conversation, str], Reply]
    words: Callable[[], tuple[str, ...]] = tuple
    takes_file: bool = False


def carry_out(conversation: Conversation, line: str) -> Reply:
    """Carry out a line that begins with a slash.

    Raises:
        InputError: no such command, or a value that it cannot use.
    """
    name, _, argument = line.strip().partition(" ")
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {close[0]}?" if close else "/help lists the commands"
        raise InputError(
            f"{name} is no command: {hint} (to send it, put a space before it)"
        )
    return COMMANDS[name].run(conversation, argument.strip())


def _help(_: Conversation, __: str) -> Reply:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{c.usage:<{width}}  {c.help}" for c in COMMANDS.values()]
    lines.append(f"{chr(34) * 3:<{width}}  begins and ends a message of several lines")
    return Reply("\n".join(lines))


def _ablate(chat: Conversation, argument: str) -> Reply:
    if argument not in ("on", "off"):
        raise InputError("/ablate on, or /ablate off")
    if argument == "on" and not chat.steered:
        if chat.find_circuit is None:
            raise InputError("there is no circuit: /circuit FILE")
        chat.steer(chat.find_circuit())
    chat.is_ablating = argument == "on"
    return Reply(_who_answers(chat))


def _who_answers(chat: Conversation) -> str:
    if not chat.is_ablating or chat.circuit is None:
        return "the baseline answers alone"
    if len(chat.steered) > 1:
        names = ", ".join(arm.title for arm in chat.arms)
        return f"{len(chat.arms)} arms answer: {names}"
    multiplier = chat.steered[0].multiplier
    size = counted(len(chat.circuit.neurons), "neuron")
    return f"both arms answer; the circuit ({size}) is scaled by {multiplier:g}"


def _multiplier(chat: Conversation, argument: str) -> Reply:
    words = argument.split()
    try:
        multiplier = check_multiplier(float(words[0]))
        arm = int(words[1]) if len(words) == 2 else None
    except (ValueError, IndexError):
        raise InputError(
            "/multiplier X: a number; 0 ablates, 1 changes nothing"
        ) from None
    chat.rescale(multiplier, arm)
    what = chat.steered[arm - 1].label if arm and chat.steered else "the circuit"
    note = "" if chat.is_ablating else " (/ablate on to see it)"
    return Reply(f"{what} is scaled by {multiplier:g}{note}")


def _view(chat: Conversation, argument: str) -> Reply:
    if argument not in get_args(View):
        raise InputError(f"/view {'|'.join(get_args(View))}")
    chat.view = argument  # type: ignore[assignment]  # just checked
    note = "" if chat.is_ablating else " (only the baseline answers: /ablate on)"
    return Reply(f"showing {argument}{note}")


def _circuit(chat: Conversation, argument: str) -> Reply:
    if not argument or chat.load_circuit is None:
        raise InputError("/circuit FILE, or FILE@M with a multiplier")
    circuit, multiplier = chat.load_circuit(argument)
    chat.steer(circuit, multiplier)
    chat.is_ablating = True
    return Reply(
        f"{counted(len(circuit.neurons), 'neuron')} from {argument}, "
        f"scaled by {chat.multiplier:g}"
    )


def _contrast(chat: Conversation, argument: str) -> Reply:
    if argument not in contrast_names() or chat.find_circuit is None:
        raise InputError(f"/contrast NAME: one of {', '.join(contrast_names())}")
    chat.steer(chat.find_circuit(argument))
    chat.is_ablating = True
    return Reply(f"{argument}: {_who_answers(chat)}")


def _system(chat: Conversation, argument: str) -> Reply:
    chat.set_rendering(system=argument or None)
    return Reply("system prompt set" if argument else "no system prompt")


def _align(chat: Conversation, _: str) -> Reply:
    if len(chat.arms) < 2:
        raise InputError("/align needs a steered arm: /ablate on")
    if not chat.histories_differ:
        return Reply("the histories are the same already")
    chat.align()
    return Reply("all arms go on from what the baseline said")


def _clear(chat: Conversation, _: str) -> Reply:
    chat.clear()
    return Reply("the conversation starts anew")


def _save(chat: Conversation, argument: str) -> Reply:
    if not argument:
        raise InputError("/save FILE: Markdown if it ends in .md, else JSON")
    path = typed_path(argument)
    is_markdown = path.suffix == ".md"
    write = transcripts.to_markdown if is_markdown else transcripts.to_json
    write_atomically(path, write(chat))
    return Reply(f"saved {_turns(chat)} to {path}")


def _load(chat: Conversation, argument: str) -> Reply:
    if not argument:
        raise InputError("/load FILE: a conversation that /save wrote as JSON")
    other = transcripts.load_into(chat, typed_path(argument))
    return Reply(
        f"going on from {_turns(chat)} of {argument}; {_who_answers(chat)}",
        remark=f"it was held with {other}" if other else "",
    )


def _export(chat: Conversation, argument: str) -> Reply:
    path = typed_path(argument)
    if path.suffix.lower() == ".md":
        write_atomically(path, transcripts.to_markdown(chat))
    elif path.suffix.lower() in _PICTURES and chat.export is not None:
        if not chat.turns:
            raise InputError("there is nothing to draw yet: ask something first")
        chat.export(chat, path)
    else:
        raise InputError("/export FILE: one that ends in .svg, .html or .md")
    return Reply(f"wrote {_turns(chat)} to {path}")


def _turns(chat: Conversation) -> str:
    return counted(len(chat.turns), "turn")


def _bye(_: Conversation, __: str) -> Reply:
    return Reply("", is_over=True)


def _settings() -> tuple[str, ...]:
    return tuple(SETTINGS)


COMMANDS = {
    command.usage.split()[0]: command
    for command in (
        Command("/help", "this list", _help),
        Command(
            "/ablate on|off",
            "with the steered arms or without",
            _ablate,
            lambda: ("on", "off"),
        ),
        Command("/multiplier X [ARM]", "scale the circuit by X", _multiplier),
        Command(
            "/view both|baseline|ablated",
            "which arms to show",
            _view,
            lambda: get_args(View),
        ),
        Command(
            "/circuit FILE", "steer with another circuit", _circuit, takes_file=True
        ),
        Command(
            "/contrast NAME",
            "steer with a built-in contrast's circuit",
            _contrast,
            lambda: tuple(contrast_names()),
        ),
        Command("/neurons [N]", "the circuit's first neurons", neurons),
        Command("/why [ARM]", "the neurons that flipped the last answer", why),
        Command("/sweep [X ...]", "the last question at many multipliers", sweep),
        Command("/show", "the settings, the circuit, the context", show),
        Command("/set NAME VALUE", "change a setting", change, _settings),
        Command("/system TEXT", "set the system prompt", _system),
        Command("/align", "all arms go on from the baseline's answers", _align),
        Command("/clear", "forget the conversation", _clear),
        Command("/save FILE", "write it as JSON, or .md", _save, takes_file=True),
        Command("/load FILE", "go on from a saved one", _load, takes_file=True),
        Command("/export FILE", "draw it: .svg, .html, .md", _export, takes_file=True),
        Command("/bye", "leave (or Ctrl-D)", _bye),
    )
}
