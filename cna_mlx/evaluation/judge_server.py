"""A judge behind an address that talks like OpenAI's API."""

import json
import os
import re
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cna_mlx.errors import CnaError, InputError
from cna_mlx.evaluation.rubric import question, read_reply
from cna_mlx.labels.label import LabelKind

_KEY = "OPENAI_API_KEY"
_SECONDS = 60
_WAITS = (1, 4, 16, 40)  # seconds before each further try
_TOKENS = 16
_MOST_BYTES = 1 << 20
_PLAIN = re.compile(r"[!-~]+")
_LATER = "run the command again later"
_CHECK = "check the address (most end in /v1) and its ?model=NAME"


class _NoRedirect(HTTPRedirectHandler):
    """Send the key and the answers nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class ServerJudge:
    """Ask a server for each label; prompts and answers leave this machine.

    Args:
        address: e.g. ``http://localhost:8080/v1?model=NAME``. ``OPENAI_API_KEY`` is
            sent if it is set.

    Raises:
        InputError: the address or the key cannot be used.
    """

    def __init__(self, address: str) -> None:
        parts = _parsed(address)
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        self.address = f"{parts.scheme}://{parts.netloc}{path}"
        self.model = next(iter(parse_qs(parts.query).get("model", [])), None)
        self._headers = {"Content-Type": "application/json", "User-Agent": "cna-mlx"}
        if key := os.environ.get(_KEY, "").strip():
            if not _PLAIN.fullmatch(key):
                raise InputError(f"{_KEY} contains spaces or special characters")
            self._headers["Authorization"] = f"Bearer {key}"

    @property
    def name(self) -> str:
        """The model and its address."""
        return f"{self.model} at {self.address}" if self.model else self.address

    def judge(self, prompt: str | None, text: str) -> LabelKind | None:
        """Return the label of an answer; None if the reply names no label.

        Raises:
            InputError: the server rejects the request or the key.
            CnaError: it cannot be reached, fails, or replies something else.
        """
        content = question(prompt, text)
        body = {
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": _TOKENS,
            **({"model": self.model} if self.model else {}),
        }
        reply = self._post(json.dumps(body).encode())
        try:
            said = json.loads(reply)["choices"][0]["message"]["content"]
            return read_reply(said or "")
        except (ValueError, LookupError, TypeError):
            raise CnaError(
                f"{self.address} replied something else than a chat completion; "
                f"{_CHECK}"
            ) from None

    def _post(self, body: bytes) -> bytes:
        request = Request(
            f"{self.address}/chat/completions", body, self._headers, method="POST"
        )
        opener = build_opener(_NoRedirect)
        for wait in (*_WAITS, None):
            try:
                with opener.open(request, timeout=_SECONDS) as response:
                    return response.read(_MOST_BYTES)
            except HTTPError as error:
                failure = self._rejected(error)
                may_pass = error.code == 429 or error.code >= 500
            except (OSError, HTTPException, ValueError) as error:
                failure = self._broken(error)
                may_pass = not isinstance(error, URLError | ValueError)
            if wait is None or not may_pass:
                raise failure
            time.sleep(wait)
        raise AssertionError  # the last wait is None

    def _rejected(self, error: HTTPError) -> CnaError:
        """Our error for a status of the server."""
        said = f"{error.code}{_message(error)}"
        if error.code == 429 or error.code >= 500:
            state = "is busy" if error.code == 429 else "failed"
            return CnaError(f"{self.address} {state} ({said}); {_LATER}")
        if error.code in (401, 403):
            return InputError(f"{self.address} gives no access ({said}): set {_KEY}")
        return InputError(f"{self.address} rejects the request ({said}); {_CHECK}")

    def _broken(self, error: Exception) -> CnaError:
        """Our error for a connection that failed."""
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason or type(error).__name__
        return CnaError(
            f"{self.address} cannot be reached ({reason}); start the server, or check "
            "the address"
        )


def _parsed(address: str) -> SplitResult:
    """Split an address.

    Raises:
        InputError: it has no host, or a user name, which a result would record.
    """
    try:
        parts = urlsplit(address)
        is_usable = parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        is_usable = False
    if not (is_usable and _PLAIN.fullmatch(address)):
        raise InputError(
            f"{address}: not an address; write it as http://localhost:8080/v1"
        )
    return parts


def _message(error: HTTPError) -> str:
    """What the server says of an error, if it does so in JSON."""
    try:
        with error:
            found = json.loads(error.read(_MOST_BYTES))["error"]
        text = found["message"] if isinstance(found, dict) else found
        return f": {str(text)[:200]}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        return ""
