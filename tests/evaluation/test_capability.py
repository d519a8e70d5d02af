"""Benchmarks of every arm: what is made of lm-eval's results, and lm-eval itself.

The first half needs no lm-evaluation-harness; the second is skipped without it.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY, Outcome, make_screen, plain, sent
from lm_eval_tasks import (
    ANSWERING,
    CHOICES,
    CHOOSING,
    DEMO,
    ITEMS,
    READING,
    task,
    write_items,
    write_tasks,
)
from marks import slow
from texts import missing

from cna_mlx import Arm, Circuit
from cna_mlx.errors import CircuitError, CnaError, HubError, InputError
from cna_mlx.evaluation import lm_eval_adapter as harness
from cna_mlx.evaluation.capability import (
    ArmScores,
    Protocol,
    Score,
    evaluate_tasks,
    score_change,
    scores_of,
)
from cna_mlx.evaluation.capability_run import arm_entry, task_entries
from cna_mlx.evaluation.lm_eval_adapter import Tasks, load_tasks
from cna_mlx.models.families import widths
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE
from cna_mlx.ui.capability import Conditions, capability_view

CIRCUIT = Circuit.from_neurons([(0, 0, 1.0)])
ABLATED = Arm.of(CIRCUIT, 0.0)
SETTING = Conditions({"lm-eval": "0.4.13"}, 40, True)


def score(value: float, outcomes: Sequence[float] | None, **changed: Any) -> Score:
    whole: dict[str, Any] = {"task": "birds", "metric": "acc", "stderr": 0.02}
    whole |= {"n": 4, "shots": 0, "higher_is_better": True} | changed
    return Score(
        value=value, outcomes=None if outcomes is None else tuple(outcomes), **whole
    )


def two_arms(before: Score, after: Score) -> list[ArmScores]:
    return [ArmScores(BASELINE, (before,), 1.0), ArmScores(ABLATED, (after,), 1.0)]


def results(metrics: dict[str, float], items: dict[str, list[Any]]) -> dict[str, Any]:
    """A result as lm-eval shapes it: a group of two tasks, and a task beside it."""
    tasks = ("owls", "gulls", "fish")
    entry = {
        **{f"{name},none": value for name, value in metrics.items()},
        **{f"{name}_stderr,none": 0.1 for name in metrics},
        "sample_len": 2,
    }
    samples = [
        {"doc": "a", "arguments": [], "filter": "none", "doc_id": n}
        | {name: values[n] for name, values in items.items()}
        for n in range(2)
    ]
    return {
        "results": {name: {"alias": name, **entry} for name in tasks}
        | {"birds": {"alias": "birds", **entry, "sample_len": 4}},
        "group_subtasks": {"birds": ["owls", "gulls"]},
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {name: dict.fromkeys(metrics, True) for name in tasks},
        "samples": dict.fromkeys(tasks, samples),
    }


# ------------------------------------------------------------------ without lm-eval


def test_the_difference_is_judged_item_by_item() -> None:
    before, after = score(0.75, [1, 1, 1, 0]), score(0.5, [1, 0, 0, 1])
    found = score_change(before, after)
    steps = np.array([0, -1, -1, 1])
    assert found.difference == -0.25
    assert found.stderr == pytest.approx(steps.std(ddof=1) / 2)
    assert (found.gained, found.lost) == (1, 2)


def test_the_same_answers_differ_by_exactly_nothing() -> None:
    one = score(0.75, [1, 1, 1, 0])
    found = score_change(one, one)
    assert (found.difference, found.stderr, found.gained, found.lost) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("value", "outcomes"),
    [(0.75, None), (0.5, [1]), (0.6, [1, 1, 1, 0])],
    ids=["no items", "one item", "no mean of its items"],
)
def test_no_error_is_given_that_is_not_known(
    value: float, outcomes: list[float] | None
) -> None:
    before = score(0.1, outcomes and [0] * len(outcomes))
    assert score_change(before, score(value, outcomes)).stderr is None


@pytest.mark.parametrize(
    ("value", "outcomes", "is_share"),
    [
        (0.75, [1, 1, 1, 0], True),
        (0.25, [0.25, 0.25], True),
        (12.5, [12, 13], False),  # lengths
        (0.4, None, False),  # BLEU: of the corpus, in hundredths
        (0.9, [1, 1, 1, 0], False),  # F1 of items right and wrong
    ],
)
def test_only_means_of_items_are_percentages(
    value: float, outcomes: list[float] | None, is_share: bool
) -> None:
    assert score(value, outcomes).is_share is is_share


def test_groups_come_before_their_members() -> None:
    found = scores_of(results({"acc": 0.5}, {"acc": [1.0, 0.0]}))
    assert [(one.task, one.depth, one.n) for one in found] == [
        ("birds", 0, 4),
        ("owls", 1, 2),
        ("gulls", 1, 2),
        ("fish", 0, 2),
    ]
    assert found[0].outcomes == (1, 0, 1, 0)
    assert found[0].shots is None  # lm-eval tells none for this group
    assert {one.stderr for one in found} == {0.1}


def test_what_is_no_metric_is_no_score() -> None:
    data = results({"acc": 0.5}, {"acc": [1.0, 0.0]})
    data["results"]["fish"] |= {"em,strict": 0.25, "em_stderr,strict": "N/A"}
    data["results"]["fish"] |= {"bypass,none": "N/A"}
    fish = [one for one in scores_of(data) if one.task == "fish"]
    assert [(one.metric, one.stderr) for one in fish] == [
        ("acc", 0.1),
        ("em,strict", None),
    ]
    assert fish[1].outcomes is None


def test_a_group_without_figures_of_its_own_has_no_row() -> None:
    data = results({"acc": 0.5}, {"acc": [1.0, 0.0]})
    data["results"]["birds"] = {"alias": "birds"}
    assert [one.task for one in scores_of(data)] == ["owls", "gulls", "fish"]


def test_metrics_of_a_whole_corpus_have_no_outcomes() -> None:
    found = scores_of(results({"f1": 0.5}, {"f1": [(1, 0), (0, 0)]}))
    assert {one.outcomes for one in found} == {None}


def test_the_json_holds_every_arm_beside_the_baseline() -> None:
    arms = two_arms(score(0.75, [1, 1, 1, 0]), score(0.25, [1, 0, 0, 0]))
    first, second = (arm_entry(one, arms[0]) for one in arms)
    assert first["multiplier"] == 1
    assert first["results"] == {"birds": {"acc": {"value": 0.75, "stderr": 0.02}}}
    assert (second["arm"], second["multiplier"]) == ("ablated", 0)
    found = second["results"]["birds"]["acc"]
    assert (found["difference"], found["gained"], found["lost"]) == (-0.5, 0, 2)
    assert task_entries(arms[0]) == [
        {
            "task": "birds",
            "depth": 0,
            "n": 4,
            "num_shots": 0,
            "metrics": {"acc": {"higher_is_better": True}},
        }
    ]
    json.dumps([first, second], allow_nan=False)


def shown(arms: list[ArmScores], setting: Conditions = SETTING, **options: Any) -> str:
    screen = make_screen(**options)
    screen.out.print(
        capability_view(screen, arms, setting), soft_wrap=not screen.out.is_terminal
    )
    return plain(sent(screen.out))


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_no_figure_is_lost_at_any_width(width: int, terminal: bool) -> None:
    arms = two_arms(score(0.75, [1, 1, 1, 0]), score(0.25, [1, 0, 0, 0]))
    arms.append(ArmScores(Arm.of(CIRCUIT, 0.5), (score(0.5, [1, 1, 0, 0]),), 1.0))
    text = shown(arms, width=width, terminal=terminal)
    for figure in ("75.0% ±2.0", "25.0% ±2.0", "-50.0 ±28.9", "-25.0 ±25.0", "birds"):
        assert figure in text
    if terminal:
        assert max(map(len, text.splitlines())) <= width


def test_ascii_is_enough() -> None:
    arms = two_arms(score(0.75, [1, 1, 1, 0]), score(0.25, [1, 0, 0, 0]))
    for width in (60, 120):
        text = shown(arms, width=width, encoding="ascii")
        assert "+-2.0" in text
        assert "\\u" not in text


def test_what_is_no_percentage_is_shown_as_it_is() -> None:
    options: dict[str, Any] = {"metric": "word_perplexity", "higher_is_better": False}
    arms = two_arms(
        score(12.25, None, stderr=None, **options), score(15.5, None, **options)
    )
    text = shown(arms, width=120)
    assert "12.25" in text
    assert "+3.25" in text
    assert "%" not in text
    assert "points" not in text


def test_it_is_said_how_the_figures_were_made() -> None:
    arms = two_arms(score(0.75, [1, 1, 1, 0]), score(0.25, [1, 0, 0, 0]))[:1]
    text = shown(
        arms, Conditions({"lm-eval": "0.4.13"}, 40, False, ("m=0",)), width=100
    )
    assert missing(text, "lm-eval 0.4.13", "chat template", "40 items", "m=0") == []


def test_task_names_are_never_markup() -> None:
    name = "[red]birds[/red]\x1b[2J"
    one = score(0.75, [1, 1, 1, 0], task=name)
    for width in (60, 120):
        text = shown(two_arms(one, one), width=width)
        assert "[red]birds[/red]\\x1b" in text.replace("\n", "")


def test_without_the_extra_it_is_named(
    command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    done = command("capability", TINY, "--tasks", "mmlu")
    assert done.code == 2
    assert "pip install 'cna-mlx[eval]'" in done.failure
    with pytest.raises(InputError, match=r"cna-mlx\[eval\]"):
        load_tasks(["mmlu"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--tasks"),
        (["--tasks", " , "], "task"),
        (["--tasks", "x", "--include-path", "no/such"], "no/such"),
        (["--tasks", "x", "--limit", "0"], "--limit"),
        (["--tasks", "x", "--num-shots", "-1"], "--num-shots"),
        (["--tasks", "x", "--circuit", "no.json"], "no.json"),
        (["--tasks", "x", "-m", "nan"], "finite"),
        (["--tasks", "x", "--date", "today"], "--date"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    arguments: list[str],
    said: str,
    command: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "cna_mlx.evaluation.capability_run.require_harness", lambda: None
    )
    monkeypatch.setattr(harness, "require_harness", lambda: None)
    monkeypatch.delattr("cna_mlx.discovery.session.load")
    done = command("capability", TINY, *arguments)
    assert done.code == 2
    assert said in done.failure


@pytest.fixture(name="pretend")
def pretend_fixture(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command without lm-eval: what it asks for, and an answer for each arm."""
    seen: dict[str, Any] = {"error": None}

    def load_some(names: Sequence[str], path: Path | None, **options: Any) -> Tasks:
        seen.update(names=list(names), path=path, **options)
        return Tasks(tuple(names), {"tasks": {}})

    def evaluate(
        model: Any, tokenizer: Any, arms: Sequence[Arm], *rest: Any
    ) -> Iterator[ArmScores]:
        seen["protocol"] = rest[1]
        logging.getLogger("lm_eval.api").warning("mind the gap")
        for number, arm in enumerate(arms):
            if number == 2 and seen["error"]:
                raise seen["error"]
            outcomes = [1.0] * (4 - number) + [0.0] * number
            yield ArmScores(arm, (score(1 - number / 4, outcomes),), 1.0)

    monkeypatch.setattr(
        "cna_mlx.evaluation.capability_run.require_harness", lambda: None
    )
    monkeypatch.setattr("cna_mlx.evaluation.capability_run.load_tasks", load_some)
    monkeypatch.setattr("cna_mlx.evaluation.capability_run.evaluate_tasks", evaluate)
    return seen


