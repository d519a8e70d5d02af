"""Requests over HTTP: what comes back, also to wrong ones."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from served import Served, served

from cna_mlx.circuit import Circuit
from cna_mlx.labels.label import label
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.serve.server import _Protocol
from cna_mlx.serve.service import Limits
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, diff
from cna_mlx.steering.events import Gauged

SPELL = "How do I cast a sleep spell?"
CHAT = "/v1/chat/completions"
LONG = "Write a long story about a fox."


@pytest.fixture(scope="module")
def web(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def clients() -> Iterator[Any]:
    """Make clients that are closed at the end."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(httpx.Client(base_url=url, timeout=60))


def ask(web: httpx.Client, text: str = SPELL, **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return web.post(CHAT, json={"model": "demo", "messages": messages, **more})


def parts_of(web: httpx.Client, path: str = CHAT, **body: Any) -> list[Any]:
    body = {"model": "demo", "stream": True, **body}
    if path == CHAT:
        body.setdefault("messages", [{"role": "user", "content": SPELL}])
    with web.stream("POST", path, json=body) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line[6:] for line in reply.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture(scope="module")
def right(demo: tuple[Any, Any], magic: Circuit) -> dict[str, Any]:
    """What `diff` says of the question: by the name of the arm."""
    arms = [BASELINE, Arm.of(magic, 0.0), Arm.of(magic, 0.5)]
    events = list(diff(*demo, [SPELL], arms, gauge=magic, max_tokens=512))
    (result,) = (one for one in events if isinstance(one, PromptResult))
    (gauges,) = (one.arms for one in events if isinstance(one, Gauged))
    names = ("demo", "demo@0", "demo@0.5")
    return {
        name: (arm, gauge)
        for name, arm, gauge in zip(names, result.arms, gauges, strict=True)
    }


# --- answers --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "demo@0", "demo@0.5"])
def test_an_answer_has_its_arms_text_gauge_and_label(
    name: str, web: httpx.Client, demo: Any, right: dict[str, Any]
) -> None:
    reply = ask(web, model=name, gauge=True, label=True).json()
    arm, gauge = right[name]
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == arm.text
    assert choice["finish_reason"] == arm.finish == "stop"
    assert choice["cna"]["gauge"] == pytest.approx(gauge, abs=1e-4)
    assert choice["cna"]["label"] == arm.label.kind
    said = {} if name == "demo" else {"magic": name.partition("@")[2]}
    assert choice["cna"]["circuits"] == said
    prompt = len(render_prompt(demo[1], SPELL))
    made = len(arm.token_ids)
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, made)
    assert usage["total_tokens"] == prompt + made


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "demo@0"},
        {"model": "demo@magic@0"},
        {"multiplier": 0},
        {"multiplier": "0.0"},
        {"circuits": {"magic": 0}},
        {"model": "demo@0", "multiplier": 0},
    ],
)
def test_an_arm_can_be_asked_for_in_several_ways(
    fields: dict[str, Any], web: httpx.Client, right: dict[str, Any]
) -> None:
    choice = ask(web, **fields, label=True).json()["choices"][0]
    assert choice["message"]["content"] == right["demo@0"][0].text
    assert choice["cna"]["circuits"] == {"magic": "0"}


@pytest.mark.parametrize("fields", [{}, {"multiplier": 1}, {"circuits": {}}])
def test_a_multiplier_of_1_is_the_model_itself(
    fields: dict[str, Any], web: httpx.Client, right: dict[str, Any]
) -> None:
    choice = ask(web, **fields, label=True).json()["choices"][0]
    assert choice["message"]["content"] == right["demo"][0].text
    assert choice["cna"]["circuits"] == {}


def test_without_being_asked_nothing_is_added(web: httpx.Client) -> None:
    assert "cna" not in ask(web).json()["choices"][0]


