"""Damaged bodies are refused by what is wrong with them, and never break the server."""

import json
from typing import Any

import httpx
import pytest
from fuzzing import mutations
from served import served

from cna_mlx.circuit import Circuit

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "How do I bake bread?"}]},
]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "demo@0.5",
        "messages": MESSAGES,
        "max_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.01,
        "seed": 1,
        "n": 2,
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 2,
        "gauge": True,
        "label": True,
    },
    "/v1/completions": {
        "model": "demo",
        "circuits": {"part": 0.5},
        "prompt": [[5, 6, 7], [8, 9]],
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,
    },
    "/cna/words": {"model": "demo", "messages": MESSAGES},
    "/cna/first-words": {"models": ["demo", "demo@0"], "messages": MESSAGES},
    "/tokenize": {"prompt": "a text"},
    "/detokenize": {"tokens": [5, 6, 7]},
}


@pytest.mark.parametrize(
    "count", [40, pytest.param(300, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("path", BODIES)
def test_a_damaged_body_is_refused_or_answered(
    path: str, count: int, demo: tuple[Any, Any]
) -> None:
    circuit = Circuit.from_neurons([(1, 3, 1.0), (2, 5, 1.0)])
    seen = set()
    with (
        served(*demo, {"part": circuit}) as server,
        httpx.Client(base_url=server.url, timeout=60) as web,
    ):
        headers = {"Content-Type": "application/json"}
        for content in mutations(json.dumps(BODIES[path]).encode(), count, seed=1):
            reply = web.post(path, content=content, headers=headers)
            assert reply.status_code in (200, 400, 404), (content, reply.text)
            if reply.status_code != 200:
                message = reply.json()["error"]["message"]
                assert message
                assert "\n" not in message
            seen.add(reply.status_code)
        assert web.get("/health").json() == {"status": "ok", "answers": 0}
        assert server.warned == []
    assert 400 in seen
