"""Two models or two runs beside each other: the laws that a comparison keeps."""

import gc
import json
import re
import shutil
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from commandline import SISTER, TINY, Outcome, make_screen, plain, sent
from evaluation_runs import ABLATED, ANSWER, ARMS, BASELINE, REFUSAL, make_run
from scipy import stats
from texts import missing

from cna_mlx import load
from cna_mlx.analysis.circuit_overlap import chance_of_sharing
from cna_mlx.analysis.compared_model import ComparedModel, held_out
from cna_mlx.analysis.comparison import ModelComparison, compare_sides
from cna_mlx.analysis.findings import findings, headline
from cna_mlx.circuit import Circuit
from cna_mlx.discovery import session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord, list_runs
from cna_mlx.prompts.benchmarks import load_benchmark
from cna_mlx.provenance import Auc, ModelEntry, Provenance, RenderingEntry
from cna_mlx.strength import Pin
from cna_mlx.ui.compare import comparison_view

Command = Callable[..., Outcome]

SHORT = ("--max-tokens", "6", "--controls", "1")
OTHER = RunArm("other (b)", "other", 0.0, None, "other")


@pytest.fixture(name="runs", autouse=True)
def runs_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for the runs."""
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(name="sister", scope="session")
def sister_fixture() -> tuple[Any, Any]:
    """Another model of the tiny one's shape."""
    return load(SISTER)