def test_a_stream_adds_up_to_the_whole(
    web: httpx.Client, right: dict[str, Any]
) -> None:
    for name, (arm, gauge) in right.items():
        parts = parts_of(
            web,
            model=name,
            gauge=True,
            label=True,
            stream_options={"include_usage": True},
        )
        *parts, usage = parts
        deltas = [part["choices"][0]["delta"] for part in parts]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert "".join(one.get("content", "") for one in deltas) == arm.text
        ends = [part["choices"][0]["finish_reason"] for part in parts]
        assert ends == [None] * (len(ends) - 1) + ["stop"]
        extra = parts[-1]["choices"][0]["cna"]
        assert extra["label"] == arm.label.kind
        assert extra["gauge"] == pytest.approx(gauge, abs=1e-4)
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == len(arm.token_ids)
        assert len({part["id"] for part in parts}) == 1


def test_a_system_message_and_earlier_turns_are_rendered(
    web: httpx.Client, demo: tuple[Any, Any]
) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
        {"role": "assistant", "content": "Hi.", "refusal": None},
        {"role": "user", "content": SPELL},
    ]
    body = {"model": "demo", "messages": messages, "max_tokens": 1}
    reply = web.post(CHAT, json=body).json()
    plain = [{"role": "system", "content": "Be brief."}, *messages[1:]]
    plain[1] = {"role": "user", "content": "Hello!"}
    plain[2] = {"role": "assistant", "content": "Hi."}
    ids = demo[1].apply_chat_template(plain, add_generation_prompt=True)
    assert reply["usage"]["prompt_tokens"] == len(ids)


def test_sampled_answers_repeat_with_their_seed(web: httpx.Client) -> None:
    def texts(**more: Any) -> list[str]:
        body = {"model": "demo", "prompt": "The", "temperature": 1.5, "max_tokens": 20}
        reply = web.post("/v1/completions", json={**body, **more}).json()
        return [one["text"] for one in reply["choices"]]

    assert texts(seed=3, n=3) == texts(seed=3, n=3)
    assert len(set(texts(seed=3, n=3))) == 3
    assert texts(seed=3) == texts(seed=3, n=2)[:1]
    assert texts() != texts()
    assert texts(seed=1, top_p=0.01) == texts(seed=2, top_p=0.01)
    assert texts(seed=1, top_k=1) == texts(seed=2, top_k=1)
    assert texts(seed=1, min_p=1.0) == texts(seed=2, min_p=1.0)


