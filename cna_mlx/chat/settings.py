"""`/set` and `/show`: the chat's settings by name, and where it stands."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from cna_mlx.chat.conversation import Conversation, View
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import context_length
from cna_mlx.models.fingerprint import quantization
from cna_mlx.models.loading import source_of
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.util.formatting import counted

_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Setting:
    """A value of the chat that `/set` changes.

    Attributes:
        takes: what it may be, in words.
        read: from text to a value; ValueError or KeyError for any other text.
        change: puts the value into the conversation.
        show: the value as text.
    """

    takes: str
    read: Callable[[str], Any]
    change: Callable[[Conversation, Any], None]
    show: Callable[[Conversation], str]


def change(chat: Conversation, argument: str) -> Reply:
    """`/set NAME VALUE`; without a value, or a name, what there is.

    Raises:
        InputError: no such setting, or a value that it cannot have.
    """
    name, _, text = argument.partition(" ")
    if not name:
        return Reply("", grid=Grid((), tuple(_settings(chat))), is_data=True)
    if name not in SETTINGS:
        close = difflib.get_close_matches(name, SETTINGS, 1)
        hint = f"did you mean {close[0]}?" if close else ", ".join(SETTINGS)
        raise InputError(f"/set {name}: no such setting: {hint}")
    setting = SETTINGS[name]
    if not text:
        return Reply(f"{name} is {setting.show(chat)}; it takes {setting.takes}")
    try:
        value = setting.read(text.strip())
    except (ValueError, KeyError, InputError):
        raise InputError(f"/set {name} {text}: it takes {setting.takes}") from None
    setting.change(chat, value)
    return Reply(f"{name} is {setting.show(chat)}")


def show(chat: Conversation, _: str) -> Reply:
    """`/show`: the model, the circuits, the arms, the settings, the context."""
    rows = [("model", _model(chat))]
    if chat.circuit is None:
        rows.append(("circuit", "none yet (/ablate on, /circuit FILE, /contrast NAME)"))
    else:
        rows.append(("circuit", _circuit(chat.circuit)))
    rows.append(("arms", ", ".join(arm.title for arm in chat.arms)))
    rows += _settings(chat)
    rows.append(("context", _context(chat)))
    return Reply("", grid=Grid((), tuple(rows)), is_data=True)


def _settings(chat: Conversation) -> list[tuple[str, str]]:
    return [(name, setting.show(chat)) for name, setting in SETTINGS.items()]


def _model(chat: Conversation) -> str:
    source = source_of(chat.model)
    name = source.name if source else "unnamed"
    return f"{name} ({quantization(chat.model)})"


def _circuit(circuit: Circuit) -> str:
    origin = circuit.provenance
    parts = [counted(len(circuit.neurons), "neuron")]
    if contrast := origin.contrast:
        sizes = f"{contrast.positive}/{contrast.negative}"
        parts.append(f"{contrast.name} ({sizes} prompts)")
    if origin.fraction is not None:
        parts.append(f"fraction {origin.fraction} by {origin.rank}")
    return ", ".join(parts)


def _context(chat: Conversation) -> str:
    limit = context_length(chat.model)
    whole = "" if limit is None else f" of {limit:,}"
    text = f"{chat.context_used:,}{whole} tokens, {counted(len(chat.turns), 'turn')}"
    return f"{text}, {chat.dropped} of them dropped" if chat.dropped else text


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return read


def _count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return read


def _multipliers(chat: Conversation) -> str:
    values = [arm.multiplier for arm in chat.steered] or [chat.multiplier]
    return ", ".join(f"{value:g}" for value in values)


def _attribute(name: str) -> Callable[[Conversation, Any], None]:
    return lambda chat, value: setattr(chat, name, value)


SETTINGS = {
    "multiplier": Setting(
        "a number: 0 ablates, 1 changes nothing",
        lambda text: check_multiplier(float(text)),
        lambda chat, value: chat.rescale(value),
        _multipliers,
    ),
    "view": Setting(
        "|".join(get_args(View)),
        lambda text: {view: view for view in get_args(View)}[text],
        _attribute("view"),
        lambda chat: chat.view,
    ),
    "temp": Setting(
        "0 (greedy) or a number above it",
        _number(0, 1e6),
        _attribute("temperature"),
        lambda chat: f"{chat.temperature:g}",
    ),
    "seed": Setting(
        "a whole number",
        _count(0, 2**32 - 1),
        _attribute("seed"),
        lambda chat: str(chat.seed),
    ),
    "max-tokens": Setting(
        "a whole number, 1 or more",
        _count(1, 10**9),
        _attribute("max_tokens"),
        lambda chat: str(chat.max_tokens),
    ),
    "system": Setting(
        "the text of a system prompt, or none",
        lambda text: None if text == "none" else text,
        lambda chat, value: chat.set_rendering(system=value),
        lambda chat: chat.rendering.system or "none",
    ),
    "thinking": Setting(
        "on or off",
        _SWITCH.__getitem__,
        lambda chat, value: chat.set_rendering(thinking=value),
        lambda chat: "on" if chat.rendering.thinking else "off",
    ),
    "hide-text": Setting(
        "on or off",
        _SWITCH.__getitem__,
        _attribute("hides_text"),
        lambda chat: "on" if chat.hides_text else "off",
    ),
}
