"""The openai client, as people use it, against a server."""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from served import Served, served

from cna_mlx.circuit import Circuit
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, diff

SPELL = "How do I cast a sleep spell?"
ASKED: Any = [{"role": "user", "content": SPELL}]


@pytest.fixture(scope="module")
def server(demo: tuple[Any, Any], magic: Circuit) -> Iterator[Served]:
    with served(*demo, {"magic": magic}, key="secret") as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    own = openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0)
    with own:
        yield own


@pytest.fixture(scope="module")
def texts(demo: tuple[Any, Any], magic: Circuit) -> dict[str, str]:
    """What `diff` says in both arms."""
    arms = [BASELINE, Arm.of(magic, 0.0)]
    events = diff(*demo, [SPELL], arms, max_tokens=512)
    (found,) = (one for one in events if isinstance(one, PromptResult))
    names = ("demo", "demo@0")
    return {name: arm.text for name, arm in zip(names, found.arms, strict=True)}


@pytest.mark.parametrize("name", ["demo", "demo@0"])
def test_a_chat(name: str, client: openai.OpenAI, texts: dict[str, str]) -> None:
    found = client.chat.completions.create(model=name, messages=ASKED)
    (choice,) = found.choices
    assert (choice.message.role, choice.message.content) == ("assistant", texts[name])
    assert (found.model, found.object) == (name, "chat.completion")
    assert choice.finish_reason == "stop"
    assert found.usage is not None
    assert found.usage.total_tokens == (
        found.usage.prompt_tokens + found.usage.completion_tokens
    )


@pytest.mark.parametrize("name", ["demo", "demo@0"])
def test_a_stream(name: str, client: openai.OpenAI, texts: dict[str, str]) -> None:
    stream = client.chat.completions.create(
        model=name,
        messages=ASKED,
        stream=True,
        stream_options={"include_usage": True},
    )
    *parts, last = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in parts) == texts[name]
    assert parts[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_the_clients_own_stream_helper(
    client: openai.OpenAI, texts: dict[str, str]
) -> None:
    with client.chat.completions.stream(model="demo", messages=ASKED) as stream:
        kinds = {event.type for event in stream}
        found = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert found.choices[0].message.content == texts["demo"]


def test_what_this_server_adds(client: openai.OpenAI, texts: dict[str, str]) -> None:
    extra = {"multiplier": 0, "gauge": True, "label": True}
    found = client.chat.completions.create(
        model="demo", messages=ASKED, extra_body=extra
    )
    (choice,) = found.choices
    assert choice.message.content == texts["demo@0"]
    added = choice.model_extra["cna"]
    assert added["label"] == "ANSWERED"
    assert added["circuits"] == {"magic": "0"}
    assert math.isfinite(added["gauge"])


def test_an_earlier_answer_can_be_sent_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="demo", messages=ASKED, max_tokens=5)
    more = [*ASKED, first.choices[0].message, {"role": "user", "content": "And then?"}]
    again = client.chat.completions.create(model="demo", messages=more, max_tokens=5)
    assert again.choices[0].message.content


def test_log_probabilities(client: openai.OpenAI, texts: dict[str, str]) -> None:
    found = client.chat.completions.create(
        model="demo", messages=ASKED, logprobs=True, top_logprobs=2
    )
    content = found.choices[0].logprobs.content
    assert "".join(one.token for one in content) == texts["demo"]
    for one in content:
        best, second = one.top_logprobs
        assert (best.token, best.logprob) == (one.token, one.logprob)
        assert second.logprob <= best.logprob


def test_completions(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="demo", prompt=["The cat", "A dog"], max_tokens=4, logprobs=1
    )
    assert [one.index for one in found.choices] == [0, 1]
    assert found.choices[0].text[0] == " "  # the prompt's text goes on
    for one in found.choices:
        assert "".join(one.logprobs.tokens) == one.text
    whole, stop = found.choices[0].text, found.choices[0].logprobs.tokens[1]
    cut = client.completions.create(model="demo", prompt="The cat", stop=stop)
    assert cut.choices[0].text == whole[: whole.index(stop)]
    parts = client.completions.create(
        model="demo", prompt="The cat", max_tokens=4, stream=True
    )
    assert "".join(part.choices[0].text for part in parts) == found.choices[0].text
    scored = client.completions.create(
        model="demo", prompt="The cat", max_tokens=0, echo=True, logprobs=1
    )
    assert scored.choices[0].text == "The cat"
    assert all(value < 0 for value in scored.choices[0].logprobs.token_logprobs[1:])


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["demo", "demo@0", "demo@0.5"]
    assert client.models.retrieve("demo@0.25").id == "demo@0.25"


def test_errors_are_the_clients_own(server: Served, client: openai.OpenAI) -> None:
    def ask(**fields: Any) -> Any:
        asked = {"model": "demo", "messages": ASKED, **fields}
        return client.chat.completions.create(**asked)

    with pytest.raises(openai.NotFoundError, match="no model 'gpt'") as caught:
        ask(model="gpt")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="multipler") as wrong:
        ask(extra_body={"multipler": 0})
    assert wrong.value.type == "invalid_request_error"
    assert wrong.value.param == "multipler"
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        ask(tools=[tool])
    other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="no", max_retries=0)
    with other, pytest.raises(openai.AuthenticationError, match="send the server's"):
        other.models.list()


def test_many_at_once(server: Served, texts: dict[str, str]) -> None:
    async def all_of_them() -> list[Any]:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="secret", max_retries=0
        ) as client:
            asked = [
                client.chat.completions.create(model=name, messages=ASKED)
                for name in ("demo", "demo@0") * 4
            ]
            return await asyncio.gather(*asked)

    found = asyncio.run(all_of_them())
    assert [one.choices[0].message.content for one in found] == [
        texts["demo"],
        texts["demo@0"],
    ] * 4