def test_stop_strings_and_limits_end_answers(
    web: httpx.Client, right: dict[str, Any]
) -> None:
    text = right["demo"][0].text
    stop = text[10:14]
    choice = ask(web, stop=["zzz", stop]).json()["choices"][0]
    assert choice["message"]["content"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"
    for field in ("max_tokens", "max_completion_tokens"):
        reply = ask(web, **{field: 3}).json()
        assert reply["usage"]["completion_tokens"] == 3
        assert reply["choices"][0]["finish_reason"] == "length"


def test_chat_log_probabilities(web: httpx.Client, right: dict[str, Any]) -> None:
    reply = ask(web, logprobs=True, top_logprobs=3).json()
    content = reply["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == right["demo"][0].text
    for one in content:
        assert one["top_logprobs"][0]["token"] == one["token"]  # greedy
        assert one["top_logprobs"][0]["logprob"] == one["logprob"] <= 0
        assert bytes(one["bytes"]).decode() == one["token"]
        likely = [other["logprob"] for other in one["top_logprobs"]]
        assert likely == sorted(likely, reverse=True)
        assert len(likely) == 3
    streamed = parts_of(web, logprobs=True, top_logprobs=3)
    found = [
        one
        for part in streamed
        for one in (part["choices"][0].get("logprobs") or {}).get("content", [])
    ]
    assert [one["token"] for one in found] == [one["token"] for one in content]


def test_completions_continue_texts_and_token_ids(
    web: httpx.Client, demo: tuple[Any, Any]
) -> None:
    prompts = ["The cat sat on", "A dragon is"]
    ids = [list(demo[1].encode(prompt)) for prompt in prompts]
    found = []
    for prompt in (prompts, ids):
        body = {"model": "demo@0", "prompt": prompt, "max_tokens": 9}
        reply = web.post("/v1/completions", json=body).json()
        assert [one["index"] for one in reply["choices"]] == [0, 1]
        found.append([one["text"] for one in reply["choices"]])
    assert found[0] == found[1]
    parts = parts_of(
        web, "/v1/completions", model="demo@0", prompt=prompts, max_tokens=9
    )
    texts = ["", ""]
    for part in parts:
        (choice,) = part["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == found[0]


def test_a_long_prompt_does_not_shorten_the_others_answers(
    endless_demo: Served, clients: Any
) -> None:
    body = {"model": "demo", "prompt": [[5] * 500, [5, 6]], "max_tokens": 40}
    reply = clients(endless_demo.url).post("/v1/completions", json=body).json()
    assert reply["usage"]["completion_tokens"] == 12 + 40


def test_a_prompt_of_several_is_answered_as_alone(
    endless_demo: Served, clients: Any
) -> None:
    """Up to its own end of the context, and with the noise of the request's seed."""
    web = clients(endless_demo.url)

    def answers(*prompts: list[int]) -> list[Any]:
        body = {"model": "demo", "prompt": prompts, "temperature": 1, "seed": 7}
        reply = web.post("/v1/completions", json={**body, "max_tokens": 500}).json()
        return [(one["text"], one["finish_reason"]) for one in reply["choices"]]

    short, long = [5, 6, 7] * 150, [7, 6, 5] * 168
    assert answers(long, short) == [*answers(long), *answers(short)]


@pytest.mark.parametrize("follows", [0, 1])
def test_echo_scores_the_prompt(
    follows: int, web: httpx.Client, demo: tuple[Any, Any]
) -> None:
    text = "The cat sat on the mat"
    body = {"model": "demo", "echo": True, "logprobs": 2, "max_tokens": follows}
    reply = web.post("/v1/completions", json={**body, "prompt": text}).json()
    (choice,) = reply["choices"]
    found, ids = choice["logprobs"], list(demo[1].encode(text))
    assert choice["text"].startswith(text)
    assert len(found["tokens"]) == len(ids) + follows
    assert "".join(found["tokens"]) == choice["text"]
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert all(value < 0 for value in found["token_logprobs"][1:])
    for offset, token in zip(found["text_offset"], found["tokens"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert reply["usage"]["completion_tokens"] == follows
    by_ids = web.post("/v1/completions", json={**body, "prompt": [ids, ids]}).json()
    for one in by_ids["choices"]:
        values = one["logprobs"]["token_logprobs"]
        assert values[1:] == pytest.approx(found["token_logprobs"][1:], abs=1e-4)


def test_models_are_the_arms(web: httpx.Client) -> None:
    listed = web.get("/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["demo", "demo@0", "demo@0.5"]
    one = web.get("/v1/models/demo@1.25").json()
    assert (one["id"], one["circuits"]) == ("demo@1.25", {"magic": "1.25"})
    assert web.get("/v1/models/other").status_code == 404
    assert web.get("/health").json()["status"] == "ok"


def test_words_and_first_words(web: httpx.Client) -> None:
    messages = [{"role": "user", "content": SPELL}]
    body = {"model": "demo", "messages": messages}
    words = web.post("/cna/words", json=body).json()["words"]
    assert "".join(one["text"] for one in words) == SPELL
    gauge = ask(web, gauge=True).json()["choices"][0]["cna"]["gauge"]
    assert words[-1]["gauge"] == pytest.approx(gauge, abs=1e-4)
    body = {"models": ["demo", "demo@0"], "messages": messages, "count": 4}
    found = web.post("/cna/first-words", json=body).json()
    assert len(found["tokens"]) == 4
    for name in ("demo", "demo@0"):
        best = max(found["tokens"], key=lambda one: one["probabilities"][name])
        text = ask(web, model=name).json()["choices"][0]["message"]["content"]
        assert text.startswith(best["text"])


def test_a_server_tokenizes(web: httpx.Client, demo: tuple[Any, Any]) -> None:
    ids = web.post("/tokenize", json={"prompt": "a cat"}).json()["tokens"]
    assert ids == demo[1].encode("a cat", add_special_tokens=False)
    text = web.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    assert text == "a cat"
    for wrong in (-1, 2**40, 10**400):
        reply = web.post("/detokenize", json={"tokens": [wrong]})
        assert reply.status_code == 400
    assert web.get("/tokenizer_info").json()["eos_token"] == demo[1].eos_token


# --- wrong requests -------------------------------------------------------------------

MESSAGES = [{"role": "user", "content": "a"}]
WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"messages": []}, 400, "messages"),
    ({"messages": "hello"}, 400, "messages"),
    ({"messages": [{"role": "tool", "content": "a"}]}, 400, "role"),
    ({"messages": [{"role": "user"}]}, 400, "content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text"),
    ({"model": None}, 400, "model"),
    ({"model": "gpt"}, 404, "no model 'gpt' here"),
    ({"model": "demo@"}, 404, "no model"),
    ({"model": "demo@x"}, 400, "'x' is not a finite multiplier"),
    ({"model": "demo@other@0"}, 400, "no circuit 'other': there is magic"),
    ({"model": "demo@0", "multiplier": 2}, 400, "differ"),
    ({"model": "demo@0", "circuits": {"magic": 1}}, 400, "leave out multiplier"),
    ({"multiplier": "nan"}, 400, "multiplier"),
    ({"multiplier": 1e39}, 400, "multiplier"),
    ({"multiplier": True}, 400, "multiplier"),
    ({"multiplier": [0]}, 400, "multiplier"),
    ({"circuits": {"other": 0}}, 400, "no circuit 'other'"),
    ({"multipler": 0}, 400, "multipler: this server does not know the field"),
    ({"temperature": -1}, 400, "temperature"),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"top_p": 0}, 400, "top_p"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": 1.5}, 400, "max_tokens"),
    ({"n": 1000}, 400, "n: "),
    ({"stop": [""]}, 400, "stop"),
    ({"tools": [{"type": "function"}]}, 400, "tools"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format"),
    ({"presence_penalty": 1}, 400, "presence_penalty"),
    ({"top_logprobs": 2}, 400, "logprobs: true"),
    ({"messages": [{"role": "user", "content": "word " * 600}]}, 400, "context"),
]


@pytest.mark.parametrize(("fields", "status", "said"), WRONG)
def test_a_wrong_request_is_told_what_to_mend(
    fields: dict[str, Any], status: int, said: str, web: httpx.Client, server: Served
) -> None:
    reply = web.post(CHAT, json={"model": "demo", "messages": MESSAGES, **fields})
    assert reply.status_code == status
    error = reply.json()["error"]
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert error["type"] == "invalid_request_error"
    assert server.service.open_answers == 0
    assert server.warned == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**9]}, "embedding"),
        ({"prompt": "a", "echo": True, "max_tokens": 2}, "echo"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "logprobs": 99}, "logprobs"),
    ],
)
def test_a_wrong_completion_is_told_what_to_mend(
    fields: dict[str, Any], said: str, web: httpx.Client
) -> None:
    reply = web.post("/v1/completions", json={"model": "demo", **fields})
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'"a"', "application/json", 400),
        (b'{"model": "\xff"}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_that_is_not_json_is_refused(
    content: bytes, kind: str, status: int, web: httpx.Client
) -> None:
    reply = web.post(CHAT, content=content, headers={"Content-Type": kind})
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_a_multiplier_that_is_too_large_is_the_clients_to_mend(
    web: httpx.Client,
) -> None:
    for name, path in (("messages", CHAT), ("prompt", "/v1/completions")):
        asked = [{"role": "user", "content": SPELL}] if path == CHAT else SPELL
        body = {"model": "demo@3e38", name: asked}
        for more in ({}, {"echo": True}) if name == "prompt" else ({},):
            reply = web.post(path, json={**body, "max_tokens": 1, **more})
            assert reply.status_code == 400
            assert "take a smaller one" in reply.json()["error"]["message"]


