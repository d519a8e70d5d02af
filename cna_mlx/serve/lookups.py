"""What the page shows of a question: its words' gauges, and first words of answers."""

from collections.abc import Callable
from typing import Any

from cna_mlx.discovery.words import word_gauges
from cna_mlx.errors import InputError
from cna_mlx.prompts.chat_template import Message, Rendering
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.schema import FirstWordsRequest, WordsRequest
from cna_mlx.serve.texts import Texts, rendering_for
from cna_mlx.serve.work import Event, Lookup
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.gauge_scale import can_gauge

_WORDS, _FIRST_WORDS = "words", "first words"
Deliver = Callable[[Event], None]


def lookups(
    model: Any, tokenizer: Any, arms: ServedArms, rendering: Rendering
) -> dict[str, Callable[..., Any]]:
    """What an engine must know to answer these requests."""

    def words(circuit: str, messages: list[Message]) -> dict[str, Any]:
        found = word_gauges(
            model,
            tokenizer,
            arms.circuits[circuit],
            messages,
            rendering_for(messages, rendering),
        )
        return {"words": [{"text": one.text, "gauge": one.gauge} for one in found]}

    def first_words(names: list[str], ids: list[int], count: int) -> dict[str, Any]:
        named = [Arm(name, arms.arm(name).steering) for name in names]
        found = first_tokens(model, tokenizer, ids, named, count=count)
        assert found is not None  # nothing stops it
        return {"models": list(found.arms), "tokens": found.to_dict()}

    return {_WORDS: words, _FIRST_WORDS: first_words}


def words_lookup(body: WordsRequest, arms: ServedArms, deliver: Deliver) -> Lookup:
    """The gauge after each word of the last message."""
    arm = arms.arm(body.model, body.multiplier, body.circuits)
    circuit = arms.circuit_of(arm)
    if circuit is None or not can_gauge(circuit):
        raise InputError("no circuit here has a gauge")
    messages = [message.to_dict() for message in body.messages]
    if messages[-1]["role"] != "user":
        raise InputError("messages: the last one must be the user's")
    given = {"circuit": arms.name_of(circuit), "messages": messages}
    return Lookup(deliver, _WORDS, given)


def first_words_lookup(
    body: FirstWordsRequest, arms: ServedArms, texts: Texts, deliver: Deliver
) -> Lookup:
    """The most likely first tokens of an answer in each arm."""
    names = list(dict.fromkeys(body.models))
    for name in names:
        arms.arm(name)
    ids = texts.rendered([message.to_dict() for message in body.messages])
    given = {"names": names, "ids": ids, "count": body.count}
    return Lookup(deliver, _FIRST_WORDS, given)
