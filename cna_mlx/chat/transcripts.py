"""Save a conversation, as JSON or Markdown, and load the JSON again."""

import json
from pathlib import Path
from typing import Any, get_args

from cna_mlx.chat.conversation import MOST_ARMS, Conversation, Turn, circuit_of
from cna_mlx.chat.settings import circuit_text, read_setting, settings_of
from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.events import Answer, Finish
from cna_mlx.strength import Pin, Strength, as_typed, from_intervention
from cna_mlx.util.environment import versions
from cna_mlx.util.formatting import counted, decimal
from cna_mlx.util.reading import parse_json, read_text
from cna_mlx.util.sanitize import first_words

#: The newest. Conversations without pins are of version 1, which 0.1 reads too.
SCHEMA_VERSION = 2
_KIND = "cna-mlx conversation"
# Settings by their entries; version 0.1 did not have the latter.
_NUMBERS = {"temperature": "temp", "seed": "seed", "max_tokens": "max-tokens"}
_FILTERS = {"top_p": "top-p", "top_k": "top-k", "min_p": "min-p"}
# Exceptions of a file that lacks something, or has something else in its place.
_INCOMPLETE = LookupError, TypeError, ValueError, AttributeError, ArithmeticError


def as_json(chat: Conversation) -> str:
    """Return the conversation with all that is needed to repeat or continue it."""
    data = {
        "kind": _KIND,
        "schema_version": _version(chat),
        "model": chat.session.name,
        "fingerprint": fingerprint(chat.session.model),
        "rendering": chat.rendering.to_dict(),
        "temperature": chat.temperature,
        "seed": chat.seed,
        **{name: getattr(chat, name) for name in _FILTERS},
        "max_tokens": chat.max_tokens,
        "is_ablating": chat.is_ablating,
        "arms": [
            {
                "arm": arm.label,
                "multiplier": arm.multiplier,
                "intervention": arm.intervention,
                "circuit": json.loads(circuit_of(arm).to_text()),
            }
            for arm in chat.steered
        ],
        "versions": versions(),
        "histories": chat.histories,
        "dropped_turns": chat.dropped,
        "turns": [
            {**turn.result.to_dict(), "dropped_turns": turn.dropped}
            for turn in chat.turns
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _version(chat: Conversation) -> int:
    has_pins = any(isinstance(arm.strength, Pin) for arm in chat.steered)
    return SCHEMA_VERSION if has_pins else 1


def as_markdown(chat: Conversation) -> str:
    """Return the conversation as Markdown; cut hidden answers to their first words."""
    parts = [f"# A conversation with {chat.session.name}\n"]
    parts.append("\n".join(f"- {name}: {said}" for name, said in facts(chat)) + "\n")
    for turn in chat.turns:
        parts.append(f"## {' '.join(turn.result.prompt.split())}\n")
        gauge = turn.result.gauge
        said = [] if gauge is None else [f"gauge {decimal(gauge)}"]
        if said := [*said, *filter(None, [turn_remarks(turn)])]:
            parts.append(f"{'; '.join(said)}\n")
        for arm in turn.result.arms:
            text = first_words(arm.text) if chat.hides_text else arm.text
            quoted = "\n".join(f"> {line}" for line in text.splitlines())
            title = f"**{arm.arm.label}** ({_strength_text(arm.arm.strength)})"
            parts.append(f"{title} — {arm.label.kind}\n\n{quoted or '> '}\n")
    return "\n".join(parts)


def facts(chat: Conversation) -> list[tuple[str, str]]:
    """What somebody who was not there must know: model, circuits, settings."""
    model = f"{chat.session.name} ({quantization(chat.session.model)})"
    circuits = [
        (f"arm {arm.label}", circuit_text(circuit_of(arm))) for arm in chat.steered
    ]
    settings = ", ".join(map(" ".join, settings_of(chat)))
    made = f"cna-mlx {versions('cna-mlx')['cna-mlx']}"
    return [
        ("model", model),
        *circuits,
        ("settings", settings),
        ("made with", made),
    ]


def turn_remarks(turn: Turn) -> str:
    """Which answers of a turn were stopped or cut off; how many turns it forgot."""
    parts, arms = [], turn.result.arms
    for finish, said in (("interrupted", "interrupted"), ("length", "cut off")):
        if names := [arm.arm.label for arm in arms if arm.finish == finish]:
            parts.append(f"{said}: {', '.join(names)}")
    if turn.dropped:
        parts.append(f"{counted(turn.dropped, 'early turn')} dropped")
    return "; ".join(parts)


def _strength_text(strength: Strength) -> str:
    number = "" if isinstance(strength, Pin) else "m = "
    return f"{number}{as_typed(strength)}"


def load_into(chat: Conversation, path: Path) -> str | None:
    """Continue a conversation that was saved as JSON.

    An unreadable file, or a circuit that does not fit the model, changes nothing.

    Returns:
        The name of the model that answered, if it was another one.
    """
    data = _read(path)
    try:
        state = _state(data, str(path))
    except CircuitError:  # its message has the path
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _INCOMPLETE as error:
        raise InputError(
            f"{path}: not a complete conversation "
            f"({type(error).__name__}: {error!s:.80})"
        ) from None
    for arm in state["steered"]:
        chat.session.check(circuit_of(arm))
    chat.clear()
    for name, value in state.items():
        setattr(chat, name, value)
    if chat.steered:
        chat.multiplier = chat.steered[0].strength
    same = data.get("fingerprint") == fingerprint(chat.session.model)
    return None if same else str(data.get("model") or "another model")


def _state(data: dict[str, Any], where: str) -> dict[str, Any]:
    """The attributes of the saved conversation."""
    steered = [_arm(entry, where) for entry in data["arms"]]
    if len(steered) >= MOST_ARMS:
        raise InputError(f"more than the {MOST_ARMS} arms of a chat")
    circuits = {arm.label: circuit_of(arm) for arm in steered}
    return {
        "steered": steered,
        "rendering": Rendering.from_dict(data["rendering"]),
        "histories": {str(k): _messages(v) for k, v in data["histories"].items()},
        "turns": [_turn(entry, circuits) for entry in data["turns"]],
        **{name: read_setting(key, str(data[name])) for name, key in _NUMBERS.items()},
        **{
            name: read_setting(key, str(data[name]))
            for name, key in _FILTERS.items()
            if name in data
        },
        "is_ablating": bool(data["is_ablating"]) and bool(steered),
        "dropped": _dropped(data),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        data = parse_json(read_text(path), finite=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("kind") != _KIND:
        raise InputError(f"{path}: not a conversation that /save wrote as JSON")
    if (version := data.get("schema_version")) not in range(1, SCHEMA_VERSION + 1):
        raise InputError(
            f"{path}: schema version {version}; this cna-mlx reads {SCHEMA_VERSION}: "
            "install the version that wrote it"
        )
    return data


def _arm(entry: dict[str, Any], where: str) -> Arm:
    circuit = Circuit.from_text(json.dumps(entry["circuit"]), where)
    return Arm.of(circuit, _strength(entry), str(entry["arm"]))


def _strength(entry: dict[str, Any]) -> Strength:
    """What an arm does; conversations of version 0.1 have only the multiplier."""
    what = entry.get("intervention") or {}
    is_scaled = what.get("kind", "scale") == "scale"
    if is_scaled:
        strength: Strength = read_setting("multiplier", str(entry["multiplier"]))
        return strength
    return from_intervention(what)


def _messages(entries: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{key: str(one[key]) for key in ("role", "content")} for one in entries]


def _turn(entry: dict[str, Any], circuits: dict[str, Circuit]) -> Turn:
    results = tuple(_result(one, circuits) for one in entry["arms"])
    if not results:
        raise ValueError("a turn without an answer")
    gauge = entry["gauge"]
    result = PromptResult(
        str(entry["prompt"]), results, None if gauge is None else float(gauge)
    )
    return Turn(result, 0.0, 0, False, _dropped(entry))


def _dropped(entry: dict[str, Any]) -> int:
    name = "dropped_turns"
    if not isinstance(count := entry[name], int) or count < 0:
        raise InputError(f"{name} {count}: it takes a whole number, 0 or more")
    return count


def _result(entry: dict[str, Any], circuits: dict[str, Circuit]) -> ArmResult:
    label, finish = str(entry["arm"]), entry["finish"]
    if finish not in get_args(Finish):
        raise ValueError(f"finish {finish!r}")
    # an arm that has been replaced keeps only its label and multiplier
    circuit = circuits.get(label, Circuit(()))
    steered = Arm.of(circuit, _strength(entry), label)
    arm = BASELINE if label == BASELINE.label else steered
    ids = tuple(int(token) for token in entry["token_ids"])
    return ArmResult.of(arm, Answer(0, 0, str(entry["text"]), ids, finish))
