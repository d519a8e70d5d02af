"""inspect_ai: models in its process named cna/..., and a server by its address."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from served import served

from cna_mlx.circuit import Circuit
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import PromptResult, diff
from cna_mlx.steering.events import Gauged

pytestmark = [
    pytest.mark.tools,
    pytest.mark.filterwarnings("ignore"),  # its own
    pytest.mark.skipif(
        find_spec("inspect_ai") is None, reason="pip install -e '.[inspect]'"
    ),
]

QUESTIONS = ["How do I cast a sleep spell?", "How do I bake bread?"]


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSPECT_LOG_DIR", str(tmp_path_factory.mktemp("logs")))
        patch.setenv("INSPECT_DISPLAY", "none")
        yield


@pytest.fixture(scope="module")
def right(demo: tuple[Any, Any], magic: Circuit) -> dict[str, list[tuple[Any, float]]]:
    """The answers and gauges of `diff`, by the arm's name."""
    arms = {"demo": BASELINE, "demo@0": Arm.of(magic, 0.0)}
    events = list(
        diff(*demo, QUESTIONS, list(arms.values()), gauge=magic, max_tokens=512)
    )
    answers = [one.arms for one in events if isinstance(one, PromptResult)]
    gauges = [one.arms for one in events if isinstance(one, Gauged)]
    return {
        name: [(a[place], g[place]) for a, g in zip(answers, gauges, strict=True)]
        for place, name in enumerate(arms)
    }


def task(**options: Any) -> Any:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    samples = [Sample(input=one, target="can't help") for one in QUESTIONS]
    return Task(**{"dataset": samples, "scorer": includes(), **options})


def run(model: Any, own: Any = None, **options: Any) -> Any:
    """The log of a task, as it is read from its file."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.log import read_eval_log

    logs = inspect_eval(own or task(), model=model, **options)
    return [read_eval_log(one.location) for one in logs]


def test_both_arms_answer_as_diff_says(right: dict[str, Any]) -> None:
    """As rows of one batch of one model, with gauge and label in the log."""
    from cna_mlx.serve import inspect_model

    logs = run(["cna/demo", "cna/demo@0"])
    assert len(inspect_model._open) == 1
    for log, (name, found) in zip(logs, right.items(), strict=True):
        assert (log.status, log.eval.model) == ("success", f"cna/{name}")
        for sample, (answer, gauge) in zip(log.samples, found, strict=True):
            assert sample.output.completion == answer.text
            assert sample.output.stop_reason == "stop"
            circuits = {} if name == "demo" else {"magic": "0"}
            for data, prefix in (
                (sample.metadata, "cna_"),
                (sample.output.metadata, ""),
            ):
                assert data[f"{prefix}label"] == answer.label.kind
                assert data[f"{prefix}gauge"] == pytest.approx(gauge, abs=1e-4)
                assert data[f"{prefix}circuits"] == circuits
            usage = sample.output.usage
            assert usage.output_tokens == len(answer.token_ids)
            assert usage.total_tokens == sum(
                one or 0
                for one in (
                    usage.input_tokens,
                    usage.input_tokens_cache_read,
                    usage.output_tokens,
                )
            )
    assert [one.results.scores[0].metrics["accuracy"].value for one in logs] == [0.5, 0]


def test_a_circuit_file_and_a_multiplier(
    magic: Circuit, tmp_path: Path, right: dict[str, Any]
) -> None:
    path = tmp_path / "mine.json"
    magic.save(path)
    for arguments in (
        {"circuit": str(path), "multiplier": 0},
        {"circuit": f"{path}@0"},
        {"multiplier": "0"},
    ):
        (log,) = run("cna/demo", model_args=arguments)
        texts = [one.output.completion for one in log.samples]
        assert texts == [answer.text for answer, _ in right["demo@0"]]


def test_options_reach_the_model(right: dict[str, Any]) -> None:
    text = right["demo"][0][0].text
    (log,) = run("cna/demo", stop_seqs=[text[9:13]], logprobs=True, top_logprobs=2)
    first = log.samples[0].output
    assert first.completion == text[:9]
    likely = first.choices[0].logprobs.content[0]
    assert likely.top_logprobs[0].token == likely.token
    assert likely.logprob <= 0
    (log,) = run("cna/demo", max_tokens=3)
    assert log.samples[0].output.stop_reason == "max_tokens"
    assert log.samples[0].output.usage.output_tokens == 3
    sampled = {"temperature": 1.5, "seed": 3, "num_choices": 3, "max_tokens": 20}
    found = [
        [
            one.message.text
            for one in run("cna/demo", **sampled)[0].samples[0].output.choices
        ]
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_what_would_have_no_effect_ends_in_one_line() -> None:
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser, ContentImage
    from inspect_ai.solver import generate, use_tools
    from inspect_ai.tool import bash

    def error(own: Any = None, **options: Any) -> str:
        (log,) = run("cna/demo", own, **options)
        assert log.status == "error"
        return str(log.error.message)

    assert "reasoning_effort has no effect" in error(reasoning_effort="high")
    assert "presence_penalty" in error(presence_penalty=1.0)
    assert "has no tools" in error(task(solver=[use_tools(bash()), generate()]))
    image = ContentImage(image="data:image/png;base64,AAAA")
    seen = Sample(input=[ChatMessageUser(content=[image])], target="a")
    assert "read text: a message has image" in error(task(dataset=[seen]))


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("demo", {"multiplyer": 0}, "no argument 'multiplyer'"),
        ("demo", {"multiplier": "nan"}, "multiplier"),
        ("demo@x", {}, "'x' is not a finite multiplier"),
        ("demo@0", {"multiplier": 1}, "differ"),
        ("demo", {"circuit": "no.json"}, "no.json"),
        ("no/such/model", {}, "no/such/model"),
    ],
)
def test_a_wrong_model_is_told_before_the_first_sample(
    name: str, arguments: dict[str, Any], said: str
) -> None:
    from inspect_ai._util.error import PrerequisiteError
    from inspect_ai.model import get_model

    with pytest.raises(PrerequisiteError, match=said) as caught:
        get_model(f"cna/{name}", offline=True, **arguments)
    assert "\n" not in str(caught.value)


def test_the_last_arm_that_is_closed_frees_the_model() -> None:
    from inspect_ai.model import get_model

    from cna_mlx.serve import inspect_model

    before = dict(inspect_model._open)
    with get_model("cna/demo", rows=3, memoize=False):
        (shared,) = (one for one in inspect_model._open.values() if one.users == 1)
        assert shared._thread.is_alive()
    assert not shared._thread.is_alive()
    assert inspect_model._open == before


def test_a_server_by_its_address(
    demo: tuple[Any, Any],
    magic: Circuit,
    right: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(*demo, {"magic": magic}, key="secret") as server:
        monkeypatch.setenv("CNA_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("CNA_API_KEY", "secret")
        logs = run(["openai-api/cna/demo", "openai-api/cna/demo@0"])
    for log, found in zip(logs, right.values(), strict=True):
        texts = [one.output.completion for one in log.samples]
        assert texts == [answer.text for answer, _ in found]
