"""Errors as a client of OpenAI's API expects them."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from cna_mlx.errors import CnaError, OutOfMemoryError, RequestError
from cna_mlx.serve.arms import UnknownModelError
from cna_mlx.serve.engine import StoppedError
from cna_mlx.serve.service import Service

#: Of a reply to a client that should ask again.
BUSY = {"Retry-After": "1"}


class ApiError(Exception):
    """An error to send to a client, with its status code."""

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
            return cls(503, str(error), headers=BUSY)
        if isinstance(error, TimeoutError):
            return cls(504, f"the answer took more than {service.limits.seconds:g} s")
        if isinstance(error, CnaError):
            return cls(500, str(error))
        said = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        service.warn(said)
        return cls(500, f"{said}; please report it")
