"""The tokenizer: its template, wherever it lies, and the tokens that end a turn."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cna_mlx
from cna_mlx.diagnostics import template
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError, ModelError
from cna_mlx.labels.label import label
from cna_mlx.models.loading import load, source_of
from cna_mlx.models.tokenizer import turn_end
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.util.progress import Reporter

Copy = Callable[..., Path]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A copy of the demo, its tokenizer_config.json changed: None takes a key away."""

    def make(end: int | None = None, **changes: Any) -> Path:
        path = tmp_path / "model"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(Path(cna_mlx.__file__).parent / "demo" / "demo", path)
        file = path / "tokenizer_config.json"
        config = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        for name in ("config.json", "generation_config.json"):
            if end is not None and (path / name).is_file():
                text = json.loads((path / name).read_text()) | {"eos_token_id": end}
                (path / name).write_text(json.dumps(text))
        return path

    return make


def answer(path: Path, prompt: str) -> Answer:
    model, tokenizer = load(str(path))
    events = generate_arms(
        model, tokenizer, [render_prompt(tokenizer, prompt)], [BASELINE], max_tokens=60
    )
    return next(event for event in events if isinstance(event, Answer))


# a token that the demo never says
OTHER = 0
QUESTION = "How do I cast a sleep spell?"


def test_answers_end_at_the_turn_end_of_the_template(copy: Copy) -> None:
    _, tokenizer = load("demo")
    own = turn_end(tokenizer)
    assert own is not None
    assert tokenizer.eos_token_ids == {own}
    assert source_of(load("demo")[0]).turn_end is None
    expected = answer(copy(), QUESTION)
    assert expected.finish == "stop"
    wrong = tokenizer.convert_ids_to_tokens(OTHER)
    path = copy(OTHER, eos_token=wrong)
    found = answer(path, QUESTION)
    assert (found.text, found.end) == (expected.text, own)
    assert label(found.text).kind == label(expected.text).kind
    model, _ = load(str(path))
    assert source_of(model).turn_end == tokenizer.convert_ids_to_tokens(own)


def test_a_turn_end_that_is_no_end_token_is_told(copy: Copy) -> None:
    _, tokenizer = load("demo")
    end = tokenizer.convert_ids_to_tokens(turn_end(tokenizer))
    path = copy(OTHER, eos_token=tokenizer.convert_ids_to_tokens(OTHER))
    warned: list[str] = []
    session = Session(str(path), reporter=Reporter(warn=warned.append))
    _, tokenizer = session.load()
    assert any(end in line and "eos_token_id" in line for line in warned)
    check = template.check_turn_end(tokenizer, end)
    assert check.status == "warning"
    assert end in check.detail
    assert template.check_turn_end(tokenizer).status == "ok"


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("{{ m['role'] }}: {{ m['content'] }}\n", None),
        ("{{ raise_exception('no') }}", None),
        ("{{ 1 / 0 }}", None),
        ("nothing", None),
    ],
)
def test_templates_without_a_turn_end(copy: Copy, body: str, end: None) -> None:
    text = f"{{% for m in messages %}}{body}{{% endfor %}}"
    path = copy(chat_template=text)
    (path / "chat_template.jinja").unlink(missing_ok=True)
    model, tokenizer = load(str(path))
    assert turn_end(tokenizer) is end
    assert source_of(model).turn_end is None
    assert template.check_turn_end(tokenizer).status == "warning"


_EARLIER = "{% if loop.last %}<|im_end|>{% else %}<|im_start|>{% endif %}"


@pytest.mark.parametrize(
    ("after", "end"),
    [
        (_EARLIER, "<|im_end|>"),  # harmony: earlier answers end as its thoughts do
        ("", "<|im_start|>"),  # GLM: only the next turn ends an answer
        ("{% if not loop.last %}<|im_end|>{% endif %}", "<|im_end|>"),
    ],
)
def test_the_end_of_the_last_answer_comes_first(
    copy: Copy, after: str, end: str
) -> None:
    turn = "{% if m.role == 'user' %}<|im_start|>{{ m.content }}{% else %}{{ m.content"
    body = f"{{% for m in messages %}}{turn} }}}}{after}{{% endif %}}{{% endfor %}}"
    path = copy(OTHER, chat_template=body, eos_token="<|endoftext|>")
    _, tokenizer = load(str(path))
    assert tokenizer.convert_ids_to_tokens(turn_end(tokenizer)) == end
    assert tokenizer.eos_token_ids == {OTHER, turn_end(tokenizer)}


def without_template(path: Path) -> str:
    """Take the template away; its text."""
    file, config = path / "chat_template.jinja", path / "tokenizer_config.json"
    data = json.loads(config.read_text())
    text = data.pop("chat_template", None) or file.read_text()
    config.write_text(json.dumps(data))
    file.unlink(missing_ok=True)
    return str(text)


def test_a_template_beside_the_tokenizer_is_read(copy: Copy) -> None:
    _, tokenizer = load(str(copy()))
    expected = render_prompt(tokenizer, QUESTION)
    path = copy()
    text = without_template(path)
    _, bare = load(str(path))
    assert render_prompt(bare, QUESTION) != expected
    file = path / "chat_template.json"
    file.write_text(json.dumps({"chat_template": text}))
    _, tokenizer = load(str(path))
    assert render_prompt(tokenizer, QUESTION) == expected
    assert tokenizer.has_chat_template


def test_prompts_as_plain_text_are_told(copy: Copy) -> None:
    path = copy()
    without_template(path)
    for kind, count in (("auto", 1), ("off", 0)):
        told: list[str] = []
        session = Session(
            str(path), Rendering(kind), reporter=Reporter(note=told.append)
        )
        session.load()
        assert sum("no chat template" in line for line in told) == count


def test_templates_without_a_default_are_named(copy: Copy) -> None:
    templates = [{"name": "rag", "template": "one"}, {"name": "tool", "template": "x"}]
    _, tokenizer = load(str(copy(chat_template=templates)))
    with pytest.raises(InputError, match=r"\(rag, tool\).*--chat-template off"):
        render_prompt(tokenizer, QUESTION)


def test_the_tokenizers_own_template_comes_first(copy: Copy) -> None:
    path = copy()
    _, tokenizer = load(str(path))
    expected = render_prompt(tokenizer, QUESTION)
    (path / "chat_template.json").write_text('{"chat_template": "other"}')
    _, tokenizer = load(str(path))
    assert render_prompt(tokenizer, QUESTION) == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"chat_template": 3}', "{"])
def test_a_damaged_template_file_is_one_line(copy: Copy, text: str) -> None:
    path = copy()
    without_template(path)
    (path / "chat_template.json").write_text(text)
    with pytest.raises(ModelError, match="no usable tokenizer") as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