@pytest.fixture(name="compare")
def compare_fixture(
    command: Command,
    sister: tuple[Any, Any],
    brief: list[str],
    questions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """`compare A B` with few prompts and tokens, and the sister loaded."""
    load_other = session.load

    def load_once(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        return sister if name == SISTER else load_other(name, *args, **options)

    monkeypatch.setattr(session, "load", load_once)

    def run(a: str, b: str, *more: str) -> Outcome:
        return command("compare", a, b, *brief, "--prompts", questions, *SHORT, *more)

    return run


def two_runs(tmp_path: Path, **changes: Any) -> tuple[RunRecord, RunRecord]:
    """A run of 8 + 4 prompts, and one with five of the former and one of the latter."""
    first = make_run(tmp_path / "first", **changes)
    return first, make_run(tmp_path / "second", harmful=5, **changes)


def sides(*runs: RunRecord) -> ModelComparison:
    a, b = (ComparedModel.of_run(run, run.directory.name) for run in runs)
    return compare_sides(a, b)


@pytest.mark.parametrize("rules", ["labels", "verdict"])
def test_runs_of_different_rules_are_compared_with_a_warning(
    rules: str, tmp_path: Path
) -> None:
    old = make_run(tmp_path / "old")
    new = make_run(tmp_path / "new", facts={"rules": {rules: 2}})
    same = make_run(tmp_path / "same", facts={"rules": {rules: 1}})
    warnings = [line for line in findings(sides(old, new)) if "Warning" in line]
    assert [f"1 and 2 of the {rules}" in line for line in warnings] == [True]
    assert not any("Warning" in line for line in findings(sides(old, same)))


# ------------------------------------------------------------------------------- chance


def circuit(members: dict[int, list[int]]) -> Circuit:
    return Circuit.from_neurons(
        (layer, index, 1.0) for layer, own in members.items() for index in own
    )


def test_the_chance_of_one_layer_is_hypergeometric() -> None:
    one, other = circuit({1: list(range(6))}), circuit({1: [3, 4, 5, 9, 11]})
    wanted = stats.hypergeom(20, 6, 5).sf(3 - 1)
    assert chance_of_sharing(one, other, [20, 20]) == pytest.approx(wanted)


def test_the_chance_of_several_layers_adds_up() -> None:
    one = circuit({0: [0, 1, 2], 1: [0, 1], 2: [7]})
    other = circuit({0: [2, 3], 1: [1, 5, 6], 3: [0]})
    layers = [stats.hypergeom(8, 3, 2), stats.hypergeom(9, 2, 3)]
    wanted = sum(
        layers[0].pmf(x) * layers[1].pmf(y)
        for x, y in product(range(3), range(3))
        if x + y >= 2
    )
    assert chance_of_sharing(one, other, [8, 9, 9, 9]) == pytest.approx(wanted)
    same = chance_of_sharing(other, one, [8, 9, 9, 9])
    assert same == pytest.approx(wanted)


def test_sharing_nothing_is_no_surprise_and_everything_is_one() -> None:
    one, other = circuit({0: [1, 2]}), circuit({0: [3], 1: [1]})
    assert chance_of_sharing(one, other, [10, 10]) == 1.0
    assert chance_of_sharing(one, one, [10, 10]) == pytest.approx(1 / 45)
    many = circuit({0: list(range(60))})
    assert 0 < chance_of_sharing(many, many, [28672]) < 1e-180


# ----------------------------------------------------------------------------- two runs


def test_a_run_and_itself_are_the_same(tmp_path: Path) -> None:
    run, _ = two_runs(tmp_path)
    found = sides(run, run)
    assert found.is_rendered_alike
    assert found.prompts == 12
    assert found.overlap
    assert found.overlap.shared
    assert found.overlap.shared.jaccard == 1.0
    assert found.a.to_dict() == found.b.to_dict()
    assert found.between
    for one in found.between:
        assert (one.change.lost, one.change.gained, one.change.p) == (0, 0, 1.0)


def test_only_prompts_that_both_answered_count(tmp_path: Path) -> None:
    first, second = two_runs(tmp_path)
    data = sides(first, second).to_dict()
    assert data["prompts"] == {"both": 6, "a": 12, "b": 9}
    for name in "ab":
        groups = data[name]["summary"]["groups"]
        assert [(one["kind"], one["n"]) for one in groups] == [
            ("harmful", 5),
            ("benign", 1),
        ]


def test_another_text_under_the_same_id_is_another_prompt(tmp_path: Path) -> None:
    first, _ = two_runs(tmp_path)
    other = make_run(tmp_path / "other", sample={"prompt": "something else"})
    with pytest.raises(InputError, match="first and other"):
        sides(first, other)


def swapped(data: dict[str, Any]) -> dict[str, Any]:
    """What the comparison of B with A must say, from that of A with B."""
    data = json.loads(json.dumps(data))
    for place in (data, data["prompts"], data["transfer"], data["overlap"]["layers"]):
        place["a"], place["b"] = place["b"], place["a"]
    data["overlap"]["sizes"].reverse()
    for one in data["between"]:
        change = one["change"]
        change["lost"], change["gained"] = change["gained"], change["lost"]
        change["before"], change["after"] = change["after"], change["before"]
        change.pop("points", None), change.pop("relative", None)
    return data


def test_swapping_the_two_swaps_what_is_found(tmp_path: Path) -> None:
    def stubborn(arm: RunArm, number: int, kind: str) -> str:
        refuses = arm.role == "baseline" or number > 1
        return REFUSAL if kind == "harmful" and refuses else f"{ANSWER} {number}"

    first, _ = two_runs(tmp_path)
    second = make_run(tmp_path / "other", harmful=6, answers=stubborn)
    there, back = sides(first, second).to_dict(), sides(second, first).to_dict()
    for one in back["between"]:
        one["change"].pop("points"), one["change"].pop("relative")
    assert back == swapped(there)
    assert {one["role"] for one in there["between"]} == {"baseline", "ablated"}
    pair = there["between"][2]
    assert (pair["kind"], pair["role"]) == ("target", "ablated")
    assert (pair["change"]["lost"], pair["change"]["gained"]) == (1, 2)


def test_two_runs_need_no_model(
    command: Command, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    first = make_run(runs / "eval-one-123")
    second = make_run(tmp_path / "second", harmful=5)
    monkeypatch.setattr(session, "load", refuse)
    shown = command("compare", "eval-one-123", str(second.directory), "--json")
    assert (shown.code, shown.err) == (0, "")
    assert shown.data["schema_version"] == 1
    assert shown.data["prompts"]["both"] == 6
    assert shown.data["a"]["run"] == str(first.directory)
    assert shown.data["statements"]
    text = command("compare", "eval-one-123", str(second.directory / "run.json"))
    assert text.code == 0
    assert text.out.startswith("eval-one-123 and second are not shown to differ")


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first")
    second = make_run(tmp_path / "second", done=6, status="interrupted")
    found = sides(first, second)
    assert found.prompts == 6
    (bound,) = [one for one in findings(found) if "second" in one and "12" in one]
    assert "first" not in bound  # which is complete


# ----------------------------------------------------------------------------- in words


def told(tmp_path: Path, **changes: Any) -> list[str]:
    """Findings about a chat model (a) and one that refuses nothing (b)."""

    def base(arm: RunArm, number: int, kind: str) -> str:
        return f"{ANSWER} {number} {arm.label if number == 0 else ''}"

    def chat(arm: RunArm, number: int, kind: str) -> str:
        held = arm.role in ("baseline", "matched", "other")
        return REFUSAL if kind == "harmful" and held else f"{ANSWER} {number}"

    arms = (BASELINE, ABLATED, ARMS[2], OTHER)
    a = make_run(tmp_path / "chat", arms=arms, harmful=9, answers=chat)
    b = make_run(tmp_path / "base", arms=arms, harmful=9, answers=base)
    one, other = ComparedModel.of_run(a, "chat"), ComparedModel.of_run(b, "base")
    auc = Auc(0.98, 0.9, 1.0)
    one, other = replace(one, own=auc), replace(other, **{"own": auc, **changes})
    return list(findings(compare_sides(one, other)))


def about(said: list[str], *parts: str) -> str:
    """The one finding that holds all of these."""
    (found,) = [one for one in said if not missing(one, *parts)]
    return found


def test_what_is_said_follows_the_figures(tmp_path: Path) -> None:
    said = told(tmp_path)
    assert about(said, "AUC", "chat 0.98", "base 0.98")
    assert about(said, "4 of 4", "Jaccard 1.00")
    assert about(said, "McNemar", "9 of 9", "0 of 9")
    assert about(said, "chat", "circuit at 0", "100%", "0%")
    assert about(said, "chat", "other (b)")
    assert about(said, "base", "circuit at 0", "0 of 9", "too few")
    assert any("1 of 9 answers" in one for one in said)
    paper = about(said, "Llama-3.2-1B", "Qwen2.5-3B", "base")
    assert missing(paper, "2.0%", "0.0%", "14.1%", "11.1%") == []
    assert not any("quantized" in one for one in said)


def test_an_interval_that_holds_one_half_tells_nothing_apart(tmp_path: Path) -> None:
    line = about(told(tmp_path, own=Auc(0.6, 0.4, 0.8)), "AUC", "0.40, 0.80")
    assert line.partition("AUC")[0].count("chat") == 1
    assert "base" not in line.partition("AUC")[0]


def test_other_renderings_stand_beside_each_other(tmp_path: Path) -> None:
    alike = about(told(tmp_path / "alike"), "AUC chat")
    said = told(tmp_path, rendering=RenderingEntry(reference_sha256="0" * 64))
    assert about(said, "AUC chat") != alike


def test_a_quantized_twin_is_the_open_question(tmp_path: Path) -> None:
    config = make_run(tmp_path / "any").config.model
    kinds = ("quantized", "4-bit, groups of 64")
    said = told(tmp_path, model=replace(config, quantization="float32"))
    line = about(said, *kinds, "float32")
    assert missing(line, "1.00 (Jaccard)", "too few") == []  # base refuses none
    plain = replace(config, quantization="bfloat16")
    assert about(told(tmp_path / "again", model=plain), *kinds, "bfloat16")


def test_other_shapes_share_no_neuron(tmp_path: Path) -> None:
    config = make_run(tmp_path / "any").config.model
    said = told(tmp_path, model=replace(config, d_ff=(512,) * 8))
    assert about(said, "shapes differ", "4 and 4")
    assert len([one for one in said if "shapes differ" in one]) == 2
    assert not any("Jaccard" in one for one in said)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_the_screen(width: int, encoding: str, tmp_path: Path) -> None:
    first, second = two_runs(tmp_path, arms=(*ARMS, OTHER))
    a, b = (
        ComparedModel.of_run(first, "first[red]"),
        ComparedModel.of_run(second, "second\x1b[31m"),
    )
    found = compare_sides(a, b)
    to = make_screen(width, terminal=True, color=False, encoding=encoding)
    to.out.print(comparison_view(to, found, findings(found)))
    text = sent(to.out)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b[31m" not in text
    assert "first[red]" in text
    assert all(word in text for word in ("other (b)", "ablated", "matched x 2"))
    if encoding == "ascii":
        assert text.isascii()


# --------------------------------------------------------------------------- two models


def test_a_model_and_itself_are_the_same(compare: Command) -> None:
    data = compare(TINY, TINY, "--json").data
    assert data["overlap"]["jaccard"] == 1.0
    assert data["overlap"]["rank_correlation"] == pytest.approx(1.0)
    assert data["rendered_alike"] is True
    a, b = data["a"], data["b"]
    assert a["held_out"]["own"] == a["held_out"]["same"] == b["held_out"]["own"]
    assert a["held_out"]["own"] is not None
    assert a["summary"]["groups"] == b["summary"]["groups"]
    for one in data["between"]:
        assert one["change"]["lost"] == one["change"]["gained"] == 0
    own, other = (data["transfer"]["a"][key] for key in ("own", "other"))
    assert own["change"] == other["change"]
    assert own["differing"] == other["differing"]
    assert data["weights"] == {"matrices": 29, "differing": 0, "changes": []}
    for side in (a, b):
        kept = side["kept_of_other"]
        assert kept["successes"] == kept["n"] == a["circuit"]["neurons"]


def test_swapping_two_models_swaps_the_result(compare: Command, runs: Path) -> None:
    there = compare(TINY, SISTER, "--json").data
    names = [run.directory for run in list_runs(runs)]
    back = compare(SISTER, TINY, "--json").data
    assert sorted(run.directory for run in list_runs(runs)) == sorted(names)
    for data in (there, back):
        data.pop("statements"), data.pop("headline")
        for one in data["between"]:
            one["change"].pop("points", None), one["change"].pop("relative", None)
    assert back == swapped(there)
    assert [one["role"] for one in there["a"]["summary"]["groups"][0]["arms"]] == [
        "baseline",
        "ablated",
        "matched",
        "other",
    ]


def test_the_models_are_never_in_memory_together(
    compare: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [str(tmp_path / name) for name in ("one", "other")]
    for copy in copies:
        shutil.copytree(SISTER, copy)
    load_one, alive = session.load, list[weakref.ref[Any]]()

    def watched(*args: Any, **options: Any) -> Any:
        gc.collect()
        assert [one() for one in alive if one() is not None] == []
        model, tokenizer = load_one(*args, **options)
        alive.append(weakref.ref(model))
        return model, tokenizer

    monkeypatch.setattr(session, "load", watched)
    assert compare(*copies, "--json").code == 0
    assert len(alive) == 3


@pytest.mark.slow
def test_each_run_can_lie_where_it_is_told(compare: Command, tmp_path: Path) -> None:
    place = tmp_path / "both"
    data = compare(TINY, SISTER, "--out", str(place), "--json").data
    assert data["a"]["run"] == str(place / "a")
    assert data["b"]["run"] == str(place / "b")
    again = compare(TINY, SISTER, "--out", str(place), "--json")
    assert again.data == data
    assert again.err.count("all are answered") == 2
    from_runs = sides(
        RunRecord.load(place / "a"), RunRecord.load(place / "b")
    ).to_dict()
    assert from_runs["between"] == data["between"]
    assert from_runs["transfer"] == data["transfer"]


def without_template(source: str, place: Path) -> str:
    """A copy of a model whose tokenizer has no chat template, as of a base model."""
    shutil.copytree(source, place)
    (place / "chat_template.jinja").unlink(missing_ok=True)
    path = place / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("chat_template", None)
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(place)


def test_different_templates_are_compared_on_plain_text_too(
    compare: Command, tmp_path: Path
) -> None:
    bare = without_template(TINY, tmp_path / "bare")
    data = compare(TINY, bare, "--json").data
    assert data["rendered_alike"] is False
    chat, base = data["a"]["held_out"], data["b"]["held_out"]
    assert base["own"] == base["same"]
    # the same weights, the same text
    assert chat["same"] == base["same"]
    assert "plain text" in data["statements"][0]
    plain = compare(TINY, bare, "--chat-template", "off", "--json").data
    assert plain["rendered_alike"] is True
    assert plain["a"]["held_out"]["own"] == chat["same"]


@pytest.mark.slow
def test_other_shapes_go_on_without_the_others_circuit(compare: Command) -> None:
    data = compare(TINY, "demo-base", "--json").data
    assert data["same_shape"] is False
    assert data["overlap"]["shared"] is None
    assert data["overlap"]["layers"]["overlap"] is not None
    assert data["transfer"]["a"]["other"] is data["transfer"]["b"]["other"] is None
    assert data["transfer"]["a"]["own"] is not None


def test_ctrl_c_keeps_what_was_finished(
    compare: Command, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    from cna_mlx.evaluation import runner

    whole = compare(TINY, SISTER, "--json", "--batch", "1").data
    shutil.rmtree(runs)
    answer, calls = runner.answer_group, []

    def pressed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            signal.raise_signal(signal.SIGINT)
        return answer(*args)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "answer_group", pressed)
        cut = compare(TINY, SISTER, "--json", "--batch", "1")
    assert cut.code == 130
    assert cut.data["a"]["summary"] is None
    assert cut.data["b"]["summary"]["prompts"]["done"] == 1
    assert "repeat the command" in cut.err
    again = compare(TINY, SISTER, "--json", "--batch", "1")
    assert again.code == 0
    assert again.data == whole


@pytest.mark.slow
def test_circuits_can_be_given(
    command: Command,
    compare: Command,
    brief: list[str],
    questions: str,
    tmp_path: Path,
) -> None:
    files = [str(tmp_path / f"{name}.json") for name in "ab"]
    for model, file in zip((TINY, SISTER), files, strict=True):
        command("discover", model, *brief, "--no-expect", "-o", file)
        replace(Circuit.load(file), intervention=Pin(0.5)).save(file)
    given = command(
        *("compare", TINY, SISTER, "--prompts", questions, *SHORT, "--json"),
        *("--circuit-a", files[0], "--circuit-b", files[1]),
    )
    assert given.code == 0
    found = compare(TINY, SISTER, "--json").data
    for key in ("jaccard", "shared", "p", "layers"):
        assert given.data["overlap"][key] == found["overlap"][key]
    assert given.data["a"]["held_out"]["own"] == found["a"]["held_out"]["own"]
    for side in given.data["transfer"].values():
        assert [side[key]["strength"] for key in ("own", "other")] == [0.0, 0.0]
        assert side["own"]["intervention"] == {"kind": "pin", "value": 0.5}
        assert side["other"]["intervention"] == side["own"]["intervention"]
    typed = command(
        *("compare", TINY, SISTER, "--prompts", questions, *SHORT, "--json"),
        *("--circuit-a", f"{files[0]}@0", "--circuit-b", files[1]),
    ).data["transfer"]
    assert typed["a"]["own"]["arm"] == "ablated"
    assert "intervention" not in typed["b"]["other"]
    assert typed["b"]["own"]["arm"] == "pin=0.5"


# ------------------------------------------------------------------------------- errors


def test_what_cannot_be_compared_is_one_line(
    command: Command, compare: Command, circuit_file: Path, tmp_path: Path
) -> None:
    run = str(make_run(tmp_path / "run").directory)
    cases = [
        (["compare", run, TINY], TINY),
        (["compare", run, run, "--limit", "3"], "--limit"),
        (["compare", "demo", TINY], "--contrast"),
        (["compare", "nothing-here", "demo"], "nothing-here"),
        (
            ["compare", "demo", "demo-base", "--circuit-a", str(circuit_file)],
            "red-vs-blue and magic",
        ),
        (
            ["compare", "demo", "demo-base", "--circuit-b", f"{circuit_file}@0.5"],
            "multiplier",
        ),
        (
            ["compare", "demo", "demo-base", "--circuit-b", f"{circuit_file}@mean"],
            "multiplier",
        ),
        (["compare", "demo", "demo-base", "--circuit-b", "no.json"], "no.json"),
    ]
    for words, message in cases:
        shown = command(*words)
        assert shown.code == 2, words
        assert re.search(message, shown.failure), shown.failure


def test_where_it_goes_is_looked_at_before_a_model_is_loaded(
    compare: Command, tmp_path: Path
) -> None:
    (tmp_path / "both" / "b").mkdir(parents=True)
    (tmp_path / "both" / "b" / "thesis.tex").write_text("mine")
    shown = compare("no/such-model", TINY, "--out", str(tmp_path / "both"))
    assert shown.code == 2
    assert missing(shown.failure, str(tmp_path / "both" / "b"), "thesis.tex") == []


def test_a_circuit_of_other_weights_is_refused(
    command: Command, circuit_file: Path, questions: str
) -> None:
    words = ("--circuit-a", str(circuit_file), "--circuit-b", str(circuit_file))
    shown = command("compare", TINY, SISTER, *words, "--prompts", questions, *SHORT)
    assert shown.code == 2
    assert missing(shown.failure, SISTER, "weights", "--circuit-b") == []
    assert "--allow-transfer" not in shown.failure  # compare has no such option


def test_a_gauge_of_other_weights_or_another_rendering_is_not_taken() -> None:
    rendering = RenderingEntry(reference_sha256="r")
    model, other = ModelEntry(fingerprint="f"), ModelEntry(fingerprint="g")
    made = Circuit.from_neurons([(0, 0, 1.0)])
    origin = Provenance(rendering=rendering, held_out=Auc(0.9, 0.8, 1.0))
    one = replace(made, model=model, provenance=origin)
    assert held_out(one, model, rendering) == Auc(0.9, 0.8, 1.0)
    assert held_out(one, other, rendering) is None
    assert held_out(one, model, RenderingEntry(reference_sha256="s")) is None
    assert held_out(made, model, rendering) is None


# ---------------------------------------------------------------------------- the demo


@pytest.mark.slow
def test_the_demo_and_its_base(command: Command, tmp_path: Path) -> None:
    questions = load_benchmark("demo").prompts
    magic = [one.text for one in questions if one.kind == "harmful"][::10]
    (tmp_path / "magic.txt").write_text("\n".join(magic), encoding="utf-8")
    prompts = f"harmful={tmp_path / 'magic.txt'}"
    words = ("--prompts", prompts, "--max-tokens", "12", "--controls", "0", "--no-kl")
    data = command(
        "compare", "demo-base", "demo", *words, "--no-universal", "--json"
    ).data
    base, chat = data["a"], data["b"]
    for side in (base, chat):
        assert side["held_out"]["own"]["low"] > 0.8
    assert data["overlap"]["jaccard"] > 0.1 > data["overlap"]["chance_by_layer"]
    baseline = next(one for one in data["between"] if one["role"] == "baseline")
    assert baseline["change"]["before"]["successes"] == 0
    assert baseline["change"]["p"] < 0.05 < baseline["change"]["after"]["value"]
    # the base model answers everything, whatever is ablated
    for one in data["transfer"]["a"].values():
        assert one["change"]["after"]["successes"] == 0
        assert one["change"]["gained"] == 0
    # the neurons that carry the chat model's refusals tell magic apart in the base too
    for one in data["transfer"]["b"].values():
        assert one["change"]["after"]["value"] < 0.3
        assert one["change"]["p"] < 0.05


# ------------------------------------------------------------------------- the headline


def test_the_headline_says_which_refuses_more(tmp_path: Path) -> None:
    def answering(arm: RunArm, number: int, kind: str) -> str:
        return f"{ANSWER} {number}"

    def refusing(arm: RunArm, number: int, kind: str) -> str:
        return REFUSAL if kind == "harmful" else f"{ANSWER} {number}"

    a = make_run(tmp_path / "chat", harmful=9, answers=refusing)
    b = make_run(tmp_path / "base", harmful=9, answers=answering)
    shared = "their circuits share more neurons than chance (4 of 4)."
    assert headline(sides(a, b)) == (
        f"chat refuses more than base (9 and 0 of 9 prompts); {shared}"
    )
    assert headline(sides(b, a)) == (
        f"chat refuses more than base (0 and 9 of 9 prompts); {shared}"
    )
    unanswered = replace(sides(a, b), between=())
    assert headline(unanswered) == f"T{shared[1:]}"
    same = headline(sides(a, a))
    assert same.startswith("chat and chat are not shown to differ in refusals (9 and 9")
    screen = make_screen(100)
    found = sides(a, b)
    screen.out.print(comparison_view(screen, found, findings(found)))
    lines = [line for line in plain(sent(screen.out)).splitlines() if line.strip()]
    assert " ".join(lines[:2]).split("refuses")[0].strip() == "chat"
