"""lm-eval over HTTP finds what `cna-mlx capability` finds in the same arms."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval_tasks import ANSWERING, CHOOSING, DEMO, write_items, write_tasks
from served import Served, served

from cna_mlx.circuit import Circuit
from cna_mlx.evaluation import lm_eval_adapter as harness
from cna_mlx.evaluation.capability import ArmScores, Protocol, evaluate_tasks
from cna_mlx.models.families import widths
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(
        not all(map(find_spec, ("lm_eval", "tenacity"))),
        reason="pip install -e '.[eval]' 'lm-eval[api]'",
    ),
]

LIMIT = 8
NAMES = ["choosing", "answering", "ended"]
ENDED = ANSWERING.replace('["\\n"]', '["\\n", " the"]')


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("tasks")
    bodies = {"choosing": CHOOSING, "answering": ANSWERING, "ended": ENDED}
    write_tasks(directory, write_items(directory), bodies)
    with pytest.MonkeyPatch.context() as patch, harness.hushed():
        import lm_eval.models  # noqa: F401  # mlx-lm's adapter alone would be known
        from datasets import config

        patch.setattr(config, "HF_DATASETS_CACHE", directory / "cache")
        patch.setattr(config, "HF_HUB_OFFLINE", True)
        patch.setenv("OPENAI_API_KEY", "none")
        yield directory


@pytest.fixture(scope="module")
def half(demo: tuple[Any, Any]) -> Circuit:
    """A circuit of half of the neurons: without them some answers are wrong."""
    draw = np.random.default_rng(0)
    return Circuit.from_neurons(
        (layer, int(index), 1.0)
        for layer, size in enumerate(widths(demo[0]))
        for index in draw.choice(size, size // 2, replace=False)
    )


@pytest.fixture(scope="module")
def server(demo: tuple[Any, Any], half: Circuit) -> Iterator[Served]:
    with served(*demo, {"half": half}) as found:
        yield found


@pytest.fixture(scope="module")
def expected(
    demo: tuple[Any, Any], half: Circuit, tasks: Path
) -> dict[tuple[str, str], ArmScores]:
    """What `capability` finds: by the arm's name and the template."""
    arms = {"demo": BASELINE, "demo@0": Arm.of(half, 0.0)}
    found = {}
    for template, names in (("on", NAMES), ("off", NAMES[:1])):
        loaded = harness.load_tasks(names, tasks)
        rendering = Rendering(template)  # type: ignore[arg-type]
        scores = evaluate_tasks(
            *demo, list(arms.values()), loaded, Protocol(limit=LIMIT), rendering
        )
        found |= {(arm, template): one for arm, one in zip(arms, scores, strict=True)}
    return found


def by_address(
    server: Served, tasks: Path, name: str, kind: str, arm: str, **options: Any
) -> tuple[dict[str, float], list[Any]]:
    """The metrics of a task and its items' replies, as lm-eval has them."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    path = "chat/completions" if "chat" in kind else "completions"
    chat, size = options.pop("chat", True), options.pop("batch_size", 1)
    with harness.hushed():
        found = lm_eval.simple_evaluate(
            model=kind,
            model_args={"model": arm, "base_url": f"{server.url}/v1/{path}", **options},
            batch_size=size,
            tasks=[name],
            task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
            apply_chat_template=chat,
            limit=LIMIT,
        )
    return found["results"][name], found["samples"][name]


LOCAL = {"tokenizer_backend": "huggingface", "tokenizer": str(DEMO / "demo")}


@pytest.mark.parametrize("arm", ["demo", "demo@0"])
@pytest.mark.parametrize(
    ("chat", "options"),
    [
        (False, {"batch_size": 8}),  # the server's tokenizer, found by lm-eval
        (False, {"num_concurrent": 4, "batch_size": 3}),
        (False, {"tokenized_requests": False}),  # texts
        (True, {**LOCAL, "batch_size": 8}),
    ],
)
def test_log_likelihoods_are_those_of_capability(
    arm: str,
    chat: bool,
    options: dict[str, Any],
    server: Served,
    tasks: Path,
    expected: dict[tuple[str, str], ArmScores],
) -> None:
    metrics, samples = by_address(
        server, tasks, "choosing", "local-completions", arm, chat=chat, **options
    )
    own = expected[arm, "on" if chat else "off"]
    (score,) = (one for one in own.scores if one.task == "choosing")
    assert metrics["acc,none"] == score.value
    assert chat or (score.value == 1) == (arm == "demo")
    for one, other in zip(samples, own.samples["choosing"], strict=True):
        assert one["doc_id"] == other["doc_id"]
        pairs = list(zip(one["resps"], other["resps"], strict=True))
        found, right = zip(*((a[0], b[0]) for (a,), (b,) in pairs), strict=True)
        assert [a[1] for (a,), _ in pairs] == [b[1] for _, (b,) in pairs]  # is_greedy
        shift = 0.0
        if chat:  # lm-eval counts the newline that ends the template as the answer's
            shift = found[0] - right[0]
            assert -1 < shift < 1e-4
        assert np.subtract(found, right) == pytest.approx(shift, abs=1e-4)


@pytest.mark.parametrize("arm", ["demo", "demo@0"])
@pytest.mark.parametrize("name", ["answering", "ended"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("local-chat-completions", {}),
        ("local-chat-completions", {"num_concurrent": 8}),
        ("local-completions", {**LOCAL, "batch_size": 8}),
    ],
)
def test_answers_are_those_of_capability(
    arm: str,
    name: str,
    kind: str,
    options: dict[str, Any],
    server: Served,
    tasks: Path,
    expected: dict[tuple[str, str], ArmScores],
) -> None:
    metrics, samples = by_address(server, tasks, name, kind, arm, **options)
    own = expected[arm, "on"]
    (score,) = (one for one in own.scores if one.task == name)
    assert metrics["exact_match,none"] == score.value
    # as everywhere here, an answer to a chat does not begin with a space
    cut = str.lstrip if "chat" in kind else str
    found = [text for ((text,),) in (one["resps"] for one in samples)]
    assert found == [
        cut(text) for ((text,),) in (o["resps"] for o in own.samples[name])
    ]
    if name == "ended":
        assert not any(" the" in text for text in found)


def test_a_prompt_beyond_the_context_is_cut_as_lm_eval_is_told(
    server: Served, tasks: Path
) -> None:
    """With the model's own max_length; a longer one ends in the server's words."""
    import lm_eval.api.registry
    from lm_eval.api.instance import Instance

    def score(max_length: int) -> Any:
        with harness.hushed():
            lm = lm_eval.api.registry.get_model("local-completions")(
                model="demo",
                base_url=f"{server.url}/v1/completions",
                max_length=max_length,
                max_retries=1,
            )
            asked = ("word " * 600, " end")
            return lm.loglikelihood([Instance("loglikelihood", {}, asked, 0)])

    ((value, _),) = score(512)
    assert value < 0
    with pytest.raises(Exception, match="400"):
        score(2048)
