"""Reply to a request whole or as a stream, for as long as its client is there."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from cna_mlx.serve.answers import Answers
from cna_mlx.serve.api_error import BUSY, ApiError
from cna_mlx.serve.replies import ApiReply
from cna_mlx.serve.requests import Choices
from cna_mlx.serve.schema import Generation
from cna_mlx.serve.service import Service


async def generate(
    service: Service,
    request: Request,
    body: Generation,
    kind: type[ApiReply],
) -> Response:
    """Answer whole, or as a stream whose beginning tells whether it can be made."""
    wanted = await service.choices(body)
    if len(wanted.prompts) > service.limits.answers:
        raise ApiError(
            400,
            f"{len(wanted.prompts)} answers in one request: this server takes "
            f"{service.limits.answers} at most",
        )
    if service.open_answers + len(wanted.prompts) > service.limits.answers:
        raise ApiError(
            429,
            f"{service.open_answers} answers run or wait: try again later",
            headers=BUSY,
        )
    reply = kind(body.model, service.texts.tokens, wanted.top)
    running = _Running(service, body, wanted, reply)
    if not body.stream:
        return await unless_gone(request, running.whole())
    parts = running.parts()
    first = await unless_gone(request, anext(parts))
    return _Stream(_sent(service, first, parts), service.limits.send_seconds)


class _Running:
    """One request while it is answered."""

    def __init__(
        self, service: Service, body: Generation, wanted: Choices, reply: ApiReply
    ) -> None:
        self._service, self._body, self._wanted = service, body, wanted
        self._answers = Answers(wanted, reply, service.arms, service.texts)

    async def whole(self) -> Response:
        """The whole reply."""
        service = self._service
        with service.events() as events:
            async with asyncio.timeout(service.limits.seconds):
                events.submit(self._wanted.works(events.deliver))
                found = await self._answers.whole(events)
        self._log()
        return JSONResponse(found)

    async def parts(self) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a stream."""
        service = self._service
        with service.events() as events:
            ends = asyncio.get_running_loop().time() + service.limits.seconds
            events.submit(self._wanted.works(events.deliver))
            parts = self._answers.parts(events)
            while True:
                # not around a yield: the time-out would strike whoever runs then
                async with asyncio.timeout_at(ends):
                    part = await anext(parts, None)
                if part is None:
                    break
                yield part
        self._log()

    def _log(self) -> None:
        service, choices = self._service, self._answers.choices
        service.served += len(choices)
        service.tokens += sum(one.made for one in choices)
        if service.logged is None:
            return
        body = self._body.model_dump(mode="json", exclude_unset=True)
        answers = [
            {"text": one.text, "finish": one.finish, "cna": one.extra}
            for one in choices
        ]
        service.log({"request": body, "answers": answers})


class _Stream(StreamingResponse):
    """Server-sent events; when the client goes away, so does the work."""

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncIterator[bytes], patience: float) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(parts, headers=headers)
        self._parts, self._patience = parts, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            async with asyncio.timeout(self._patience):  # a client that does not read
                await send(message)

        try:
            await super().__call__(scope, receive, patient)
        finally:
            await self._parts.aclose()  # type: ignore[attr-defined]


async def _sent(
    service: Service, first: dict[str, Any], parts: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[bytes]:
    """The chunks as server-sent events; an error is the last one."""
    try:
        yield _event(first)
        async for part in parts:
            yield _event(part)
    except Exception as error:  # noqa: BLE001  # the status code is sent already
        yield _event(ApiError.of(error, service).to_dict())
        return
    finally:
        await parts.aclose()  # type: ignore[attr-defined]
    yield b"data: [DONE]\n\n"


def _event(part: dict[str, Any]) -> bytes:
    text = json.dumps(part, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


async def unless_gone(request: Request, work: Awaitable[Any]) -> Any:
    """Wait for work; end it when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
