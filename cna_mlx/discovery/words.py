"""Gauge a prompt word by word, to see which word makes the model decide."""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice
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
    return gauged_words(model, tokenizer, circuit, [messages], rendering)[0]


def gauged_words(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    conversations: Iterable[Sequence[Message]],
    rendering: Rendering | None = None,
) -> list[tuple[Word, ...]]:
    """As :func:`word_gauges` for several conversations, which are read together."""
    parts, ids = [], []
    for *history, question in conversations:
        parts.append(split_words(question["content"]))
        for cut in accumulate(parts[-1]):
            messages = [*history, {**question, "content": cut}]
            ids.append(render(tokenizer, messages, rendering))
    values = map(float, gauges(model, circuit, ids))
    return [tuple(map(Word, words, islice(values, len(words)))) for words in parts]


def split_words(text: str, most: int = MOST_CUTS) -> list[str]:
    """Split a text into at most ``most`` parts of equally many words each."""
    words = _WORD.findall(text) or [text]
    words[-1] += text[sum(map(len, words)) :]
    size = -(-len(words) // most)
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]
