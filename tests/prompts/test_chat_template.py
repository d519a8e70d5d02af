"""Messages to token ids."""

from datetime import date
from typing import Any

import pytest

from cna_mlx.errors import InputError
from cna_mlx.prompts.chat_template import (
    Rendering,
    injected_system,
    reference_hash,
    render,
    render_prompt,
    uses_template,
)

FAMILIES = ["llama", "qwen2", "qwen3"]
ON, OFF, AUTO = (Rendering(template=value) for value in ("on", "off", "auto"))


class Bare:
    """A tokenizer without a template."""

    has_chat_template = False

    def __init__(self, tokenizer: Any) -> None:
        self.encode = tokenizer.encode
        self.decode = tokenizer.decode


def test_one_bos(tokenizers: dict[str, Any]) -> None:
    """Llama's template writes one, and Llama's tokenizer adds one to plain text."""
    tokenizer = tokenizers["llama"]
    for rendering in (AUTO, OFF, Rendering(system="Be brief.")):
        ids = render_prompt(tokenizer, "What is a neuron?", rendering)
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
    text = tokenizer.decode(render_prompt(tokenizer, "Hello"))
    assert tokenizer.encode(text)[:2] == [0, 0]  # what is stayed clear of


@pytest.mark.parametrize("family", FAMILIES)
def test_template_on_off_auto(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    on, off, auto = (render_prompt(tokenizer, "Hi there", r) for r in (ON, OFF, AUTO))
    assert on == auto != off
    assert tokenizer.decode(off, skip_special_tokens=True) == "Hi there"
    assert off == tokenizer.encode("Hi there")
    assert all(type(i) is int for ids in (on, off) for i in ids)
    assert uses_template(tokenizer, ON)
    assert not uses_template(tokenizer, OFF)


def test_a_tokenizer_without_a_template(tokenizers: dict[str, Any]) -> None:
    bare = Bare(tokenizers["qwen2"])
    assert render_prompt(bare, "Hi") == bare.encode("Hi")
    assert not uses_template(bare, AUTO)
    with pytest.raises(InputError, match="chat template"):
        render_prompt(bare, "Hi", ON)
    assert injected_system(bare, AUTO) is None
    found = render(
        bare,
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
        Rendering(system="Sing."),
    )
    assert bare.decode(found) == "Sing.\nHi\nHo"


def test_the_answer_comes_next(tokenizers: dict[str, Any]) -> None:
    llama = tokenizers["llama"].decode(render_prompt(tokenizers["llama"], "Hi"))
    assert llama.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")
    qwen = tokenizers["qwen2"].decode(render_prompt(tokenizers["qwen2"], "Hi"))
    assert qwen.endswith("Hi<|im_end|>\n<|im_start|>assistant\n")


def test_a_conversation_begins_with_its_first_turn(tokenizers: dict[str, Any]) -> None:
    """Or a chat could not keep its cache from turn to turn."""
    for tokenizer in tokenizers.values():
        first = render_prompt(tokenizer, "Hi", Rendering(thinking=True))
        whole = render(
            tokenizer,
            [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Ho"},
                {"role": "user", "content": "Why?"},
            ],
            Rendering(thinking=True),
        )
        assert whole[: len(first)] == first
        assert len(whole) > len(first)


def test_the_injected_system_prompt_is_found(tokenizers: dict[str, Any]) -> None:
    assert injected_system(tokenizers["qwen2"], AUTO) == "You are a helpful assistant."
    for none in ("llama", "qwen3"):
        assert injected_system(tokenizers[none], AUTO) is None
    assert injected_system(tokenizers["qwen2"], OFF) is None
    own = Rendering(system="Be brief.")
    assert injected_system(tokenizers["qwen2"], own) is None
    text = tokenizers["qwen2"].decode(render_prompt(tokenizers["qwen2"], "Hi", own))
    assert "Be brief." in text
    assert "helpful" not in text


def test_thinking(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["qwen3"]
    off, on = (
        tokenizer.decode(render_prompt(tokenizer, "Hi", Rendering(thinking=thinking)))
        for thinking in (False, True)
    )
    assert off == on + "<think>\n\n</think>\n\n"
    assert render_prompt(tokenizer, "Hi") == render_prompt(tokenizer, "Hi", Rendering())
    assert tokenizer.decode(render_prompt(tokenizer, "Hi")) == off  # off by default


def test_a_template_that_refuses(
    tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizers["qwen2"]
    template = (
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported\nhere') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    monkeypatch.setattr(tokenizer._tokenizer, "chat_template", template)
    with pytest.raises(InputError, match="System role") as caught:
        render_prompt(tokenizer, "Hi", Rendering(system="Be brief."))
    assert "\n" not in str(caught.value)
    assert injected_system(tokenizer, AUTO) is None
    assert tokenizer.decode(render_prompt(tokenizer, "Hi")) == "Hi"


# As Llama 3.2's template goes about it.
DATED = (
    "\n{{- bos_token }}\n{%- if not date_string is defined %}\n"
    "    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n'
    "    {%- else %}\n        {%- set date_string = '26 Jul 2024' %}\n"
    "    {%- endif %}\n"
    "{%- endif %}\n"
    "{{- 'Today Date: ' + date_string + '\\n\\n' }}{{- messages[0]['content'] }}"
)


def test_the_date(tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizers["qwen2"]
    monkeypatch.setattr(tokenizer._tokenizer, "chat_template", DATED)
    for rendering, day in (
        (AUTO, "26 Jul 2024"),
        (Rendering(date=date(2026, 3, 1)), "01 Mar 2026"),
    ):
        text = tokenizer.decode(render_prompt(tokenizer, "100%d", rendering))
        assert text == f"<|endoftext|>Today Date: {day}\n\n100%d".replace(
            "<|endoftext|>", tokenizer.bos_token or ""
        )
    assert reference_hash(tokenizer, AUTO) != reference_hash(
        tokenizer, Rendering(date=date(2026, 3, 1))
    )


@pytest.mark.parametrize(
    "template",
    [
        "\n{{ strftime_now('%Y') }}|{{ messages[0]['content'] }}\n",
        "  {%- macro day() %}{{ strftime_now('%A, %-d %B %y, %H:%M') }}{% endmacro %}"
        "\n{{ day() }}{% for m in messages %}{{ strftime_now('%j') + m.content }}"
        "{% endfor %}",
        "{% set f = strftime_now %}{{ f('%a %p 100') | upper }}",
    ],
)
def test_the_date_is_all_that_changes_in_a_template(
    tokenizers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    """On the day that is asked for, the ids are those of transformers itself."""
    from datetime import datetime

    from transformers.utils import chat_template_utils

    class Fake(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2025, 2, 3)

    tokenizer = tokenizers["qwen2"]
    monkeypatch.setattr(tokenizer._tokenizer, "chat_template", template)
    monkeypatch.setattr(chat_template_utils, "datetime", Fake)
    message = [{"role": "user", "content": "Hello"}]
    expected = list(tokenizer.apply_chat_template(message))
    found = render_prompt(tokenizer, "Hello", Rendering(date=date(2025, 2, 3)))
    assert found == expected
    assert render_prompt(tokenizer, "Hello") != expected


def test_json_round_trip() -> None:
    rendering = Rendering("off", "Be brief.", True, date(2026, 3, 1))
    data = rendering.to_dict()
    assert Rendering.from_dict(data) == rendering
    assert data["date"] == "2026-03-01"
    assert Rendering.from_dict(Rendering().to_dict()) == Rendering()


def test_the_reference_hash_tells_renderings_apart(tokenizers: dict[str, Any]) -> None:
    hashes = {
        reference_hash(tokenizer, rendering)
        for tokenizer in tokenizers.values()
        for rendering in (AUTO, OFF, Rendering(system="Be brief."))
    }
    assert len(hashes) == 9
    llama = tokenizers["llama"]
    assert reference_hash(llama, AUTO) == reference_hash(llama, ON)


def test_an_unknown_template_setting_is_refused() -> None:
    with pytest.raises(InputError, match=r"'maybe'.*auto, on or off"):
        Rendering(template="maybe")  # type: ignore[arg-type]
