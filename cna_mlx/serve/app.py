"""The routes, and what may come in."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from cna_mlx import __version__
from cna_mlx.errors import CnaError, OutOfMemoryError, RequestError
from cna_mlx.models.context import context_length
from cna_mlx.serve.answers import Answers, Events
from cna_mlx.serve.arms import ServedArms, UnknownModelError
from cna_mlx.serve.engine import Engine, StoppedError
from cna_mlx.serve.looks import first_words, words
from cna_mlx.serve.page import circuit_facts, page_response
from cna_mlx.serve.replies import ApiReply, ChatReply, CompletionReply
from cna_mlx.serve.requests import Choices, chat_choices, completion_choices
from cna_mlx.serve.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    FirstWordsRequest,
    Generation,
    TokenizeRequest,
    WordsRequest,
    error_text,
)
from cna_mlx.serve.texts import Texts
from cna_mlx.serve.work import LookedUp, Lookup

_OPEN = {"/", "/health"}  # without a key: they show nothing
_BUSY = {"Retry-After": "1"}


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        body_bytes: of a request.
        body_seconds: until the body of a request has come.
        seconds: until an answer is whole.
        send_seconds: until a client has taken a part of a stream.
        answers: that run or wait at once.
        max_tokens: of an answer, where the request names none.
    """

    body_bytes: int = 16 << 20
    body_seconds: float = 30.0
    seconds: float = 3600.0
    send_seconds: float = 60.0
    answers: int = 1024
    max_tokens: int = 512


@dataclass
class Service:
    """What the routes need.

    Attributes:
        key: that clients must send; None for no key.
        hosts: the names by which the server may be called; None for any.
        logged: called with a request and its answers, if they are logged.
        warn: called with a line about an error of the server's own.
        open_answers: how many answers run or wait.
        served, tokens: how many answers were finished, and their tokens.
    """

    engine: Engine
    arms: ServedArms
    texts: Texts
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    hosts: frozenset[str] | None = None
    logged: Callable[[dict[str, Any]], None] | None = None
    warn: Callable[[str], None] = lambda text: None
    open_answers: int = 0
    served: int = 0
    tokens: int = 0

    def events(self) -> Events:
        """The events of one request, whose answers are counted."""
        return Events(self.engine, self._count)

    def _count(self, change: int) -> None:
        self.open_answers += change

    def log(self, entry: dict[str, Any]) -> None:
        """Log a request and its answers, if wanted; a full disk ends no request."""
        if self.logged is not None:
            try:
                self.logged(entry)
            except OSError as error:
                self.warn(f"a request was not logged: {error}")


class ApiError(Exception):
    """An error that a client is told, with its status code."""

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.code, self.headers = status, field, code, headers

    def to_dict(self) -> dict[str, Any]:
        """The body of the reply."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
            self.status, kind
        )
        error = {"message": str(self), "type": kind, "param": self.field}
        return {"error": {**error, "code": self.code}}

    def response(self) -> Response:
        """The reply."""
        return JSONResponse(self.to_dict(), self.status, self.headers)

    @classmethod
    def of(cls, error: Exception, service: Service) -> "ApiError":
        """The reply to any error; one that is not a client's is also told the user."""
        if isinstance(error, ApiError):
            return error
        if isinstance(error, HTTPException):
            return cls(
                error.status_code, error.detail, headers=dict(error.headers or {})
            )
        if isinstance(error, UnknownModelError):
            return cls(404, str(error), "model", "model_not_found")
        if isinstance(error, RequestError):
            return cls(400, str(error))
        if isinstance(error, StoppedError):
            return cls(503, str(error))
        if isinstance(error, OutOfMemoryError):
            return cls(503, str(error), headers=_BUSY)
        if isinstance(error, TimeoutError):
            return cls(504, f"the answer took more than {service.limits.seconds:g} s")
        if isinstance(error, CnaError):
            return cls(500, str(error))
        service.warn(f"unexpected {type(error).__name__}: {error}")
        return cls(500, f"unexpected {type(error).__name__}: {error}; please report it")


Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def make_app(service: Service) -> Starlette:
    """The ASGI application of a service."""
    routes = [
        Route("/", _answered(service, page_response), methods=["GET"]),
        Route("/health", _answered(service, _health), methods=["GET"]),
        Route("/v1/models", _answered(service, _models), methods=["GET"]),
        Route("/v1/models/{name:path}", _answered(service, _model), methods=["GET"]),
        Route("/v1/chat/completions", _answered(service, _chat), methods=["POST"]),
        Route("/v1/completions", _answered(service, _completions), methods=["POST"]),
        Route("/cna/info", _answered(service, _info), methods=["GET"]),
        Route("/cna/words", _answered(service, _words), methods=["POST"]),
        Route("/cna/first-words", _answered(service, _first_words), methods=["POST"]),
        Route("/tokenizer_info", _answered(service, _tokenizer), methods=["GET"]),
        Route("/tokenize", _answered(service, _tokenize), methods=["POST"]),
        Route("/detokenize", _answered(service, _detokenize), methods=["POST"]),
    ]

    async def failed(request: Request, error: Exception) -> Response:
        return ApiError.of(error, service).response()

    return Starlette(routes=routes, exception_handlers={HTTPException: failed})