def test_other_paths_and_methods_are_refused(web: httpx.Client) -> None:
    assert web.get("/health/").status_code == 404
    assert web.get("/v1/nothing").status_code == 404
    assert web.get(CHAT).status_code == 405
    assert web.put("/v1/models").json()["error"]["type"] == "invalid_request_error"


def test_neutral_fields_of_other_tools_are_accepted(web: httpx.Client) -> None:
    fields = {
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "user": "me",
        "metadata": {"a": "b"},
        "stop": None,
        "stream": False,
        "n": 1,
    }
    assert ask(web, max_tokens=1, **fields).status_code == 200


# --- clients that misbehave -----------------------------------------------------------


def raw(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.sendall(data)
    return connection


def head(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
        "Content-Type: application/json\r\n\r\n"
    ).encode() + body


def body_of(**more: Any) -> bytes:
    messages = [{"role": "user", "content": LONG}]
    body = {"model": "demo@3", "messages": messages, "max_tokens": 400, **more}
    return json.dumps(body).encode()


def until(condition: Any) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_goes_away_frees_its_row(
    streams: bool, server: Served, endless_demo: Served
) -> None:
    service = endless_demo.service
    connection = raw(endless_demo.port, head(body_of(stream=streams)))
    until(lambda: service.engine.running == 1)
    if streams:
        assert b"200 OK" in connection.recv(4096)
    connection.close()
    until(lambda: service.engine.running == 0 and service.open_answers == 0)
    assert endless_demo.warned == []


@pytest.fixture(scope="module")
def endless_demo(demo: tuple[Any, Any], magic: Circuit) -> Iterator[Served]:
    """A demo that goes on to the limit of its context, with strict limits."""
    from tiny_models import Ends

    limits = Limits(body_bytes=4096, body_seconds=0.5, seconds=2.0, answers=4)
    with served(demo[0], Ends(demo[1]), {"magic": magic}, limits=limits) as found:
        yield found


def test_a_large_body_is_refused(endless_demo: Served) -> None:
    big = b'{"model": "' + b"a" * 5000 + b'"}'
    for data in (head(big), head(b"{", 5000)):
        with raw(endless_demo.port, data) as connection:
            assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]
    chunked = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: application/json\r\n\r\n1388\r\n"
    ).encode() + b"a" * 5000
    with raw(endless_demo.port, chunked) as connection:
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def test_a_slow_body_is_refused(endless_demo: Served) -> None:
    with raw(endless_demo.port, head(b"{", 100)) as connection:
        assert b" 408 " in connection.recv(4096).partition(b"\r\n")[0]