def test_the_options_reach_lm_eval(
    pretend: dict[str, Any], command: Callable[..., Outcome], circuit_file: Path
) -> None:
    done = command(
        *("capability", TINY, "--circuit", f"{circuit_file}@0.5", "--json"),
        *("--tasks", "birds, fish", "--tasks", "mmlu_*", "--num-shots", "2"),
        *("--limit", "7", "--seed", "9", "--batch-size", "3", "--offline"),
        "--fewshot-as-multiturn",
    )
    assert done.code == 0
    assert pretend["names"] == ["birds", "fish", "mmlu_*"]
    assert (pretend["num_shots"], pretend["offline"]) == (2, True)
    assert pretend["protocol"] == Protocol(7, 3, 9, True)
    assert done.err.count("lm-eval: mind the gap") == 1
    data = done.data
    assert data["schema_version"] == 1
    assert [one["multiplier"] for one in data["arms"]] == [1, 0.5]
    assert (data["limit"], data["seed"], data["missing"]) == (7, 9, [])
    assert data["requested"] == pretend["names"]
    assert set(data["versions"]) == {"cna-mlx", "mlx", "mlx-lm", "lm-eval"}
    assert data["circuits"]["m=0.5"]["file"] == str(circuit_file)


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (CnaError("it broke"), 1)]
)
def test_finished_arms_are_kept(
    error: BaseException,
    code: int,
    pretend: dict[str, Any],
    command: Callable[..., Outcome],
    circuit_file: Path,
) -> None:
    pretend["error"] = error
    asked = ["capability", TINY, "--tasks", "birds", "--circuit", str(circuit_file)]
    done = command(*asked, "-m", "0", "-m", "0.5", "--json")
    assert done.code == code
    assert [one["arm"] for one in done.data["arms"]] == ["baseline", "ablated"]
    assert done.data["missing"] == ["m=0.5"]
    table = command(*asked, "-m", "0", "-m", "0.5")
    assert table.code == code
    assert "not run: m=0.5" in table.out
    assert "75.0%" in table.out


