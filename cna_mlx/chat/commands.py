"""The slash commands of the chat."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from cna_mlx.chat import transcripts
from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.inspection import neurons, sweep, where, why
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.chat.settings import SETTINGS, as_setting, change_setting, show_settings
from cna_mlx.errors import InputError
from cna_mlx.prompts import contrast_names
from cna_mlx.search.cached import SearchInterrupted, searched_circuit
from cna_mlx.strength import effect_text, parse_strength
from cna_mlx.util import ranks
from cna_mlx.util.files import is_there, typed_path, write_atomically
from cna_mlx.util.formatting import counted
from cna_mlx.util.overwriting import Kind, check_replaceable
from cna_mlx.util.sanitize import first_words

_FORCE = " --force"


@dataclass(frozen=True)
class ChatCommand:
    """A slash command.

    Attributes:
        usage: its name and arguments: ``a|b`` is a choice, ``FILE`` a path; both are
            required.
    """

    usage: str
    help: str
    run: Callable[[Conversation, str], Reply]

    @property
    def takes_file(self) -> bool:
        """Whether the argument is a path."""
        return "FILE" in self.usage

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed arguments; empty if others are allowed."""
        name, _, argument = self.usage.partition(" ")
        if name == "/contrast":
            return tuple(contrast_names())
        return tuple(argument.split("|")) if "|" in argument else ()

    def check(self, argument: str) -> None:
        """Raise an InputError for an argument that is missing or not allowed."""
        if self.choices and argument not in self.choices:
            raise InputError(f"{self.usage}: choose {', '.join(self.choices)}")
        if self.takes_file and not argument:
            raise InputError(f"{self.usage}: {self.help}")


def run_command(conversation: Conversation, line: str) -> Reply:
    """Run a line that begins with a slash."""
    name, _, argument = line.strip().partition(" ")
    name = _ALIASES.get(name, name)
    if name not in COMMANDS:
        setting = as_setting(name[1:])
        near = f"/set {setting}" if setting in SETTINGS else _near(name)
        hint = f"did you mean {near}?" if near else "/help lists the commands"
        raise InputError(
            f"{name}: unknown command; {hint} (to send it, put a space before it)"
        )
    argument = argument.strip()
    COMMANDS[name].check(argument)
    return COMMANDS[name].run(conversation, argument)


