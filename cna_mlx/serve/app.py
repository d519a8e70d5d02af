"""The routes of the server."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cna_mlx import __version__
from cna_mlx.models.context import context_length
from cna_mlx.serve.api_error import ApiError
from cna_mlx.serve.generation import generate, unless_gone
from cna_mlx.serve.incoming import check, read
from cna_mlx.serve.lookups import first_words_lookup, words_lookup
from cna_mlx.serve.page import circuit_facts, page_response
from cna_mlx.serve.replies import ChatReply, CompletionReply
from cna_mlx.serve.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    FirstWordsRequest,
    TokenizeRequest,
    WordsRequest,
)
from cna_mlx.serve.service import Service
from cna_mlx.serve.work import LookedUp, Lookup

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

    app = Starlette(routes=routes, exception_handlers={HTTPException: failed})
    app.router.redirect_slashes = False  # to whatever a request calls this server
    return app


def _answered(
    service: Service,
    endpoint: Callable[[Service, Request], Coroutine[Any, Any, Response]],
) -> Endpoint:
    """An endpoint whose errors become replies, for clients who may ask."""

    async def answer(request: Request) -> Response:
        try:
            check(service, request)
            return await endpoint(service, request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:  # noqa: BLE001  # no traceback reaches a user
            return ApiError.of(error, service).response()

    return answer


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
    return {
        **entry,
        "context_length": limit,
        "circuits": service.arms.strengths_of(arm),
    }


async def _chat(service: Service, request: Request) -> Response:
    body = await read(service, request, ChatRequest)
    return await generate(service, request, body, ChatReply)


async def _completions(service: Service, request: Request) -> Response:
    body = await read(service, request, CompletionRequest)
    return await generate(service, request, body, CompletionReply)


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
    body = await read(service, request, WordsRequest)
    return await _look(service, request, partial(words_lookup, body, service.arms))


async def _first_words(service: Service, request: Request) -> Response:
    body = await read(service, request, FirstWordsRequest)
    made = partial(first_words_lookup, body, service.arms, service.texts)
    return await _look(service, request, made)


async def _look(
    service: Service, request: Request, made: Callable[..., Lookup]
) -> Response:
    """What another use of the model finds, between two steps of the answers."""

    async def looked() -> Response:
        with service.events() as events:
            work = await service.texts.run(lambda: made(events.deliver(0)))
            async with asyncio.timeout(service.limits.seconds):
                events.submit([work])
                _, event = await events.next()
        assert isinstance(event, LookedUp)
        return JSONResponse(event.value)

    return await unless_gone(request, looked())


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
    body = await read(service, request, TokenizeRequest)
    ids = await service.texts.run(
        lambda: service.texts.tokenizer.encode(
            body.prompt, add_special_tokens=body.add_special_tokens
        )
    )
    limit = context_length(service.engine.model)
    return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": limit})


async def _detokenize(service: Service, request: Request) -> Response:
    body = await read(service, request, DetokenizeRequest)
    text = await service.texts.run(lambda: service.texts.tokenizer.decode(body.tokens))
    return JSONResponse({"prompt": text})
