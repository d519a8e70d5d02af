"""`probe`, the gauge on the screen, and the picture of a diff."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from paths import PARITY
from rich.console import Console

from cna_mlx import Arm, Circuit, generate_arms, render_prompt
from cna_mlx.circuit import Moments, Neuron
from cna_mlx.cli import run
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.strip import Word
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.prompts import load_contrast
from cna_mlx.provenance import ContrastEntry, Provenance
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.events import Answer, Gauged
from cna_mlx.steering.first_tokens import FirstToken, FirstTokens, first_tokens
from cna_mlx.ui.console import Screen
from cna_mlx.ui.gauge import bar, histogram, trust
from cna_mlx.ui.words import first_tokens_view, words_view

MODEL = str(PARITY / "llama_rope3")
QUESTIONS = ("Who sells boats?", "Paint me a picture of the sea.", "Is it late?")


@pytest.fixture(scope="module", name="found")
def fixture_found(tiny: Any) -> Circuit:
    contrast = load_contrast("refusal-small")
    selection = Selection(0.03, universal=False)
    return run_discovery(*tiny, contrast, selection).circuit


@pytest.fixture(name="files")
def fixture_files(found: Circuit, tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "cache"))
    found.save(tmp_path / "circuit.json")
    (tmp_path / "prompts.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    return tmp_path


def ids_of(tokenizer: Any) -> list[list[int]]:
    return [render_prompt(tokenizer, question) for question in QUESTIONS]


@pytest.mark.parametrize("arms", [1, 3])
def test_the_gauge_comes_before_the_answer_and_is_that_of_the_walk(
    tiny: Any, found: Circuit, arms: int
) -> None:
    model, tokenizer = tiny
    several = [BASELINE, *(Arm.of(found, m) for m in (0.0, 2.0))][:arms]
    ids = ids_of(tokenizer)
    events = list(
        generate_arms(model, tokenizer, ids, several, max_tokens=3, gauge=found)
    )
    gauged = [event for event in events if isinstance(event, Gauged)]
    assert [event.prompt for event in gauged] == [0, 1, 2]
    expected = gauges(model, found, ids)
    assert [event.value for event in gauged] == pytest.approx(expected, abs=1e-4)
    for number in range(3):
        own = [event for event in events if event.prompt == number]
        assert isinstance(own[0], Gauged)
    plain = list(generate_arms(model, tokenizer, ids, several, max_tokens=3))
    answers = [event for event in events if isinstance(event, Answer)]
    assert answers == [event for event in plain if isinstance(event, Answer)]


def test_the_gauge_of_a_second_turn_reads_the_whole_conversation(
    tiny: Any, found: Circuit
) -> None:
    model, tokenizer = tiny
    first, second = ids_of(tokenizer)[:2]
    caches: dict[str, ArmCache] = {}
    arms = [BASELINE, Arm.of(found, 0.0)]
    for prompt in (first, first + second):
        (gauged,) = (
            event
            for event in generate_arms(
                model,
                tokenizer,
                [prompt],
                arms,
                max_tokens=3,
                caches=caches,
                gauge=found,
            )
            if isinstance(event, Gauged)
        )
        (expected,) = gauges(model, found, [prompt])
        assert gauged.value == pytest.approx(expected, abs=1e-4)


def test_a_gauge_needs_an_unsteered_arm_and_a_circuit_with_means(
    tiny: Any, found: Circuit
) -> None:
    model, tokenizer = tiny
    ids = ids_of(tokenizer)
    with pytest.raises(InputError, match="unsteered"):
        list(generate_arms(model, tokenizer, ids, [Arm.of(found, 0.0)], gauge=found))
    by_hand = Circuit.from_neurons([(0, 0, 1.0)])
    with pytest.raises(CircuitError, match="no means"):
        list(generate_arms(model, tokenizer, ids, [BASELINE], gauge=by_hand))


def test_probe_ranks_prompts(files: Path, tiny: Any, found: Circuit, capsys) -> None:
    command = ["probe", MODEL, "--prompts", str(files / "prompts.txt")]
    command += ["--circuit", str(files / "circuit.json")]
    assert run([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    values = gauges(tiny[0], found, ids_of(tiny[1]))
    expected = dict(zip(QUESTIONS, values, strict=True))
    assert len(results) == 3
    for one in results:
        assert one["gauge"] == pytest.approx(expected[one["prompt"]], abs=1e-5)
    ranked = [one["gauge"] for one in results]
    assert ranked == sorted(ranked, reverse=True)
    assert run([*command, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["prompt"] for row in rows] == [one["prompt"] for one in results]
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert all(question in shown for question in QUESTIONS)
    assert "held-out AUC" in shown


def test_probe_of_a_contrast_tells_how_well_it_is_held(files: Path, capsys) -> None:
    command = ["probe", MODEL, "--contrast", "refusal-small", "--no-universal"]
    assert run([*command, "--fraction", "0.03", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [entry["layer"] for entry in data["layers"]] == [0, 1, 2, 3]
    assert len(data["results"]) == 16
    for entry in (data["held_out"], *data["layers"]):
        assert 0 <= entry["low"] <= entry["auc"] <= entry["high"] <= 1
    assert run([*command, "--fraction", "0.03"]) == 0
    assert "held-out AUC" in capsys.readouterr().out


@pytest.mark.parametrize(
    "extra",
    [
        ["--csv"],
        ["-v"],
        ["-v", "--csv", "-p", "Hello"],
        ["-p", "Hello", "--prompts", "prompts.txt"],
        ["-p", " "],
        ["--circuit", "circuit.json"],
        ["--prompts", "prompts.txt", "--json", "--csv"],
        ["--prompts", "missing.txt"],
        ["--prompts", "prompts.txt", "--circuit", "by_hand.json"],
    ],
)
def test_probe_refuses_what_it_cannot_do(
    files: Path, extra: list[str], capsys, monkeypatch
) -> None:
    monkeypatch.chdir(files)
    Circuit.from_neurons([(0, 1, 1.0)]).save("by_hand.json")
    assert run(["probe", MODEL, *extra]) == 2
    errors = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("cna-mlx:")
    ]
    assert len(errors) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("value", "mark"),
    [(-3.0, "<"), (0.0, None), (0.6, None), (1.0, None), (9.0, ">")],
)
def test_the_bar_is_as_wide_as_ever(value: float, mark: str, encoding: str) -> None:
    out = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80)
    screen = Screen(out, out)
    drawn = bar(screen, value, 31).plain
    assert len(drawn) == 31
    assert drawn.isascii() == (encoding == "ascii")
    sign = mark or screen.glyph("●", "O")
    assert drawn.count(sign) == 1
    share = min(1.0, max(0.0, (value + 0.25) / 1.5))
    assert drawn.index(sign) == pytest.approx(30 * share, abs=0.51)


def test_the_histogram_counts_every_value() -> None:
    out = Console(file=io.StringIO(), width=80)
    groups = [("yes", [-4.0, 0.01, 0.02, 1.2, 7.0]), ("no", [0.5, 0.5, -0.2])]
    lines = [line.plain for line in histogram(Screen(out, out), groups)]
    numbers = [re.sub(r"[-.\d]+ \.\. +[-.\d]*|^ +\.\. +[-.\d]+", "", x) for x in lines]
    counted = sum(int(n) for line in numbers for n in re.findall(r"\d+", line))
    assert counted == 8


def test_what_the_ends_are_is_said_in_the_words_of_the_contrast() -> None:
    circuit = Circuit(
        (Neuron(0, 0, 1.0),),
        (Moments(1.0, 0.0, 0.0, 0.0),),
        provenance=Provenance(ContrastEntry(None, "odd", "even")),
    )
    assert trust(circuit) == "0 as even, 1 as odd"


def test_a_diff_is_drawn_as_a_picture(files: Path, capsys) -> None:
    picture = files / "diff.svg"
    command = ["diff", MODEL, "--circuit", str(files / "circuit.json"), "-p", "Hello"]
    assert run([*command, "--max-tokens", "4", "--svg", str(picture)]) == 0
    drawn = picture.read_text("utf-8")
    assert drawn.startswith("<svg")
    assert "baseline" in drawn
    assert "http" not in drawn.replace("http://www.w3.org", "").replace(
        "https://www.textualize.io", ""
    )
    assert run([*command, "--max-tokens", "4", "--svg", str(files / "no/x.svg")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_verbose_probe_has_words_and_first_tokens(
    files: Path, tiny: Any, found: Circuit, capsys
) -> None:
    command = ["probe", MODEL, "-v", "--circuit", str(files / "circuit.json")]
    command += [part for question in QUESTIONS for part in ("-p", question)]
    assert run([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert len(results) == 3
    model, tokenizer = tiny
    for one in results:
        assert [w["text"].strip() for w in one["words"]] == one["prompt"].split()
        assert one["words"][-1]["gauge"] == pytest.approx(one["gauge"], abs=1e-4)
        ids = render_prompt(tokenizer, one["prompt"])
        arms = [BASELINE, Arm.of(found, 0.0, "ablated")]
        expected = first_tokens(model, tokenizer, ids, arms)
        assert expected is not None
        assert [t["id"] for t in one["first_tokens"]] == [t.id for t in expected.tokens]
    assert run(command) == 0
    shown = capsys.readouterr().out
    best = results[0]
    rise = best["largest_rise"]
    word = best["words"][rise["word"]]["text"].strip()
    assert f'"{word}" raises the gauge most, by {rise["by"]:.2f}' in shown
    assert shown.count("most likely first words") == 3


def test_words_and_bars_fit_a_narrow_terminal_in_ascii() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = Console(file=file, width=60, force_terminal=True, color_system=None)
    screen = Screen(out, out)
    words = [Word(f" w\x1bord{n}", n / 30 - 0.1) for n in range(30)]
    words += [Word(" " + "x" * 100, 0.5), Word(" \u6211", 0.6)]
    tokens = (
        FirstToken("\nI", 1, (0.9, 0.005)),
        FirstToken(" \u6211" * 9, 2, (0.05, 0.7)),
        FirstToken("rare", 3, (0.001, 0.002)),
    )
    screen.show(words_view(screen, words))
    screen.show(first_tokens_view(screen, FirstTokens(("baseline", "ablated"), tokens)))
    file.flush()
    drawn = file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    assert "\x1b" not in plain
    lines = plain.splitlines()
    assert max(map(len, lines)) <= 60
    assert {f"w\\x1bord{n}" for n in range(30)} <= set(plain.split())
    above = next(n for n, line in enumerate(lines) if "ord7 " in line)
    assert lines[above + 1][lines[above].index("w\\x1bord7") :].startswith("0.13")
    assert re.search(r'"\\nI" +baseline #{22} 90%', plain)
    assert re.search(r"ablated +#{17} 70%", plain)
    assert "rare" not in plain