def _answered(
    service: Service,
    endpoint: Callable[[Service, Request], Coroutine[Any, Any, Response]],
) -> Endpoint:
    """An endpoint whose errors become replies, for clients who may ask."""

    async def answer(request: Request) -> Response:
        try:
            _check(service, request)
            return await endpoint(service, request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:  # noqa: BLE001  # no traceback reaches a user
            return ApiError.of(error, service).response()

    return answer


def _check(service: Service, request: Request) -> None:
    """See that the client may ask."""
    host = request.headers.get("host", "").lower()
    if service.hosts is not None and _name(host) not in service.hosts:
        # a page in a browser could have any name point here
        raise ApiError(421, f"this server is not called {host!r:.80}")
    if service.key is None or request.url.path in _OPEN:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(
        given.strip().encode(), service.key.encode()
    ):
        raise ApiError(401, "send the server's key: Authorization: Bearer KEY")


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


async def _read(service: Service, request: Request, kind: type[BaseModel]) -> Any:
    """The body of a request.

    Raises:
        ApiError: it is of another type, too large, too slow or malformed.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != "application/json":  # which no other site's page can send unasked
        raise ApiError(415, "send JSON, with Content-Type: application/json")
    limits, data = service.limits, bytearray()
    too_large = ApiError(413, f"the body has more than {limits.body_bytes} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise too_large
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                data += part
                if len(data) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        raise ApiError(
            408, f"the body took more than {limits.body_seconds:g} s"
        ) from None
    try:
        return TypeAdapter(kind).validate_json(bytes(data))
    except ValidationError as error:
        raise ApiError(400, *error_text(error)) from None


async def _health(service: Service, request: Request) -> Response:
    return JSONResponse({"status": "ok", "answers": service.open_answers})


async def _models(service: Service, request: Request) -> Response:
    listed = [_entry(service, name) for name in service.arms.listed()]
    return JSONResponse({"object": "list", "data": listed})


async def _model(service: Service, request: Request) -> Response:
    name = request.path_params["name"]
    service.arms.arm(name)
    return JSONResponse(_entry(service, name))


def _entry(service: Service, name: str) -> dict[str, Any]:
    arm = service.arms.arm(name)
    entry = {"id": name, "object": "model", "created": 0, "owned_by": "cna-mlx"}
    limit = context_length(service.engine.model)
    return {**entry, "context_length": limit, "circuits": service.arms.name_of(arm)}


async def _chat(service: Service, request: Request) -> Response:
    body = await _read(service, request, ChatRequest)
    wanted = await service.texts.run(
        lambda: chat_choices(
            body,
            service.arms,
            service.engine.model,
            service.texts,
            service.limits.max_tokens,
        )
    )
    reply = ChatReply(body.model, service.texts.tokenizer, wanted.top)
    return await _generate(service, request, body, wanted, reply)


async def _completions(service: Service, request: Request) -> Response:
    body = await _read(service, request, CompletionRequest)
    wanted = await service.texts.run(
        lambda: completion_choices(
            body,
            service.arms,
            service.engine.model,
            service.texts,
            service.limits.max_tokens,
        )
    )
    reply = CompletionReply(body.model, service.texts.tokenizer, wanted.top)
    return await _generate(service, request, body, wanted, reply)


async def _generate(
    service: Service,
    request: Request,
    body: Generation,
    wanted: Choices,
    reply: ApiReply,
) -> Response:
    """Answer whole, or as a stream whose beginning tells whether it can be made."""
    if service.open_answers + len(wanted.prompts) > service.limits.answers:
        raise ApiError(
            429,
            f"{service.open_answers} answers run or wait: try again later",
            headers=_BUSY,
        )
    running = _Running(service, body, wanted, reply)
    if not body.stream:
        return await _unless_gone(request, running.whole())
    parts = running.parts()
    first = await _unless_gone(request, anext(parts))
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


async def _unless_gone(request: Request, work: Awaitable[Any]) -> Any:
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


async def _info(service: Service, request: Request) -> Response:
    """What the page must know of the server."""
    return JSONResponse(
        {
            "model": service.arms.model,
            "models": service.arms.listed(),
            "circuits": {
                name: circuit_facts(one) for name, one in service.arms.circuits.items()
            },
            "max_tokens": service.limits.max_tokens,
            "context_length": context_length(service.engine.model),
            "version": __version__,
        }
    )


async def _words(service: Service, request: Request) -> Response:
    body = await _read(service, request, WordsRequest)
    look = partial(words, body, service.engine, service.arms, service.texts)
    return await _unless_gone(request, _looked(service, look))


async def _first_words(service: Service, request: Request) -> Response:
    body = await _read(service, request, FirstWordsRequest)
    messages = [message.to_dict() for message in body.messages]
    ids = await service.texts.run(lambda: service.texts.rendered(messages))
    look = partial(first_words, body, service.engine, service.arms, ids)
    return await _unless_gone(request, _looked(service, look))


async def _looked(service: Service, look: Callable[[], Any]) -> Response:
    """What another use of the model finds, between two steps of the answers."""
    with service.events() as events:
        async with asyncio.timeout(service.limits.seconds):
            events.submit([Lookup(events.deliver(0), look)])
            _, event = await events.next()
    assert isinstance(event, LookedUp)
    return JSONResponse(event.value)


async def _tokenizer(service: Service, request: Request) -> Response:
    """What lm-eval asks a server about its tokenizer."""
    own = service.texts.tokenizer
    names = ("eos_token", "bos_token", "pad_token")
    return JSONResponse(
        {
            "tokenizer_class": type(own).__name__,
            **{name: getattr(own, name, None) for name in names},
            "chat_template": getattr(own, "chat_template", None),
        }
    )


async def _tokenize(service: Service, request: Request) -> Response:
    body = await _read(service, request, TokenizeRequest)
    ids = await service.texts.run(
        lambda: service.texts.tokenizer.encode(
            body.prompt, add_special_tokens=body.add_special_tokens
        )
    )
    limit = context_length(service.engine.model)
    return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": limit})


async def _detokenize(service: Service, request: Request) -> Response:
    body = await _read(service, request, DetokenizeRequest)
    text = await service.texts.run(lambda: service.texts.tokenizer.decode(body.tokens))
    return JSONResponse({"prompt": text})
