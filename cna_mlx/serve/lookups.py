"""What the page shows of a question: its words' gauges, and first words of answers."""

from typing import Any

from cna_mlx.discovery.words import word_gauges
from cna_mlx.errors import InputError
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.engine import Engine
from cna_mlx.serve.schema import FirstWordsRequest, WordsRequest
from cna_mlx.serve.texts import Texts
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.gauge_scale import can_gauge


def words(
    body: WordsRequest, engine: Engine, arms: ServedArms, texts: Texts
) -> dict[str, Any]:
    """The gauge after each word of the last message, on the engine's thread."""
    circuit = arms.circuit_of(arms.arm(body.model, body.multiplier, body.circuits))
    if circuit is None or not can_gauge(circuit):
        raise InputError("there is no circuit with a gauge here")
    messages = [message.to_dict() for message in body.messages]
    if messages[-1]["role"] != "user":
        raise InputError("messages: the last one must be the user's")
    rendering = texts.rendering_for(messages)
    found = word_gauges(engine.model, engine.tokenizer, circuit, messages, rendering)
    return {"words": [{"text": one.text, "gauge": one.gauge} for one in found]}


def first_words(
    body: FirstWordsRequest, engine: Engine, arms: ServedArms, ids: list[int]
) -> dict[str, Any]:
    """The most likely first tokens of an answer in each arm, on the engine's thread."""
    by_name = {name: arms.arm(name) for name in dict.fromkeys(body.models)}
    named = [Arm(name, arm.steering) for name, arm in by_name.items()]
    found = first_tokens(engine.model, engine.tokenizer, ids, named, count=body.count)
    assert found is not None  # nothing stops it
    return {"models": list(found.arms), "tokens": found.to_dict()}
