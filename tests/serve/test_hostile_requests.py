"""Damaged bodies are refused by what is wrong with them, and never break the server."""

import json
from typing import Any

import httpx
import pytest
from fuzzing import mutations
from pydantic import BaseModel, ValidationError
from served import served

from cna_mlx.circuit import Circuit
from cna_mlx.serve import schema

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
    "count", [40, pytest.param(120, marks=pytest.mark.slow)], ids=str
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


MANY = 5000
TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (schema.ChatRequest, {"messages": [{}] * MANY}),
        (schema.ChatRequest, {"messages": [MESSAGES[0]] * MANY}),
        (schema.ChatRequest, {"messages": [{"role": "user", "content": [{}] * MANY}]}),
        (schema.ChatRequest, {"messages": MESSAGES, "modalities": [1] * MANY}),
        (schema.ChatRequest, {"messages": MESSAGES, "stop": [1] * MANY}),
        (schema.ChatRequest, {"messages": MESSAGES, "arms": [1] * MANY}),
        (schema.CompletionRequest, {"prompt": [None] * MANY}),
        (schema.CompletionRequest, {"prompt": [[-1] * MANY]}),
        (schema.WordsRequest, {"messages": [{}] * MANY}),
        (schema.FirstWordsRequest, {"messages": MESSAGES, "models": [1] * MANY}),
        (schema.DetokenizeRequest, {"tokens": [-1] * MANY}),
        (
            schema.CompletionRequest,
            {"prompt": "a", "circuits": {str(n): "x" for n in range(MANY)}},
        ),
    ],
)
def test_a_body_of_many_errors_fails_at_the_first(
    kind: type[BaseModel], fields: dict[str, Any]
) -> None:
    """16 MB of them took gigabytes and minutes, in which nobody was answered."""
    model = {} if kind is schema.FirstWordsRequest else {"model": "demo"}
    body = json.dumps({**model, **fields}).encode()
    with pytest.raises(ValidationError) as found:
        kind.model_validate_json(body)
    assert found.value.error_count() <= 5  # of each type that a field may have


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"a\nb": 1}, "a\\nb: this server does not know"),
        ({"int": 1}, "int: this server does not know"),
        ({"k" * 5000: 1}, f"{'k' * 77}...: this server does not know"),
        ({"circuits": {"a\x1b\n": "x"}}, "circuits.a\\x1b\\n: 'x' is not"),
    ],
)
def test_a_fields_name_is_shown_on_one_line(fields: dict[str, Any], named: str) -> None:
    body = {"model": "demo", "messages": MESSAGES, **fields}
    with pytest.raises(ValidationError) as found:
        schema.ChatRequest.model_validate_json(json.dumps(body).encode())
    assert schema.error_text(found.value)[0].startswith(named)