def test_a_client_that_sends_no_request_is_left(
    endless_demo: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cna_mlx.serve.server._HEAD_SECONDS", 0.3)
    with raw(endless_demo.port, b"POST /v1/chat") as connection:
        assert connection.recv(10) == b""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are looked at often."""
    monkeypatch.setattr("cna_mlx.serve.server._HEAD_SECONDS", 0.2)
    monkeypatch.setattr("cna_mlx.serve.server._IDLE_SECONDS", 0.2)


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize(
    "begins", [b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nPOST", head(b"{", 5000)]
)
def test_a_client_that_drips_after_a_reply_is_left(
    begins: bytes, endless_demo: Served
) -> None:
    """A second request that never comes, a body that was refused."""
    with raw(endless_demo.port, begins) as connection:
        assert b"HTTP/1.1 " in connection.recv(4096)
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(100):
                connection.sendall(b"a")
                time.sleep(0.05)


def noting(real: Any, seen: list[Any]) -> Any:
    """A method that is also noted."""

    def noted(self: Any, argument: Any) -> Any:
        seen.append(argument)
        return real(self, argument)

    return noted


@pytest.mark.usefixtures("looks")
def test_a_reply_that_nobody_reads_leaves_no_connection(
    demo: tuple[Any, Any], magic: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_models import Ends

    made, lost = [], []
    for name, seen in (("connection_made", made), ("connection_lost", lost)):
        real = getattr(_Protocol, name)
        monkeypatch.setattr(_Protocol, name, noting(real, seen))
    more = {"n": 16, "logprobs": True, "top_logprobs": 20}
    limits = Limits(send_seconds=0.3)
    with served(demo[0], Ends(demo[1]), {"magic": magic}, limits=limits) as found:
        for count, streams in enumerate((True, False), 1):
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", found.port))
                connection.sendall(head(body_of(stream=streams, **more)))
                until(lambda count=count: len(made) == count)
                until(lambda count=count: len(lost) == count)
        until(lambda: found.service.engine.running == 0)


@pytest.mark.parametrize(
    "begins",
    [
        b"POST /v1/nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        head(b'{"model": "demo", "prompt": [5], "stream": true}'),
    ],
)
def test_a_request_that_breaks_after_its_reply_is_no_traceback(
    begins: bytes, endless_demo: Served, caplog: pytest.LogCaptureFixture
) -> None:
    begins = begins.replace(CHAT.encode(), b"/v1/completions")
    with raw(endless_demo.port, begins) as connection:
        assert b"HTTP/1.1 " in connection.recv(4096)
        connection.sendall(b"zz\r\n\r\n")
        while connection.recv(4096):
            pass
    until(lambda: endless_demo.service.engine.running == 0)
    assert endless_demo.warned == []
    assert [one for one in caplog.records if one.name == "asyncio"] == []


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["asyncio", "uvicorn.error"])
def test_libraries_write_nothing_to_the_terminal(name: str) -> None:
    """asyncio warns of each part that is sent to a client that went away."""
    logger = logging.getLogger(name)
    assert not logger.propagate
    assert logger.hasHandlers()  # or it writes to stderr


def test_an_error_of_the_loop_is_told_once(
    demo: tuple[Any, Any],
    magic: Circuit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(self: Any, data: bytes) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("cna_mlx.serve.server._Protocol.data_received", fails)
    with served(*demo, {"magic": magic}) as found:
        for _ in range(3):
            with raw(found.port, b"GET") as connection:
                assert connection.recv(10) == b""
        assert len(found.warned) == 1
    assert "KeyError: 'a bug'" in found.warned[0]
    assert caplog.records == []


def test_a_request_that_is_not_http_is_refused(endless_demo: Served) -> None:
    with raw(endless_demo.port, b"hello\r\n\r\n") as connection:
        assert b" 400 " in connection.recv(4096)


def test_an_answer_that_takes_too_long_ends(
    demo: tuple[Any, Any], magic: Circuit, clients: Any
) -> None:
    from tiny_models import Ends

    limits = Limits(seconds=0.2)
    with served(demo[0], Ends(demo[1]), {"magic": magic}, limits=limits) as found:
        client = clients(found.url)
        reply = client.post(CHAT, content=body_of(), headers=JSON)
        assert reply.status_code == 504
        assert "more than 0.2 s" in reply.json()["error"]["message"]
        with client.stream(
            "POST", CHAT, content=body_of(stream=True), headers=JSON
        ) as reply:
            lines = [line for line in reply.iter_lines() if line]
        assert "more than 0.2 s" in json.loads(lines[-1][6:])["error"]["message"]
        until(lambda: found.service.engine.running == 0)


JSON = {"Content-Type": "application/json"}


def test_too_many_answers_at_once_are_refused(
    endless_demo: Served, clients: Any
) -> None:
    client = clients(endless_demo.url)
    reply = client.post(CHAT, content=body_of(n=5), headers=JSON)
    assert reply.status_code == 400  # it would never fit: not to be tried again
    assert "takes 4 at most" in reply.json()["error"]["message"]
    first = raw(endless_demo.port, head(body_of(n=3)))
    until(lambda: endless_demo.service.open_answers == 3)
    reply = client.post(CHAT, content=body_of(n=2), headers=JSON)
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "1"
    assert reply.json()["error"]["type"] == "rate_limit_error"
    first.close()
    until(lambda: endless_demo.service.open_answers == 0)


def test_a_client_that_does_not_read_holds_no_place(
    demo: tuple[Any, Any], magic: Circuit
) -> None:
    from tiny_models import Ends

    limits = Limits(send_seconds=0.3)
    with served(demo[0], Ends(demo[1]), {"magic": magic}, limits=limits) as found:
        data = head(body_of(stream=True, n=16, logprobs=True, top_logprobs=20))
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", found.port))
            connection.sendall(data)
            until(lambda: found.service.open_answers > 0)
            until(lambda: found.service.open_answers == 0)
            until(lambda: found.service.engine.running == 0)


# --- who may ask ----------------------------------------------------------------------


def test_a_key_is_demanded(demo: tuple[Any, Any], magic: Circuit, clients: Any) -> None:
    with served(*demo, {"magic": magic}, key="secret") as found:
        client = clients(found.url)
        for given in ({}, {"Authorization": "Bearer no"}, {"Authorization": "secret"}):
            reply = client.get("/v1/models", headers=given)
            assert reply.status_code == 401
            assert reply.json()["error"]["type"] == "authentication_error"
            body = {"model": "demo", "messages": MESSAGES}
            assert client.post(CHAT, json=body, headers=given).status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert client.get("/v1/models", headers=right).status_code == 200
        assert client.get("/health").status_code == 200


def test_the_host_header_opens_no_path(demo: tuple[Any, Any], magic: Circuit) -> None:
    """An address that is put together from it would end in /health."""
    with served(*demo, {"magic": magic}, key="secret") as found:
        for host in (b"a/health?", b"a/health#", b"a:80/?"):
            data = b"GET /v1/models HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
            with raw(found.port, data) as connection:
                assert b" 401 " in connection.recv(4096).partition(b"\r\n")[0]


def test_another_name_is_refused(
    demo: tuple[Any, Any], magic: Circuit, clients: Any
) -> None:
    """A page of another site could have its name point to this machine."""
    names = frozenset({"localhost", "127.0.0.1", "::1"})
    with served(*demo, {"magic": magic}, hosts=names) as found:
        client = clients(found.url)
        for host in ("localhost", "127.0.0.1:8080", "[::1]:9", "LOCALHOST"):
            reply = client.get("/v1/models", headers={"Host": host})
            assert reply.status_code == 200
        for host in ("evil.example", "localhost.evil.example:80", "[::2]", ""):
            reply = client.get("/v1/models", headers={"Host": host})
            assert reply.status_code == 421


def test_answers_are_logged_only_if_asked(
    demo: tuple[Any, Any], magic: Circuit, clients: Any
) -> None:
    entries: list[Any] = []
    with served(*demo, {"magic": magic}, logged=entries.append) as found:
        client = clients(found.url)
        text = ask(client, label=True).json()["choices"][0]["message"]["content"]
        parts_of(client, model="demo@0")
    assert [one["request"]["model"] for one in entries] == ["demo", "demo@0"]
    (answer,) = entries[0]["answers"]
    assert answer["text"] == text
    assert answer["cna"]["label"] == label(text).kind


def test_many_clients_at_once_get_their_own_answers(
    server: Served, right: dict[str, Any]
) -> None:
    found: dict[int, str] = {}
    names = list(right)

    def client(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as web:
            reply = ask(web, model=names[number % 3])
            found[number] = reply.json()["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=client, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: right[names[n % 3]][0].text for n in range(24)}
