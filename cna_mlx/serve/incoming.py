"""Who may ask, and what a request's body may be."""

import asyncio
import hmac
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from cna_mlx.serve.api_error import ApiError
from cna_mlx.serve.schema import error_text
from cna_mlx.serve.service import Service

_OPEN = {"/", "/health"}  # without a key: they show nothing


def check(service: Service, request: Request) -> None:
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


async def read(service: Service, request: Request, kind: type[BaseModel]) -> Any:
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
