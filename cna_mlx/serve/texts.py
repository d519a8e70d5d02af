"""Prompts to token ids, and answers to labels, on a thread of their own."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

from cna_mlx.labels.label import label
from cna_mlx.prompts.chat_template import Message, Rendering, render
from cna_mlx.serve.token_texts import TokenTexts

_Found = TypeVar("_Found")


class Texts:
    """The tokenizer of the requests.

    It is a copy: the engine's thread uses the model's own, and a tokenizer of the
    tokenizers library must not be used by two threads at once.

    Attributes:
        tokens: the texts of single tokens; to be used inside :meth:`run`.
    """

    def __init__(self, tokenizer: Any, rendering: Rendering) -> None:
        self.tokenizer, self._rendering = deepcopy(tokenizer), rendering
        self.tokens = TokenTexts(self.tokenizer)
        self._thread = ThreadPoolExecutor(1, "cna-mlx-texts")

    async def run(self, work: Callable[[], _Found]) -> _Found:
        """Do something with the tokenizer; the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def rendered(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation.

        A system message takes the place of the server's.
        """
        rendering = rendering_for(messages, self._rendering)
        return render(self.tokenizer, list(messages), rendering)

    def encoded(self, prompt: str | Sequence[int]) -> list[int]:
        """Token ids of a text that is continued."""
        if isinstance(prompt, str):
            return list(self.tokenizer.encode(prompt))
        return list(prompt)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def label_of(text: str, *, opens_thought: bool = False) -> str:
    """The label of an answer."""
    return str(label(text, opens_thought=opens_thought).kind)


def rendering_for(messages: Sequence[Message], rendering: Rendering) -> Rendering:
    """How messages become token ids: their own system message comes first."""
    if any(message["role"] == "system" for message in messages):
        return replace(rendering, system=None)
    return rendering
