"""Wait for the engine's events of one request, and put its answers together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.engine import Engine
from cna_mlx.serve.replies import ApiReply, ChoiceText
from cna_mlx.serve.requests import Choices
from cna_mlx.serve.texts import Texts, label_of
from cna_mlx.serve.work import (
    AnswerPart,
    Ended,
    Event,
    Failed,
    LookedUp,
    Read,
    Scored,
    Work,
)


class Events:
    """The events of a request's work, on the event loop.

    Leaving the context gives up what is not done, and frees its rows.

    Args:
        counted: called with 1 for each piece of work that begins, -1 when it ends.
    """

    def __init__(self, engine: Engine, counted: Callable[[int], None]) -> None:
        self._engine, self._counted = engine, counted
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._open: dict[int, Work] = {}

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        for place, work in list(self._open.items()):
            self._engine.cancel(work)
            self._close(place)

    def deliver(self, place: int) -> Callable[[Event], None]:
        """Return what the engine calls with the events of one answer."""

        def send(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._arrived, place, event)

        return send

    def submit(self, works: Sequence[Work]) -> None:
        """Give the engine its work."""
        for place, work in enumerate(works):
            self._open[place] = work
            self._counted(1)
            self._engine.submit(work)

    def _arrived(self, place: int, event: Event) -> None:
        if isinstance(event, Ended | Failed | Scored | LookedUp):
            self._close(place)  # also while the client does not read
        self._queue.put_nowait((place, event))

    def _close(self, place: int) -> None:
        if self._open.pop(place, None) is not None:
            self._counted(-1)

    async def next(self) -> tuple[int, Event]:
        """The next event and the answer that it is about.

        Raises:
            CnaError: the work failed.
        """
        place, event = await self._queue.get()
        if isinstance(event, Failed):
            raise event.error
        return place, event


class Answers:
    """The answers of one request."""

    def __init__(
        self, wanted: Choices, reply: ApiReply, arms: ServedArms, texts: Texts
    ) -> None:
        self._wanted, self._reply, self._texts = wanted, reply, texts
        self._arms = arms
        self.choices = [ChoiceText(prompt=len(ids)) for ids in wanted.prompts]

    async def whole(self, events: Events) -> dict[str, Any]:
        """The JSON of the whole reply."""
        async for _ in self._grown(events):
            pass
        return await self._texts.run(partial(self._reply.whole, self.choices))

    async def parts(self, events: Events) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream; the first comes when the first prompt was read."""
        begun: set[int] = set()
        offsets = [self._reply.offsets() for _ in self.choices]
        async for place, event in self._grown(events):
            if place not in begun:
                begun.add(place)
                yield self._reply.part(place, None)
            if isinstance(event, AnswerPart):
                part = partial(self._reply.part, place, event.text)
                if event.token and self._wanted.top is not None:
                    where = offsets[place]
                    yield await self._texts.run(
                        partial(part, [event.token], offsets=where)
                    )
                elif event.text:
                    yield part()
            elif isinstance(event, Ended):
                one = self.choices[place]
                yield self._reply.part(place, "", (), one.finish, one.extra)
        options = self._wanted.body.stream_options
        if options and options.include_usage:
            yield self._reply.end(self.choices)

    async def _grown(self, events: Events) -> AsyncIterator[tuple[int, Event]]:
        """Each event, after it was added to its answer."""
        left = len(self.choices)
        while left:
            place, event = await events.next()
            one = self.choices[place]
            if isinstance(event, AnswerPart):
                one.text += event.text
                if event.token:
                    one.made += 1
                    if self._wanted.top is not None:
                        one.tokens.append(event.token)
            elif isinstance(event, Read):
                one.cached, one.gauge = event.cached, event.gauge
            elif isinstance(event, Scored):
                await self._texts.run(partial(self._echo, one, event))
            if isinstance(event, Ended):
                one.finish = event.finish
            if isinstance(event, Ended | Scored):
                left -= 1
                one.extra = await self._extra(one, place)
            yield place, event

    def _echo(self, one: ChoiceText, event: Scored) -> None:
        one.tokens, one.finish = list(event.tokens), "length"
        one.made = len(event.tokens) - one.prompt
        one.text = self._texts.tokenizer.decode([token.id for token in event.tokens])

    async def _extra(self, one: ChoiceText, place: int) -> dict[str, Any] | None:
        """What this server adds to an answer, where it is asked for."""
        body = self._wanted.body
        if not (body.gauge or body.label):
            return None
        extra: dict[str, Any] = {
            "circuits": self._arms.strengths_of(self._wanted.arms[place])
        }
        if body.gauge:
            extra["gauge"] = one.gauge
        if body.label:
            opens = self._wanted.opens_thought[place]
            extra["label"] = await self._texts.run(
                lambda: label_of(one.text, opens_thought=opens)
            )
        return extra
