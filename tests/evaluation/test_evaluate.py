"""The evaluation: arms, batches, and the commands that make and repeat a run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import answered_alone
from commandline import NEGATIVE, POSITIVE, QUESTIONS, TINY, Outcome
from texts import missing

from cna_mlx import Circuit, Rendering
from cna_mlx.circuit import Details
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.reference import reference
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import (
    arm_of,
    evaluation_arms,
    load_direction,
    save_direction,
)
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.options import EvalOptions
from cna_mlx.evaluation.plan import _strengths
from cna_mlx.evaluation.run_config import RunArm, main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import label
from cna_mlx.labels.repetition import quality
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt, load_benchmark
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.strength import MEAN, Pin
from cna_mlx.util.progress import never

Command = Callable[..., Outcome]

CONTRAST = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
SHORT = ("--max-tokens", "6", "--extend-to", "8", "--controls", "2")


def make_set(texts: list[str]) -> Benchmark:
    prompts = [
        EvalPrompt(f"q-{n}", text, "cats", "unknown", str(n))
        for n, text in enumerate(texts)
    ]
    return Benchmark("q", tuple(prompts), "here")


# ------------------------------------------------------------------------- the arms


def test_controls_have_the_circuits_size_and_none_of_its_neurons(
    tiny: tuple[Any, Any], circuit_text: str
) -> None:
    model, tokenizer = tiny
    circuit = Circuit.from_text(circuit_text, "own")
    steps: list[tuple[str, int, int]] = []
    made_by = reference(
        model, tokenizer, CONTRAST, Rendering(), lambda *step: steps.append(step)
    )
    total = len(widths(model))
    assert [(done, of) for _, done, of in steps] == [
        (layer, total) for layer in range(1, total + 1)
    ]
    pairs, circuits = evaluation_arms(circuit, widths(model), made_by, seeds=3)
    roles = [entry.role for entry, _ in pairs]
    assert roles == ["baseline", "ablated", *["matched"] * 3, *["uniform"] * 3]
    many, _ = evaluation_arms(circuit, widths(model), made_by, seeds=7)
    assert [entry.role for entry, _ in many[2:]] == [
        *["matched"] * 7,
        *["uniform"] * 3,
    ]
    assert [entry for entry, _ in many if entry.role == "uniform"] == [
        entry for entry, _ in pairs if entry.role == "uniform"
    ]
    own = {neuron[:2] for neuron in circuit.neurons}
    for entry, arm in pairs[2:]:
        control = circuits[entry.circuit or ""]
        assert arm.steering == ((control, 0.0),)
        assert not own & {neuron[:2] for neuron in control.neurons}
        sizes = {layer: len(found) for layer, found in control.by_layer().items()}
        assert sizes == {
            layer: len(found) for layer, found in circuit.by_layer().items()
        }
    different = {tuple(sorted(circuits[f"matched-{n}"].neurons)) for n in range(3)}
    assert len(different) == 3


def test_the_direction_is_the_difference_of_means(
    tiny: tuple[Any, Any], circuit_text: str, tmp_path: Path
) -> None:
    model, tokenizer = tiny
    circuit = Circuit.from_text(circuit_text, "own")
    made_by = reference(model, tokenizer, CONTRAST, Rendering())
    for layer, index, delta in circuit.neurons:
        own = float(made_by.direction.deltas[layer][index])
        assert own == pytest.approx(delta, rel=1e-4, abs=1e-6)
    save_direction(made_by.direction, tmp_path)
    again = load_direction(tmp_path)
    assert again
    pairs = zip(again.deltas, made_by.direction.deltas, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert load_direction(tmp_path / "nowhere") is None


def test_strengths_become_arms_once(tiny: tuple[Any, Any], circuit_text: str) -> None:
    model, tokenizer = tiny
    circuit = Circuit.from_text(circuit_text, "own")
    made_by = reference(model, tokenizer, CONTRAST, Rendering())
    make = evaluation_arms
    pairs, circuits = make(
        circuit,
        widths(model),
        made_by,
        multipliers=(0.5, 1, 0),
        alphas=(0, -1),
        seeds=1,
    )
    assert [entry.label for entry, _ in pairs] == [
        "baseline",
        "m=0.5",
        "ablated",
        "CAA -1",
        "matched 0",
        "uniform 0",
    ]
    # the controls are scaled as what is judged, which is the ablated arm
    assert [entry.strength for entry, _ in pairs[-2:]] == [0.0, 0.0]
    for entry, arm in pairs:
        again = arm_of(entry, circuits, made_by.direction)
        assert again == Arm(entry.label, arm.steering)
    with pytest.raises(InputError, match="twice"):
        make(circuit, widths(model), made_by, multipliers=(0, 0))


# ------------------------------------------------------------------------- and pins


def test_controls_of_a_mean_ablated_circuit_have_means_of_their_own(
    tiny: tuple[Any, Any], circuit_text: str
) -> None:
    model, tokenizer = tiny
    circuit = Circuit.from_text(circuit_text, "own")
    made_by = reference(model, tokenizer, CONTRAST, Rendering())
    # the reference is the circuit's own contrast: it finds what discovery found
    again = made_by.with_moments(circuit)
    np.testing.assert_allclose(again.moments, circuit.moments, rtol=1e-4, atol=1e-6)
    pairs, circuits = evaluation_arms(
        circuit, widths(model), made_by, multipliers=(0.0, 0.5, MEAN), seeds=2
    )
    assert [(entry.label, entry.role) for entry, _ in pairs] == [
        ("baseline", "baseline"),
        ("ablated", "ablated"),
        ("m=0.5", "scaled"),
        ("mean", "pinned"),
        *[(f"matched {n}", "matched") for n in range(2)],
        *[(f"uniform {n}", "uniform") for n in range(2)],
    ]
    assert main_arm([entry for entry, _ in pairs]) is pairs[3][0]
    ids = [render_prompt(tokenizer, text, Rendering()) for text in CONTRAST.negative]
    benign = {n: np.array(a).mean(axis=0) for n, a in last_activations(model, ids)}
    for entry, arm in pairs[4:]:
        control = circuits[entry.circuit or ""]
        assert entry.intervention == pairs[3][0].intervention == MEAN
        assert arm.steering == ((control, MEAN),)
        means = [benign[n.layer][n.index] for n in control.neurons]
        np.testing.assert_allclose(control.constants(MEAN), means, 1e-4, 1e-6)


def test_controls_of_stored_constants_are_pinned_to_these(
    tiny: tuple[Any, Any], circuit_text: str
) -> None:
    model, tokenizer = tiny
    plain = Circuit.from_text(circuit_text, "own")
    shifts = tuple(Details(shift=n / 4) for n in range(len(plain.neurons)))
    circuit = replace(plain, details=shifts)
    made_by = reference(model, tokenizer, CONTRAST, Rendering())
    _, circuits = evaluation_arms(
        circuit, widths(model), made_by, multipliers=(Pin(),), seeds=1
    )
    for name in ("matched-0", "uniform-0"):
        control = circuits[name]
        assert sorted(control.constants(Pin())) == sorted(circuit.constants(Pin()))
        for layer, members in circuit.by_layer().items():
            own = sorted(_shifts(control)[n[:2]] for n in control.by_layer()[layer])
            assert own == sorted(_shifts(circuit)[n[:2]] for n in members)
    _, before = evaluation_arms(plain, widths(model), made_by, seeds=1)
    assert circuits["matched-0"].neurons == before["matched-0"].neurons


def _shifts(circuit: Circuit) -> dict[tuple[int, ...], float | None]:
    pairs = zip(circuit.neurons, circuit.details, strict=True)
    return {neuron[:2]: one.shift for neuron, one in pairs}


def test_an_arm_that_scales_is_written_as_before() -> None:
    arm = RunArm.of("ablated", "ablated", 0.0, circuit="circuit")
    assert arm == RunArm("ablated", "ablated", 0.0, None, "circuit")
    assert arm.to_dict() == {
        "label": "ablated",
        "role": "ablated",
        "strength": 0.0,
        "seed": None,
        "circuit": "circuit",
    }
    assert RunArm.from_dict(arm.to_dict()) == arm


@pytest.mark.parametrize("pin", [MEAN, Pin(), Pin(0.5), Pin(0.0)], ids=str)
def test_an_arm_that_pins_is_read_back(pin: Pin) -> None:
    arm = RunArm.of(str(pin), "pinned", pin, circuit="circuit", constants="abc")
    data = json.loads(json.dumps(arm.to_dict()))
    assert data["intervention"] == pin.to_dict()
    again = RunArm.from_dict(data)
    assert again == arm
    assert again.applied == pin
    assert again.to_dict() == data


def test_pins_of_a_run_are_resumed_and_verified(
    command: Command, circuit_file: Path, questions: str, files: Any, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    sides = ["--positive", files[0], "--negative", files[1]]
    line = ["eval", TINY, *sides, "--prompts", questions, *SHORT, "--out", str(place)]
    pinned = ["--circuit", f"{circuit_file}@mean", "-m", "pin=0.5"]
    found = command(*line, *pinned, "--json")
    assert found.code == 0
    arms = {arm["label"]: arm for arm in found.data["groups"][0]["arms"]}
    assert arms["mean"]["intervention"] == {"kind": "mean"}
    assert arms["pin=0.5"]["intervention"] == {"kind": "pin", "value": 0.5}
    assert arms["matched 1"]["intervention"] == {"kind": "mean"}
    assert "intervention" not in arms["baseline"]
    path = place / "samples.jsonl"
    wanted, content = _timeless(path), path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    again = command(*line, *pinned, "--json")
    assert again.data == found.data
    assert _timeless(path) == wanted
    checked = command("verify", str(place), "--sample", "2", "--json").data
    # the other two are in the same batch
    assert checked["same_tokens"] == checked["samples"] == 4 * len(arms)
    # other means are another run
    data = json.loads(circuit_file.read_text("utf-8"))
    data["neurons"][0][5] += 1.0
    circuit_file.write_text(json.dumps(data), "utf-8")
    other = command(*line, *pinned)
    assert other.code == 2
    assert "arms" in other.failure
    for strength in ("pin=1", "0"):
        assert command(*line, "--circuit", f"{circuit_file}@{strength}").code == 2


@pytest.mark.parametrize("verb", ["eval", "audit", "diff", "chat"])
def test_a_circuit_without_means_says_so_before_the_model_is_loaded(
    verb: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: Session) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(Session, "load", load)
    path = tmp_path / "bare.json"
    Circuit.from_neurons([(0, 1), (1, 2)]).save(path)
    for line in ([f"{path}@mean"], [str(path), "-m", "mean"]):
        found = command(verb, TINY, "--circuit", *line)
        assert found.code == 2
        assert missing(found.failure, str(path), "no mean activations") == []


# ----------------------------------------------------------------------- the batches


def test_a_batch_is_what_its_arms_answer(
    tiny: tuple[Any, Any], circuit_text: str
) -> None:
    model, tokenizer = tiny
    circuit = Circuit.from_text(circuit_text, "own")
    arms = [BASELINE, Arm.of(circuit, 0.0, "ablated"), Arm.of(circuit, 2.0)]
    evaluation = Evaluation(
        model, tokenizer, [make_set(QUESTIONS)], arms, Rendering(), 6, 3, circuit
    )
    samples = answered_alone(evaluation, 2)
    assert samples
    ids = render_prompt(tokenizer, QUESTIONS[2])
    events = generate_arms(model, tokenizer, [ids], arms, max_tokens=6)
    answers = {event.arm: event for event in events if isinstance(event, Answer)}
    for row, sample in enumerate(samples):
        answer = answers[row]
        assert (sample.text, sample.token_ids) == (answer.text, answer.token_ids)
        assert sample.finish == answer.finish
        assert (sample.number, sample.id, sample.arm) == (2, "q-2", arms[row].label)
        assert (sample.category, sample.level) == ("cats", "2")
        assert (sample.label, sample.span) == (
            label(answer.text).kind,
            label(answer.text).span,
        )
        assert sample.quality == quality(answer.text)
        assert sample.gauge is not None
        assert sample.kl is not None
    assert samples[0].kl == 0.0
    assert Sample.from_line(samples[1].to_line()) == samples[1]


def test_a_stopped_batch_is_none(tiny: tuple[Any, Any], circuit_text: str) -> None:
    model, tokenizer = tiny
    arms = [BASELINE, Arm.of(Circuit.from_text(circuit_text, "own"), 0.0)]
    evaluation = Evaluation(
        model, tokenizer, [make_set(QUESTIONS)], arms, Rendering(), 6
    )
    for allowed in range(8):
        asked = iter([False] * allowed + [True] * 99)
        assert answered_alone(evaluation, 0, lambda asked=asked: next(asked)) is None


def test_a_limit_spreads_over_the_set() -> None:
    whole = load_benchmark("demo")
    cut = whole.limited(10)
    assert len(cut.prompts) == 10
    assert [one.kind for one in cut.prompts].count("harmful") == 5
    assert cut.sha256 != whole.sha256
    assert whole.limited(None) is whole.limited(10_000) is whole


# ---------------------------------------------------------------------- the commands


def test_eval_writes_a_run_and_goes_on(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    place = str(tmp_path / "run")
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT, "--out", place]
    first = command(*line, "--json")
    assert first.code == 0
    data = first.data
    assert data["status"] == "complete"
    assert data["prompts"] == {"done": 4, "planned": 4}
    assert [arm["role"] for arm in data["groups"][0]["arms"]] == [
        "baseline",
        "ablated",
        *["matched"] * 2,
        *["uniform"] * 2,
    ]
    assert data["groups"][0]["arms"][1]["kl"]["n"] == 4
    assert data["verdict"]["outcome"] == "nothing"
    assert missing(first.err, "4 prompts", "6 arms", "6 tokens", "8 tokens") == []
    assert missing(first.err, "4 harmful prompts", "2 controls", "1 in 3") == []
    samples = (tmp_path / "run" / "samples.jsonl").read_bytes()
    again = command(*line, "--json")
    assert again.data == data
    assert "all are answered" in again.err
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == samples
    other = command(*line, "--limit", "2")
    assert other.code == 2
    assert missing(other.failure, place, "sets, limit") == []


def test_what_was_cut_off_is_computed_again(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT, "--sweep"]
    line += ["--out", str(place)]
    whole = command(*line, "--json").data
    path = place / "samples.jsonl"
    wanted = _timeless(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    again = command(*line, "--json")
    assert "2 are already answered" in again.err
    assert again.data == whole
    assert _timeless(path) == wanted
    assert RunRecord.load(place).facts.resumed is True


def _timeless(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def test_verify_finds_the_same_tokens(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    place = str(tmp_path / "run")
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT, "--sweep"]
    assert command(*line, "--out", place).code == 0
    found = command("verify", place, "--sample", "3", "--json").data
    # all prompts of a group
    assert (found["prompts"], found["samples"]) == (4, 4 * 20)
    assert found["same_tokens"] == found["same_label"] == found["samples"]
    path = tmp_path / "run" / "samples.jsonl"
    rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    rows[0]["token_ids"][2] = 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    shown = command("verify", place, "--sample", "1")
    assert missing(shown.out, "tokens: 79 of 80", "at token 3") == []


def test_a_damaged_direction_is_told_and_written_anew(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    place = tmp_path / "run"
    line = ["eval", TINY, *brief, "--prompts", questions, "--limit", "1", *SHORT]
    line += ["--caa", "-1", "--out", str(place)]
    assert command(*line).code == 0
    path = place / "direction.npz"
    whole = path.read_bytes()
    flipped = whole[:8] + bytes([whole[8] ^ 0xFF]) + whole[9:]
    for content in (b"", whole[:100], whole[:-9], b"text" * 50, whole + b"\0" * 70_000):
        path.write_bytes(content)
        found = command("verify", str(place), "--sample", "1")
        assert found.code == 2
        assert "direction.npz" in found.failure
    for content in (flipped, whole + whole):  # may be taken for whole
        path.write_bytes(content)
        assert "unexpected" not in command("verify", str(place)).err
    assert command(*line).code == 0
    assert path.read_bytes() == whole
    assert command("verify", str(place), "--sample", "1").code == 0


def test_verify_refuses_other_weights(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    place = str(tmp_path / "run")
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT, "--out", place]
    assert command(*line).code == 0
    found = command("verify", place, "--model", "demo")
    assert found.code == 2
    assert missing(found.failure, "demo", "weights", TINY) == []
    nowhere = str(tmp_path / "nowhere")
    found = command("verify", nowhere)
    assert found.code == 2
    assert nowhere in found.failure


def test_ctrl_c_keeps_what_was_finished(
    command: Command,
    brief: list[str],
    questions: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "run"
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT]
    line += ["--out", str(place), "--batch", "1"]

    def pressed(evaluation: Evaluation, numbers: Any, stop: Any = never) -> Any:
        if 2 in numbers:
            raise KeyboardInterrupt
        return answer_group(evaluation, numbers, stop)

    monkeypatch.setattr("cna_mlx.evaluation.runner.answer_group", pressed)
    found = command(*line, "--json")
    assert found.code == 130
    assert json.loads(found.out)["prompts"] == {"done": 2, "planned": 4}
    assert missing(found.err, "2 of 4 prompts", "repeat the command") == []
    assert RunRecord.load(place).status == "interrupted"
    monkeypatch.undo()


def test_a_failure_on_the_way_is_recorded(
    command: Command,
    brief: list[str],
    questions: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise MemoryError("std::bad_alloc: malloc")

    monkeypatch.setattr("cna_mlx.evaluation.runner.answer_group", broken)
    place = tmp_path / "run"
    line = ["eval", TINY, *brief, "--prompts", questions, *SHORT]
    found = command(*line, "--out", str(place))
    assert found.code == 1
    assert "out of memory" in found.err
    assert RunRecord.load(place).status == "failed"


def test_discovery_prompts_are_found_among_the_evaluated(
    command: Command, brief: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "mixed.txt"
    path.write_text("\n".join([POSITIVE[0].upper(), *QUESTIONS]), encoding="utf-8")
    line = ["eval", TINY, *brief, "--prompts", str(path), *SHORT]
    found = command(*line, "--out", str(tmp_path / "run"), "--json")
    group = found.data["groups"][0]
    assert (group["seen_by_discovery"], group["unseen"]["n"]) == (1, 4)
    assert missing(found.err, "1 of 5 prompts", "mixed", "discovery") == []


def test_a_circuit_of_unknown_prompts(
    command: Command, circuit_file: Path, questions: str, tmp_path: Path
) -> None:
    line = [
        "eval",
        TINY,
        "--circuit",
        str(circuit_file),
        "--prompts",
        questions,
        *SHORT,
    ]
    found = command(*line, "--out", str(tmp_path / "run"), "--json")
    assert found.code == 0
    assert found.data["groups"][0]["seen_by_discovery"] is None
    assert missing(found.err, "circuit", "prompts") == []
    swept = command(*line, "--caa", "-1", "--out", str(tmp_path / "other"))
    assert swept.code == 2
    assert "CAA" in swept.failure


def test_several_circuits_and_multipliers(
    command: Command, circuit_file: Path, questions: str, tmp_path: Path
) -> None:
    second = tmp_path / "second.json"
    second.write_text(circuit_file.read_text())
    found = command(
        *["eval", TINY, "--circuit", f"{circuit_file}@0.5", "--circuit", str(second)],
        *["-m", "0", "-m", "2", "--prompts", questions, *SHORT, "--controls", "0"],
        *["--no-kl", "--out", str(tmp_path / "run"), "--json"],
    )
    arms = found.data["groups"][0]["arms"]
    assert [arm["label"] for arm in arms] == [
        "baseline",
        "m=0.5",
        "ablated",
        "m=2",
        "second ablated",
        "second m=2",
    ]
    assert {arm["kl"] for arm in arms} == {None}


def test_files_of_one_name_are_told_apart(
    command: Command, brief: list[str], circuit_file: Path, tmp_path: Path
) -> None:
    """Sets and circuits are called by their files, which may be namesakes."""
    for name, words in (("a", QUESTIONS[:2]), ("b", QUESTIONS[2:])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.txt").write_text("\n".join(words), encoding="utf-8")
    kinds = (("harmful", "a"), ("benign", "b"))
    sets = [f"{kind}={tmp_path / name / 'test.txt'}" for kind, name in kinds]
    line = ["eval", TINY, *brief, *SHORT, "--no-kl"]
    both = [*line, "--prompts", sets[0], "--prompts", sets[1]]
    found = command(*both, "--out", str(tmp_path / "run"), "--json")
    assert [group["set"] for group in found.data["groups"]] == ["test", "test-2"]
    again = [*line, "--prompts", sets[0], "--prompts", sets[0]]
    refused = command(*again, "--out", str(tmp_path / "twice"))
    assert refused.code == 2
    assert "twice" in refused.failure

    circuit = json.loads(circuit_file.read_text())
    (tmp_path / "a" / "c.json").write_text(json.dumps(circuit))
    circuit["neurons"] = circuit["neurons"][:-1]
    (tmp_path / "b" / "c.json").write_text(json.dumps(circuit))
    files = [circuit_file, tmp_path / "a" / "c.json", tmp_path / "b" / "c.json"]
    given = [part for file in files for part in ("--circuit", str(file))]
    line = ["eval", TINY, *given, "--prompts", sets[0], *SHORT, "--no-kl"]
    found = command(
        *line, "--controls", "0", "--out", str(tmp_path / "three"), "--json"
    )
    labels = [arm["label"] for arm in found.data["groups"][0]["arms"]]
    assert labels == ["baseline", "ablated", "c (2) ablated", "c (3) ablated"]
    same = ["--circuit", str(circuit_file), *given[2:4], *given[2:4]]
    line = ["eval", TINY, *same, "--prompts", sets[0], *SHORT, "--no-kl"]
    refused = command(*line, "--out", str(tmp_path / "two"))
    assert refused.code == 2
    assert "'c ablated'" in refused.failure
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_a_circuits_own_prompts_are_known_beside_a_given_contrast(
    command: Command, tmp_path: Path
) -> None:
    """Controls may be made from another contrast: what the circuit saw stays known."""
    own = str(tmp_path / "own.json")
    made = command("discover", TINY, "--contrast", "flattery", "-o", own)
    assert made.code == 0, made.err
    path = tmp_path / "asked.txt"
    contrast = load_contrast("flattery")
    path.write_text("\n".join([contrast.positive[0], *QUESTIONS]), encoding="utf-8")
    line = ["eval", TINY, "--circuit", own, "--contrast", "code"]
    found = command(
        *[*line, "--prompts", str(path), *SHORT, "--controls", "1", "--no-kl"],
        *["--out", str(tmp_path / "run"), "--json"],
    )
    assert found.code == 0, found.err
    assert found.data["groups"][0]["seen_by_discovery"] == 1


def test_audit_says_its_verdict_first(
    command: Command, brief: list[str], questions: str, tmp_path: Path
) -> None:
    line = ["audit", TINY, *brief, "--prompts", questions, *SHORT]
    found = command(*line, "--no-sweep", "--out", str(tmp_path / "run"))
    assert found.code == 0
    first, *rest = found.out.strip().splitlines()
    assert "6 tokens" in " ".join(rest)
    data = command(*line, "--no-sweep", "--out", str(tmp_path / "run"), "--json").data
    assert data["verdict"]["outcome"] == "nothing"
    assert first in data["verdict"]["headline"]
    assert data["discovery"]["contrast"]["name"] == "red-vs-blue"


@pytest.mark.parametrize("name", ["eval", "audit"])
def test_where_it_goes_is_looked_at_before_the_model_is_loaded(
    command: Command, questions: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    line = [name, "no/such-model", "--offline", "--prompts", questions]
    for out, message in (
        (tmp_path, "other files"),
        (tmp_path / "thesis.tex" / "run", "thesis.tex is a file"),
    ):
        found = command(*line, "--out", str(out))
        assert found.code == 2
        assert message in found.failure
    found = command(*line, "--out", str(tmp_path / "run"))
    assert "no/such-model" in found.failure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts", "xjbb"], "'jbb'"),
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--circuit", "nowhere.json"], "nowhere.json"),
        (["--limit", "0"], "--limit"),
        (["-m", "nan"], "finite"),
        (["--caa", "inf"], "finite"),
    ],
)
def test_a_bad_request_is_one_line(
    command: Command,
    brief: list[str],
    questions: str,
    options: list[str],
    message: str,
) -> None:
    prompts = [] if "--prompts" in options else ["--prompts", questions]
    found = command("eval", TINY, *brief, *prompts, *SHORT, *options)
    assert found.code == 2
    assert message in found.failure


@pytest.mark.parametrize(
    ("own", "given", "has_zero", "first"),
    [
        (None, (), True, 0.0),
        (-0.5, (), False, -0.5),
        (-0.5, (0.25,), True, 0.25),
        (MEAN, (), True, MEAN),
    ],
)
def test_a_sweep_leaves_the_verdict_to_the_files_strength(
    own: Any, given: tuple[float, ...], has_zero: bool, first: Any
) -> None:
    circuit = replace(Circuit.from_neurons([(0, 0, 1.0)]), intervention=own)
    options = EvalOptions(multipliers=given, sweep=True)
    found, _ = _strengths(ChosenCircuit(circuit), options)
    assert found[0] == first
    assert (0.0 in found) is has_zero
