"""Gauge a prompt word by word, to see which word makes the model decide."""

import re
from collections.abc import Sequence
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.strip import Word
from cna_mlx.prompts.chat_template import Message, Rendering, render

#: A longer prompt is cut after every second word, every third, and so on.
MOST_CUTS = 48
# Scripts without spaces between words: there each character counts as a word.
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD = re.compile(rf"\s*(?:[{_WIDE}]|[^\s{_WIDE}]+)")


def word_gauges(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    messages: Sequence[Message],
    rendering: Rendering | None = None,
) -> tuple[Word, ...]:
    """Gauge the last message cut after each of its words; generates nothing.

    Each cut is rendered like a whole prompt, so its gauge has the usual scale: 0 as the
    answered prompts, 1 as the refused. The last word's is the gauge of the prompt.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: a discovered circuit.
        messages: as for :func:`cna_mlx.render`; the last one is the question.
        rendering: how messages become token ids.

    Returns:
        The words in order: their texts joined are the message. A message of more than
        48 words is cut into at most 48 groups of words.

    Raises:
        CircuitError: the circuit has no means, or does not fit the model.
        InputError: a prompt is empty or too long.
    """
    *history, question = messages
    parts = split_words(question["content"])
    cuts = ["".join(parts[: end + 1]) for end in range(len(parts))]
    ids = [
        render(tokenizer, [*history, {**question, "content": cut}], rendering)
        for cut in cuts
    ]
    values = map(float, gauges(model, circuit, ids))
    return tuple(map(Word, parts, values))


def split_words(text: str, most: int = MOST_CUTS) -> list[str]:
    """Split a text into at most ``most`` parts of equally many words each."""
    words = _WORD.findall(text) or [text]
    words[-1] += text[sum(map(len, words)) :]
    size = -(-len(words) // most)
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]
