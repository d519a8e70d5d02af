"""Answers in the form of OpenAI's API."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from cna_mlx.serve.token_texts import Offsets, TokenTexts
from cna_mlx.serve.work import TokenScore

_LEAST = -9999.0  # what OpenAI has in the place of minus infinity


@dataclass
class ChoiceText:
    """An answer as it grows.

    Attributes:
        text, finish: so far.
        tokens: with their log-probabilities; with the prompt's if that is echoed.
        prompt, cached, made: the number of tokens of the prompt, of those that were in
            a cache, and of the answer.
        gauge: the prompt's reading in the answer's arm.
        extra: what this server adds: arm, gauge and label.
    """

    text: str = ""
    finish: str | None = None
    tokens: list[TokenScore] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    made: int = 0
    gauge: float | None = None
    extra: dict[str, Any] | None = None


def usage(choices: Sequence[ChoiceText]) -> dict[str, Any]:
    """The token counts of a request."""
    prompt = sum(one.prompt for one in choices)
    completion = sum(one.made for one in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached for one in choices)},
    }


class ApiReply:
    """The JSON of one request's answers.

    Args:
        model: the name that was asked for.
        texts: to write tokens.
        top: the number of most likely tokens; None for no log-probabilities.
    """

    kind: str
    chunk: str  # the kind of a part of a stream
    name: str

    def __init__(self, model: str, texts: TokenTexts, top: int | None) -> None:
        self._head = {
            "id": f"{self.name}-{token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        self._texts, self._top = texts, top

    def offsets(self) -> Offsets:
        """Where the tokens of an answer begin in its text, one after the other."""
        return Offsets(self._texts)

    def whole(self, choices: Sequence[ChoiceText]) -> dict[str, Any]:
        """The whole reply."""
        entries = [self._choice(place, one) for place, one in enumerate(choices)]
        return {
            **self._head,
            "object": self.kind,
            "choices": entries,
            "usage": usage(choices),
        }

    def part(
        self,
        index: int,
        text: str | None,
        tokens: Sequence[TokenScore] = (),
        finish: str | None = None,
        extra: dict[str, Any] | None = None,
        *,
        offsets: Offsets | None = None,
    ) -> dict[str, Any]:
        """A chunk of a stream; ``text`` is None at the beginning."""
        entry: dict[str, Any] = {"index": index, **self._delta(text)}
        offsets = offsets or self.offsets()
        entry["logprobs"] = self._logprobs(tokens, offsets) if tokens else None
        entry["finish_reason"] = finish
        if extra is not None:
            entry["cna"] = extra
        return {**self._head, "object": self.chunk, "choices": [entry]}

    def end(self, choices: Sequence[ChoiceText]) -> dict[str, Any]:
        """The chunk with the token counts."""
        return {
            **self._head,
            "object": self.chunk,
            "choices": [],
            "usage": usage(choices),
        }

    def _choice(self, index: int, one: ChoiceText) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": index, **self._message(one.text)}
        entry["logprobs"] = self._logprobs(one.tokens, self.offsets())
        entry["finish_reason"] = one.finish
        if one.extra is not None:
            entry["cna"] = one.extra
        return entry

    def _message(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def _delta(self, text: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _logprobs(self, tokens: Sequence[TokenScore], offsets: Offsets) -> Any:
        raise NotImplementedError


class ChatReply(ApiReply):
    """Answers to messages."""

    kind, chunk, name = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def _message(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, text: str | None) -> dict[str, Any]:
        if text is None:
            return {"delta": {"role": "assistant", "content": ""}}
        return {"delta": {"content": text} if text else {}}

    def _logprobs(self, tokens: Sequence[TokenScore], offsets: Offsets) -> Any:
        if self._top is None:
            return None
        content = [
            {
                **self._entry(one.id, one.logprob),
                "top_logprobs": [self._entry(*pair) for pair in one.top[: self._top]],
            }
            for one in tokens
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text, found = self._texts.text(token), self._texts.bytes_of(token)
        known = None if found is None else list(found)
        return {"token": text, "logprob": max(logprob, _LEAST), "bytes": known}


class CompletionReply(ApiReply):
    """Continuations of texts."""

    kind, chunk, name = "text_completion", "text_completion", "cmpl"

    def _message(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _delta(self, text: str | None) -> dict[str, Any]:
        return {"text": text or ""}

    def _logprobs(self, tokens: Sequence[TokenScore], offsets: Offsets) -> Any:
        if self._top is None:
            return None
        texts = [self._texts.name(one.id) for one in tokens]
        likely, values = [], []
        for one, text in zip(tokens, texts, strict=True):
            is_known = one.logprob == one.logprob  # nothing comes before the first
            values.append(max(one.logprob, _LEAST) if is_known else None)
            likely.append(self._likely(one, text) if is_known and self._top else None)
        return {
            "tokens": texts,
            "token_logprobs": values,
            "top_logprobs": likely if self._top else None,
            "text_offset": [offsets.take(one.id) for one in tokens],
        }

    def _likely(self, one: TokenScore, text: str) -> dict[str, float]:
        """The most likely tokens by their text, and the one that is there."""
        found: dict[str, float] = {}
        for token, logprob in one.top[: self._top]:
            found.setdefault(self._texts.name(token), max(logprob, _LEAST))
        found.setdefault(text, max(one.logprob, _LEAST))
        return found
