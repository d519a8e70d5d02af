"""A conversation as a file: JSON to go on from, Markdown for people."""

import json
from pathlib import Path
from typing import Any, get_args

from cna_mlx.chat.conversation import (
    MOST_ARMS,
    Conversation,
    Turn,
    circuit_of,
)
from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import source_of
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.events import Answer, Finish
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.util.environment import versions

SCHEMA_VERSION = 1
_KIND = "cna-mlx conversation"


def arm_entry(arm: ArmResult, *, hides_text: bool = False) -> dict[str, Any]:
    """One arm's answer as the JSON of the commands has it.

    Args:
        arm: the answer.
        hides_text: give its first words only, and no token ids.
    """
    span = None if hides_text else arm.label.span
    return {
        "arm": arm.arm.label,
        "multiplier": arm.multiplier,
        "text": arm.first_words() if hides_text else arm.text,
        "label": str(arm.label.kind),
        "span": list(span) if span else None,
        "quality": arm.quality,
        "tokens": len(arm.token_ids),
        "token_ids": [] if hides_text else list(arm.token_ids),
        "finish": arm.finish,
    }


def to_json(chat: Conversation) -> str:
    """The conversation with everything that is needed to repeat it, or go on."""
    source = source_of(chat.model)
    data = {
        "kind": _KIND,
        "schema_version": SCHEMA_VERSION,
        "model": source.name if source else None,
        "fingerprint": fingerprint(chat.model),
        "rendering": chat.rendering.to_json(),
        "temperature": chat.temperature,
        "seed": chat.seed,
        "max_tokens": chat.max_tokens,
        "is_ablating": chat.is_ablating,
        "arms": [
            {
                "arm": arm.label,
                "multiplier": arm.multiplier,
                "circuit": json.loads(circuit_of(arm).to_text()),
            }
            for arm in chat.steered
        ],
        "versions": versions(),
        "histories": chat.histories,
        "dropped_turns": chat.dropped,
        "turns": [_turn_entry(turn) for turn in chat.turns],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _turn_entry(turn: Turn) -> dict[str, Any]:
    return {
        "prompt": turn.result.prompt,
        "gauge": turn.result.gauge,
        "arms": [arm_entry(arm) for arm in turn.result.arms],
        "dropped_turns": turn.dropped,
    }


def to_markdown(chat: Conversation) -> str:
    """The conversation for people; first words only where the text is hidden."""
    source = source_of(chat.model)
    parts = [f"# A conversation with {source.name if source else 'a model'}\n"]
    for turn in chat.turns:
        parts.append(f"## {' '.join(turn.result.prompt.split())}\n")
        for arm in turn.result.arms:
            text = arm.first_words() if chat.hides_text else arm.text
            quoted = "\n".join(f"> {line}" for line in text.splitlines())
            title = f"**{arm.arm.label}** (m = {arm.multiplier:g})"
            parts.append(f"{title} — {arm.label.kind}\n\n{quoted or '> '}\n")
    return "\n".join(parts)


def load_into(chat: Conversation, path: Path) -> str | None:
    """Go on from a conversation that was saved as JSON.

    Args:
        chat: takes over the arms, the settings and what was said.
        path: the file.

    Returns:
        The name of the model that it was held with, if that was another.

    Raises:
        InputError: no such file, or not a saved conversation; nothing is changed.
        CircuitError: one of its circuits does not fit this model.
    """
    data = _read(path)
    try:
        steered = [_arm(entry, str(path)) for entry in data["arms"]]
        rendering = Rendering.from_json(data["rendering"])
        histories = {str(k): _messages(v) for k, v in data["histories"].items()}
        circuits = {arm.label: circuit_of(arm) for arm in steered}
        turns = [_turn(entry, circuits) for entry in data["turns"]]
        settings = {
            "temperature": float(data["temperature"]),
            "seed": int(data["seed"]),
            "max_tokens": int(data["max_tokens"]),
            "is_ablating": bool(data["is_ablating"]) and bool(steered),
            "dropped": int(data["dropped_turns"]),
        }
    except CircuitError:  # says where
        raise
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: not a whole conversation ({type(error).__name__}: {error})"
        ) from None
    if len(steered) >= MOST_ARMS:
        raise InputError(f"{path}: more arms than the {MOST_ARMS} that a chat has")
    for arm in steered:
        if chat.check_circuit is not None:
            chat.check_circuit(circuit_of(arm))
    chat.clear()
    for name, value in settings.items():
        setattr(chat, name, value)
    chat.steered, chat.rendering, chat.histories = steered, rendering, histories
    if steered:
        chat.multiplier = steered[0].multiplier
    chat.turns.extend(turns)
    same = data.get("fingerprint") == fingerprint(chat.model)
    return None if same else str(data.get("model") or "another model")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("kind") != _KIND:
        raise InputError(f"{path}: not a conversation that /save wrote as JSON")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema version {data.get('schema_version')}; this cna-mlx reads "
            f"{SCHEMA_VERSION}: get the one that wrote it"
        )
    return data


def _arm(entry: dict[str, Any], where: str) -> Arm:
    circuit = Circuit.from_text(json.dumps(entry["circuit"]), where)
    label = str(entry["arm"])
    return Arm.of(circuit, check_multiplier(float(entry["multiplier"])), label)


def _messages(entries: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{key: str(one[key]) for key in ("role", "content")} for one in entries]


def _turn(entry: dict[str, Any], circuits: dict[str, Circuit]) -> Turn:
    results = tuple(_result(one, circuits) for one in entry["arms"])
    gauge = entry["gauge"]
    result = PromptResult(
        str(entry["prompt"]), results, None if gauge is None else float(gauge)
    )
    return Turn(result, 0.0, 0.0, 0, False, int(entry["dropped_turns"]))


def _result(entry: dict[str, Any], circuits: dict[str, Circuit]) -> ArmResult:
    label, finish = str(entry["arm"]), entry["finish"]
    if finish not in get_args(Finish):
        raise ValueError(f"finish {finish!r}")
    # an arm that has gone since is still shown by its name and multiplier
    circuit = circuits.get(label, Circuit(()))
    steered = Arm.of(circuit, check_multiplier(float(entry["multiplier"])), label)
    arm = BASELINE if label == BASELINE.label else steered
    ids = tuple(int(token) for token in entry["token_ids"])
    return ArmResult.of(arm, Answer(0, 0, str(entry["text"]), ids, finish))
