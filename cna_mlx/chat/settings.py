"""`/set` and `/show`: the settings of a chat and its state."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args

from cna_mlx.chat.conversation import Conversation, View
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import context_length
from cna_mlx.models.fingerprint import quantization
from cna_mlx.strength import as_typed, parse_strength
from cna_mlx.util.formatting import counted

_LONG = 40  # characters of a value that a message repeats


@dataclass(frozen=True)
class Setting:
    """A value of the chat that `/set` changes.

    Attributes:
        place: the attribute of the conversation, or of its rendering.
        takes: the allowed values, in words.
        read: parses a value; raises ValueError or KeyError.
    """

    place: str
    takes: str
    read: Callable[[str], Any]

    def change(self, chat: Conversation, value: Any) -> None:
        """Set the value."""
        owner, _, name = self.place.rpartition(".")
        if name == "multiplier":
            chat.rescale(value)
        elif owner:
            chat.rendering = replace(chat.rendering, **{name: value})
        else:
            setattr(chat, name, value)

    def show(self, chat: Conversation) -> str:
        """The value as text."""
        owner, _, name = self.place.rpartition(".")
        if name == "multiplier" and chat.steered:
            return ", ".join(as_typed(arm.strength) for arm in chat.steered)
        value = getattr(chat.rendering if owner else chat, name)
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, float):
            return f"{value:g}"
        return "none" if value is None else str(value)


def change_setting(chat: Conversation, argument: str) -> Reply:
    """`/set [NAME [VALUE]]`: change a setting, or show it, or show all."""
    name, _, text = argument.removeprefix("parameter ").partition(" ")
    name = as_setting(name)
    if not name:
        return Reply("", grid=Grid((), tuple(settings_of(chat))), is_data=True)
    if name not in SETTINGS:
        close = get_close_matches(name, SETTINGS, 1)
        hint = f"did you mean {close[0]}?" if close else ", ".join(SETTINGS)
        raise InputError(f"/set {name}: unknown setting: {hint}")
    setting = SETTINGS[name]
    if not text:
        return Reply(f"{name} is {setting.show(chat)}; it takes {setting.takes}")
    try:
        value = read_setting(name, text.strip())
    except InputError as error:
        raise InputError(f"/set {error}") from None
    setting.change(chat, value)
    return Reply(f"{name} is {setting.show(chat)}")


def read_setting(name: str, text: str) -> Any:
    """Parse the value of a setting.

    Raises:
        InputError: the setting does not take it; names both.
    """
    setting = SETTINGS[name]
    try:
        return setting.read(text)
    except (ValueError, KeyError, InputError):
        said = text if len(text) <= _LONG else f"{text[:_LONG]}..."
        raise InputError(f"{name} {said}: it takes {setting.takes}") from None


def as_setting(name: str) -> str:
    """A setting's name as it is here, for the name that another chat has for it."""
    name = name.replace("_", "-")
    return _ALIASES.get(name, name)


def show_settings(chat: Conversation, _: str) -> Reply:
    """`/show`: the model, the circuit, the arms, the settings, the context."""
    none_yet = "none yet (/ablate on, /circuit FILE, /contrast NAME)"
    rows = (
        ("model", f"{chat.session.name} ({quantization(chat.session.model)})"),
        ("circuit", circuit_text(chat.circuit) if chat.circuit else none_yet),
        ("arms", ", ".join(arm.title for arm in chat.arms)),
        *settings_of(chat),
        ("context", _context(chat)),
    )
    return Reply("", grid=Grid((), rows), is_data=True)


def settings_of(chat: Conversation) -> list[tuple[str, str]]:
    """All settings with their values."""
    return [(name, setting.show(chat)) for name, setting in SETTINGS.items()]


def circuit_text(circuit: Circuit) -> str:
    """A circuit in a line: its size, its contrast, how it was chosen."""
    origin = circuit.provenance
    parts = [counted(len(circuit.neurons), "neuron")]
    if contrast := origin.contrast:
        sizes = f"{contrast.positive}/{contrast.negative}"
        parts.append(f"{contrast.name} ({sizes} prompts)")
    if origin.fraction is not None:
        parts.append(f"fraction {origin.fraction} by {origin.rank}")
    return ", ".join(parts)


def _context(chat: Conversation) -> str:
    limit = context_length(chat.session.model)
    whole = "" if limit is None else f" of {limit:,}"
    text = f"{chat.context_used:,}{whole} tokens, {counted(len(chat.turns), 'turn')}"
    return f"{text}, {chat.dropped} of them dropped" if chat.dropped else text


def _between(
    kind: Callable[[str], float], low: float, high: float
) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # nor is NaN
            raise ValueError(text)
        return value

    return read


# Names in other chats.
_ALIASES = {"temperature": "temp", "num-predict": "max-tokens", "think": "thinking"}
_VIEWS = get_args(View)
_SWITCH = {"on": True, "off": False}

SETTINGS = {
    "multiplier": Setting(
        "multiplier",
        "a finite number (0 ablates, 1 changes nothing), mean or pin=C",
        parse_strength,
    ),
    "view": Setting("view", "|".join(_VIEWS), {v: v for v in _VIEWS}.__getitem__),
    "temp": Setting(
        "temperature", "0 (greedy) or a number above it", _between(float, 0, 1e6)
    ),
    "seed": Setting("seed", "a whole number", _between(int, 0, 2**32 - 1)),
    "top-p": Setting("top_p", "a number above 0 and up to 1", _between(float, 1e-9, 1)),
    "top-k": Setting("top_k", "a whole number, 0 for all", _between(int, 0, 10**9)),
    "min-p": Setting("min_p", "a number from 0 to 1", _between(float, 0, 1)),
    "max-tokens": Setting(
        "max_tokens", "a whole number, 1 or more", _between(int, 1, 10**9)
    ),
    "system": Setting(
        "rendering.system",
        "the text of a system prompt, or none",
        lambda text: None if text == "none" else text,
    ),
    "thinking": Setting("rendering.thinking", "on or off", _SWITCH.__getitem__),
    "hide-text": Setting("hides_text", "on or off", _SWITCH.__getitem__),
}