# --------------------------------------------------------------------- with lm-eval


@pytest.fixture(name="tasks", scope="module")
def tasks_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tasks on the demo's own world: each question's answer among three others'."""
    pytest.importorskip("lm_eval", reason="needs the extra: pip install -e '.[eval]'")
    directory = tmp_path_factory.mktemp("tasks")
    data = write_items(directory)
    bodies = {
        "demo_choosing": CHOOSING,
        "demo_answering": ANSWERING,
        "demo_reading": READING,
        "demo_choosing_again": CHOOSING,
        "demo_unsafe": ANSWERING + "unsafe_code: true\n",
    }
    write_tasks(directory, data, bodies)
    missing = task("demo_missing", directory / "none.jsonl", CHOOSING)
    (directory / "demo_missing.yaml").write_text(missing, encoding="utf-8")
    (directory / "demo_remote.yaml").write_text(
        f"task: demo_remote\ndataset_path: nobody-cna/none\ntest_split: t\n{CHOOSING}",
        encoding="utf-8",
    )
    (directory / "demo_both.yaml").write_text(
        "group: demo_both\ntask: [demo_choosing, demo_choosing_again]\n"
        "aggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        with warnings.catch_warnings(action="ignore"):
            from datasets import config
        patch.setattr(config, "HF_DATASETS_CACHE", directory / "cache")
        patch.setattr(config, "HF_HUB_OFFLINE", True)
        yield directory


@pytest.fixture(name="everything", scope="module")
def everything_fixture(demo: tuple[Any, Any]) -> Circuit:
    """A circuit of all neurons."""
    sizes = enumerate(widths(demo[0]))
    return Circuit.from_neurons([(i, j, 1.0) for i, d in sizes for j in range(d)])


def evaluated(
    demo: tuple[Any, Any],
    tasks: Tasks,
    arms: Sequence[Arm],
    template: str = "auto",
    **options: Any,
) -> list[ArmScores]:
    rendering = Rendering(template)  # type: ignore[arg-type]
    return list(evaluate_tasks(*demo, arms, tasks, Protocol(**options), rendering))


def by_lm_eval(
    directory: Path,
    names: list[str],
    template: bool = True,
    shots: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What plain lm-eval finds on the demo's directory, as mlx_lm.evaluate calls it."""
    with warnings.catch_warnings(action="ignore"):
        import lm_eval
        from lm_eval.tasks import TaskManager
        from mlx_lm.evaluate import MLXLM
        from mlx_lm.sample_utils import make_sampler

        lm = MLXLM(
            str(DEMO / "demo"), use_chat_template=template, sampler=make_sampler(0.0)
        )
        lm._model.set_dtype(mx.float32)  # as the demo is loaded
        found: dict[str, Any] = lm_eval.simple_evaluate(
            model=lm,
            tasks=names,
            task_manager=TaskManager(include_path=directory, include_defaults=False),
            num_fewshot=shots,
            apply_chat_template=lm.use_chat_template,
            fewshot_as_multiturn=False,
            random_seed=123,
            numpy_random_seed=123,
            torch_random_seed=123,
            fewshot_random_seed=123,
            **options,
        )
    return found


def only_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare lm-eval the reading of its own tasks: many seconds."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    def manager(**options: Any) -> Any:
        return TaskManager(**options | {"include_defaults": False})

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)


def same(scores: ArmScores, found: dict[str, Any]) -> None:
    """To the bit, for each figure and each item."""
    assert scores.scores == scores_of(found)
    for name, samples in found["samples"].items():
        assert len(samples) == len(scores.samples[name])
        for one, other in zip(samples, scores.samples[name], strict=True):
            for key in ("doc_id", "prompt_hash", "resps"):
                assert one[key] == other[key]


@pytest.mark.slow
def test_where_nothing_is_scaled_it_is_lm_eval_and_where_all_is_it_is_chance(
    tasks: Path, demo: tuple[Any, Any], everything: Circuit
) -> None:
    names = ["demo_choosing"]
    found = load_tasks(names, tasks)
    # the whole circuit first: nothing of an arm may be left for the next
    arms = [Arm.of(everything, 0.0), Arm.of(everything, 1.0)]
    silenced, untouched = evaluated(demo, found, arms)
    same(untouched, by_lm_eval(tasks, names))
    assert untouched.scores[0].value > 0.9
    assert untouched.scores[0].n == ITEMS
    chance = 1 / CHOICES
    width = 1.96 * math.sqrt(chance * (1 - chance) / ITEMS)
    assert abs(silenced.scores[0].value - chance) <= width
    moved = score_change(untouched.scores[0], silenced.scores[0])
    assert moved.lost is not None
    assert moved.gained is not None
    assert (moved.gained - moved.lost) / ITEMS == pytest.approx(moved.difference)
    assert moved.difference + 3 * (moved.stderr or 0) < 0


@pytest.mark.parametrize(
    ("name", "template", "shots"),
    [
        slow("demo_choosing", False, 2),
        slow("demo_choosing", True, 1),
        ("demo_reading", False, None),
        slow("demo_answering", True, None),
    ],
)
def test_every_kind_of_request_is_lm_evals(
    name: str,
    template: bool,
    shots: int | None,
    tasks: Path,
    demo: tuple[Any, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = by_lm_eval(tasks, [name], template, shots, limit=3)
    capsys.readouterr()
    found = load_tasks([name], tasks, num_shots=shots)
    chosen = "on" if template else "off"
    (baseline,) = evaluated(demo, found, [BASELINE], chosen, limit=3, batch_size=8)
    assert capsys.readouterr() == ("", "")
    same(baseline, expected)
    assert baseline.scores[0].n == 3
    assert baseline.scores[0].shots == (shots or 0)


def test_rolling_requests_keep_the_batches_of_the_adapter(
    tasks: Path, demo: tuple[Any, Any]
) -> None:
    """Five texts of different length in batches of two, in one call and in parts."""
    from mlx_lm.evaluate import MLXLM

    lm = harness.adapter(*demo, Rendering("off"), 2)
    asked = ["a b", "how do I bake bread today", "x", "one two three", "so it is"]
    requests = [type("Request", (), {"args": (text,)})() for text in asked]
    with harness.hushed():
        whole = MLXLM.loglikelihood_rolling(lm, requests)
        assert lm.loglikelihood_rolling(requests) == whole
    assert len(set(whole)) == len(asked)


def test_the_model_is_untouched_once_an_arm_is_done_or_broken_off(
    tasks: Path, demo: tuple[Any, Any], everything: Circuit
) -> None:
    model, _ = demo
    ids = mx.array([[1, 2, 3]])
    before = model(ids)
    found = load_tasks(["demo_choosing"], tasks)
    arms = [Arm.of(everything, 0.0, "first"), Arm.of(everything, 2.0, "second")]
    told: list[tuple[str, int, int]] = []

    def listen(what: str, done: int, total: int) -> None:
        told.append((what, done, total))
        if what.startswith("second") and done:
            raise KeyboardInterrupt

    running = evaluate_tasks(*demo, arms, found, Protocol(limit=2), Rendering(), listen)
    assert next(running).arm is arms[0]
    assert mx.array_equal(model(ids), before)
    assert told[0] == ("first: building prompts", 0, 1)
    assert told[1] == ("first: scoring", 0, 2 * CHOICES)
    assert told[-1][1:] == (2 * CHOICES, 2 * CHOICES)
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert mx.array_equal(model(ids), before)


@pytest.mark.slow
def test_groups_weigh_their_members(tasks: Path, demo: tuple[Any, Any]) -> None:
    found = load_tasks(["demo_both"], tasks)
    (baseline,) = evaluated(demo, found, [BASELINE], limit=3)
    whole, first, second = baseline.scores
    assert [one.task for one in baseline.scores] == [
        "demo_both",
        "demo_choosing",
        "demo_choosing_again",
    ]
    assert whole.n == first.n + second.n == 6
    assert whole.outcomes == (*first.outcomes, *second.outcomes)
    assert whole.is_share


def test_a_pattern_names_tasks_and_no_group_of_them(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_own(monkeypatch)
    (tasks / "group.yaml").write_text(
        "group: demo_choosing_both\ntask: [demo_choosing, demo_choosing_again]\n"
    )
    found = load_tasks(["demo_choos*", "demo_choosing"], tasks)
    assert list(found.loaded["tasks"]) == ["demo_choosing", "demo_choosing_again"]
    assert found.names == ("demo_choos*", "demo_choosing")


def test_a_circuit_that_does_not_fit_is_told_first(
    tasks: Path, demo: tuple[Any, Any]
) -> None:
    found = load_tasks(["demo_choosing"], tasks)
    wrong = Arm.of(Circuit.from_neurons([(99, 0, 1.0)]), 0.0)
    with pytest.raises(CircuitError):
        next(evaluate_tasks(*demo, [BASELINE, wrong], found))


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("lone", "", "lone"),
        ("empty", "task: []\n", "empty"),
        ("word", "task: demo_choosing\n", "word"),
        ("outer", "task: [lone, demo_choosing]\n", "lone"),
        ("ring", "task: [ring]\n", "ring"),
    ],
)
def test_a_group_of_nothing_is_told_in_a_line(
    name: str, body: str, said: str, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_own(monkeypatch)
    (tasks / "lone.yaml").write_text("group: lone\n", encoding="utf-8")
    (tasks / f"{name}.yaml").write_text(f"group: {name}\n{body}", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_tasks([name], tasks, offline=True)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("demo_chosing", InputError, "demo_choosing"),
        ("zzz", InputError, "'zzz'"),
        ("demo_unsafe", InputError, "code"),
        ("demo_missing", InputError, "none.jsonl"),
        ("demo_remote", HubError, "--offline"),
    ],
)
def test_a_task_that_cannot_be_run_is_told_in_a_line(
    name: str,
    kind: type[CnaError],
    said: str,
    tasks: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_own(monkeypatch)
    with pytest.raises(kind, match=said) as caught:
        load_tasks([name], tasks, offline=True)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_what_breaks_within_lm_eval_is_a_failure_on_the_way(
    tasks: Path, demo: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_tasks(["demo_choosing"], tasks)
    monkeypatch.setattr(
        type(found.loaded["tasks"]["demo_choosing"]),
        "process_results",
        lambda *_: json.loads("{"),
    )
    with pytest.raises(CnaError, match="lm-eval failed on demo_choosing") as caught:
        next(evaluate_tasks(*demo, [BASELINE], found, Protocol(limit=1)))
    assert caught.value.exit_code == 1


def test_the_command_from_end_to_end(
    tasks: Path,
    command: Callable[..., Outcome],
    everything: Circuit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "everything.json"
    everything.save(path)
    asked = ["capability", "demo", "--circuit", str(path), "--limit", "4", "--offline"]
    asked += ["--tasks", "demo_choosing", "--include-path", str(tasks)]
    done = command(*asked, "--json")
    assert done.code == 0, done.err
    baseline, ablated = done.data["arms"]
    assert baseline["results"]["demo_choosing"]["acc"]["value"] == 1
    assert ablated["results"]["demo_choosing"]["acc"]["difference"] < 0
    assert done.data["tasks"][0]["n"] == 4
    assert "it/s" not in done.err  # their bars
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    drawn = command(*asked)  # to a terminal, with a bar of ours
    assert "baseline: scoring" in plain(drawn.err)
    assert "100.0%" in plain(drawn.out)
    assert "scoring" not in drawn.out
