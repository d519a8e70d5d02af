"""The page at ``/``: one file without outside resources, under a strict policy."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cna_mlx.circuit import Circuit
from cna_mlx.steering.gauge_scale import can_gauge

_BLOCK = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> str:
    """The page's text."""
    return files("cna_mlx.serve").joinpath("page.html").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """What the page is sent with.

    Its policy allows only its own style and script, by their hashes, requests to this
    server, and an icon: a model's text can neither run nor call anyone.
    """
    hashes = {kind: _hash(text) for kind, text in _BLOCK.findall(page())}
    policy = (
        "default-src 'none'",
        f"script-src {hashes['script']}",
        f"style-src {hashes['style']}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text becomes HTML
        "trusted-types 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


async def page_response(service: object, request: Request) -> Response:
    """Send the page."""
    return Response(page(), media_type="text/html", headers=headers())


def circuit_facts(circuit: Circuit) -> dict[str, Any]:
    """What the page says of a circuit; the sides are those of its contrast."""
    contrast = circuit.provenance.contrast
    return {
        "neurons": len(circuit.neurons),
        "gauge": can_gauge(circuit),
        "sides": contrast and [contrast.positive_label, contrast.negative_label],
    }