def _near(name: str) -> str | None:
    """The one command that begins so, or is spelled almost so."""
    begun = [one for one in COMMANDS if one.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    # the slash that all have would make short names alike
    close = get_close_matches(name[1:], [one[1:] for one in COMMANDS], 1)
    return f"/{close[0]}" if close else None


def _help(_: Conversation, __: str) -> Reply:
    quotes = ('"""', "begins and ends a message of several lines")
    commands = ((one.usage, one.help) for one in COMMANDS.values())
    return Reply("", grid=Grid((), (*commands, quotes)))


def _ablate(chat: Conversation, argument: str) -> Reply:
    if argument == "on" and not chat.steered:
        chat.steer(chat.find_circuit())
    chat.is_ablating = argument == "on"
    return Reply(_who_answers(chat))


def _who_answers(chat: Conversation) -> str:
    if not chat.is_ablating or chat.circuit is None:
        return "only the baseline answers"
    if len(chat.steered) > 1:
        names = ", ".join(arm.title for arm in chat.arms)
        return f"{len(chat.arms)} arms answer: {names}"
    size = counted(len(chat.circuit.neurons), "neuron")
    return f"both arms answer; the circuit ({size}) is {effect_text(chat.multiplier)}"


def _multiplier(chat: Conversation, argument: str) -> Reply:
    words = argument.split()
    try:
        multiplier = parse_strength(words[0])
        arm = int(words[1]) if len(words) == 2 else None
    except (InputError, ValueError, IndexError):
        raise InputError(
            "/multiplier X: a finite number (0 ablates, 1 changes nothing), mean or "
            "pin=C"
        ) from None
    chat.rescale(multiplier, arm)
    what = chat.steered[arm - 1].label if arm and chat.steered else "the circuit"
    note = "" if chat.is_ablating else " (/ablate on to see it)"
    return Reply(f"{what} is {effect_text(multiplier)}{note}")


def _view(chat: Conversation, argument: str) -> Reply:
    SETTINGS["view"].change(chat, argument)
    note = "" if chat.is_ablating else " (only the baseline answers: /ablate on)"
    return Reply(f"showing {argument}{note}")


def _circuit(chat: Conversation, argument: str) -> Reply:
    chosen = chat.session.choose(argument)
    own = chosen.multiplier
    chat.steer(chosen.circuit, chosen.circuit.intervention if own is None else own)
    size = counted(len(chosen.circuit.neurons), "neuron")
    return Reply(f"{size} from {argument}, {effect_text(chat.multiplier)}")


def _search(chat: Conversation, _: str) -> Reply:
    session = replace(chat.session, rendering=chat.rendering)
    try:
        return _circuit(chat, searched_circuit(session, chat.discovery, chat.searched))
    except SearchInterrupted as early:
        return _circuit(chat, early.file)


def _contrast(chat: Conversation, argument: str) -> Reply:
    chat.steer(chat.find_circuit(argument))
    return Reply(f"{argument}: {_who_answers(chat)}")


def _system(chat: Conversation, argument: str) -> Reply:
    SETTINGS["system"].change(chat, argument or None)
    return Reply("system prompt set" if argument else "no system prompt")


def _align(chat: Conversation, _: str) -> Reply:
    if len(chat.arms) < 2:
        raise InputError("/align needs a steered arm: /ablate on")
    if not chat.histories_differ:
        return Reply("the histories are already the same")
    chat.align()
    return Reply("all arms continue from the baseline's answers")


def _clear(chat: Conversation, _: str) -> Reply:
    chat.clear()
    return Reply("conversation cleared")


def _undo(chat: Conversation, _: str) -> Reply:
    first = first_words(chat.undo())
    left = counted(len(chat.turns), "turn")
    return Reply(f"took back: {first} ({left} left)")


def _retry(chat: Conversation, _: str) -> Reply:
    return Reply("", ask=chat.undo())


def _save(chat: Conversation, argument: str) -> Reply:
    is_markdown = argument.removesuffix(_FORCE).rstrip().endswith(".md")
    path = _free(chat, argument, "Markdown" if is_markdown else "conversation")
    write = transcripts.as_markdown if is_markdown else transcripts.as_json
    write_atomically(path, write(chat))
    chat.written.add(path.resolve())
    return Reply(f"saved {counted(len(chat.turns), 'turn')} to {path}")


def _free(chat: Conversation, argument: str, kind: Kind) -> Path:
    """The typed path, if nothing is lost by writing to it."""
    return Path(ranks.first(lambda: str(_checked(chat, argument, kind))))


def _checked(chat: Conversation, argument: str, kind: Kind) -> Path:
    text = argument.removesuffix(_FORCE).rstrip()
    path = typed_path(text)
    is_own = is_there(path) and path.resolve() in chat.written
    force = is_own or argument.endswith(_FORCE)
    check_replaceable(path, kind, force=force, confirm=chat.confirm)
    return path


def _load(chat: Conversation, argument: str) -> Reply:
    other = transcripts.load_into(chat, typed_path(argument))
    said = f"continuing {counted(len(chat.turns), 'turn')} of {argument}"
    remark = f"it was held with {other}" if other else ""
    return Reply(f"{said}; {_who_answers(chat)}", remark=remark)


def _export(chat: Conversation, argument: str) -> Reply:
    suffix = typed_path(argument.removesuffix(_FORCE).rstrip()).suffix.lower()
    if suffix == ".md":
        path = _free(chat, argument, "Markdown")
        write_atomically(path, transcripts.as_markdown(chat))
    elif suffix in (".svg", ".html", ".htm") and chat.export is not None:
        if not chat.turns:
            raise InputError("nothing to draw yet: ask something first")
        path = _free(chat, argument, "picture" if suffix == ".svg" else "page")
        chat.export(chat, path)
    else:
        raise InputError("/export FILE: use a name that ends in .svg, .html or .md")
    chat.written.add(path.resolve())
    return Reply(f"wrote {counted(len(chat.turns), 'turn')} to {path}")


def _bye(_: Conversation, __: str) -> Reply:
    return Reply("", is_over=True)


# Habits of other chats.
_ALIASES = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}

COMMANDS = {
    usage.split()[0]: ChatCommand(usage, text, run)
    for usage, text, run in (
        ("/help", "list the commands (also /?)", _help),
        ("/ablate on|off", "turn the steered arms on or off", _ablate),
        ("/multiplier X [ARM]", "scale the circuit by X; or mean, pin=C", _multiplier),
        ("/view both|baseline|ablated", "choose the arms to show", _view),
        ("/circuit FILE[@M]", "steer with another circuit", _circuit),
        ("/search", "look for a circuit that decides (15 minutes at most)", _search),
        ("/contrast NAME", "steer with the circuit of a built-in contrast", _contrast),
        ("/neurons [N]", "show the circuit's first neurons", neurons),
        ("/where", "show which word raises the gauge, and the first words", where),
        ("/why [ARM]", "show the neurons that flipped the last answer", why),
        ("/sweep [X ...]", "answer the last question at many multipliers", sweep),
        ("/show", "show the settings, the circuit and the context", show_settings),
        ("/set NAME VALUE", "change a setting", change_setting),
        ("/system TEXT", "set the system prompt", _system),
        ("/align", "continue all arms from the baseline's answers", _align),
        ("/retry", "ask the last question again, with what was changed", _retry),
        ("/undo", "take back the last question and its answers", _undo),
        ("/clear", "forget the conversation", _clear),
        ("/save FILE [--force]", "save as JSON, or as Markdown with .md", _save),
        ("/load FILE", "continue a conversation that was saved as JSON", _load),
        ("/export FILE [--force]", "draw as .svg, .html or .md", _export),
        ("/bye", "leave (or Ctrl-D)", _bye),
    )
}
