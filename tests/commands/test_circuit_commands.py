"""`circuit`: what it prints of files, and the files that it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import SISTER, TINY, Outcome

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.attribution import written_tokens
from cna_mlx.discovery.selection import expected_overlap
from cna_mlx.util.sanitize import quoted

Run = Callable[..., Outcome]


@pytest.fixture
def parts(circuit_file: Path, command: Run) -> tuple[str, str]:
    """The circuit of 32 neurons, and its first ten."""
    first = str(circuit_file.with_name("first.json"))
    assert command("circuit", "top", str(circuit_file), "10", "-o", first).code == 0
    return str(circuit_file), first


def test_show_has_the_layers_masses_and_effects(
    command: Run, circuit_file: Path
) -> None:
    data = command("circuit", "show", str(circuit_file), "--json").data
    rows = json.loads(circuit_file.read_text())["neurons"]
    sizes = [abs(row[2]) for row in rows]
    for layer, mass in data["mass_by_layer"].items():
        own = [
            size for size, row in zip(sizes, rows, strict=True) if row[0] == int(layer)
        ]
        assert mass == pytest.approx(sum(own) / sum(sizes))
        assert data["by_layer"][layer] == len(own)
    effects = [
        (row[3] - row[5]) / np.sqrt((row[4] ** 2 + row[6] ** 2) / 2) for row in rows
    ]
    assert data["effect_sizes"] == pytest.approx(effects)
    shown = command("circuit", "show", str(circuit_file), "--top", "1").out
    assert f"{effects[0]:.2f}" in shown
    origin = json.loads(circuit_file.read_text())
    chance = f"{origin['split_half_chance']:.4f} expected by chance"
    assert f"overlap {origin['split_half']:.2f} ({chance})" in shown
    assert "written" not in data


def test_show_says_what_neurons_write_in_a_named_model(
    command: Run, circuit_file: Path, tiny: tuple[Any, Any]
) -> None:
    line = ("circuit", "show", str(circuit_file), "--top", "3", "--model", TINY)
    written = command(*line, "--json").data["written"]
    assert len(written) == 3
    for one, neuron in zip(written, Circuit.load(circuit_file).neurons, strict=False):
        expected = written_tokens(*tiny, neuron)
        assert (one["layer"], one["index"]) == neuron[:2]
        assert one["promotes"] == list(expected.promotes)
        assert one["suppresses"] == list(expected.suppresses)
    shown = command(*line).out
    assert " ".join(map(quoted, written[0]["suppresses"])) in shown


def test_show_refuses_another_models_weights(command: Run, circuit_file: Path) -> None:
    line = ("circuit", "show", str(circuit_file), "--model", SISTER)
    done = command(*line)
    assert done.code == 2
    assert "--allow-transfer" in done.failure
    assert command(*line, "--allow-transfer").code == 0


def test_overlap_compares_each_pair_with_chance(
    command: Run, parts: tuple[str, str]
) -> None:
    whole, first = parts
    data = command("circuit", "overlap", whole, first, whole, "--json").data
    assert [(one["a"], one["b"]) for one in data["pairs"]] == [
        (whole, first),
        (whole, whole),
        (first, whole),
    ]
    pair = data["pairs"][0]
    assert (pair["shared"], pair["sizes"]) == (10, [32, 10])
    assert pair["jaccard"] == pytest.approx(10 / 32)
    assert pair["chance"] == pytest.approx(expected_overlap(32, 640, 10))
    shown = command("circuit", "overlap", whole, first)
    assert (shown.code, shown.err) == (0, "")
    for text in ("32/10", "0.31", f"{pair['chance_by_layer']:.4f}"):
        assert text in shown.out


def test_overlap_of_hand_made_circuits_has_no_chance(
    command: Run, tmp_path: Path
) -> None:
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for file in files:
        Circuit.from_neurons([(0, 1)]).save(file)
    assert "differ in shape" in command("circuit", "overlap", *files).out


def test_sets_are_written_and_load(command: Run, parts: tuple[str, str]) -> None:
    whole, first = parts
    made = f"{first}.made"
    sizes = {"union": 32, "intersect": 10, "minus": 22}
    for operation, size in sizes.items():
        done = command("circuit", operation, whole, first, "-o", made, "--force")
        assert (done.code, done.out) == (0, f"{size} neurons written to {made}\n")
        assert len(Circuit.load(made).neurons) == size
        again = ("-o", made, "--force", "--json")
        data = command("circuit", operation, whole, first, *again).data
        assert (data["neurons"], data["file"]) == (size, made)
        assert data["made_from"]["operation"] == operation
    shown = command("circuit", "show", made).out
    assert "minus of circuit.json, first.json" in shown


@pytest.mark.parametrize("operation", ["union", "intersect", "minus"])
def test_sets_need_two_files_and_a_place(
    operation: str, command: Run, parts: tuple[str, str], tmp_path: Path
) -> None:
    whole, first = parts
    line = ("circuit", operation)
    for wrong, said in (
        ((whole, "-o", "x"), "two circuit files"),
        ((whole, first), "--output"),
        ((whole, str(tmp_path / "none"), "-o", "x"), "no such circuit file"),
        ((whole, first, "-o", str(tmp_path)), "is a directory"),
    ):
        done = command(*line, *wrong)
        assert done.code == 2
        assert said in done.failure


def test_an_empty_result_writes_nothing(
    command: Run, parts: tuple[str, str], tmp_path: Path
) -> None:
    whole, first = parts
    made = tmp_path / "made.json"
    done = command("circuit", "minus", first, whole, "-o", str(made))
    assert done.code == 2
    assert "no neuron is left" in done.failure
    assert not made.exists()
    done = command("circuit", "top", whole, "33", "-o", str(made))
    assert done.code == 2
    assert "1 to 32" in done.failure


def test_a_neuron_has_a_page(
    command: Run, circuit_file: Path, files: tuple[str, str], tmp_path: Path
) -> None:
    neuron = Circuit.load(circuit_file).neurons[1]
    text = tmp_path / "lines.txt"
    text.write_text("A line of text.\n\nAnother line.\n")
    place = (str(circuit_file), str(neuron.layer), str(neuron.index))
    sides = ("--positive", files[0], "--negative", files[1])
    line = ("circuit", "neuron", *place, "--model", TINY, *sides, "--text", str(text))
    data = command(*line, "--top", "3", "--json").data
    assert (data["layer"], data["index"], data["delta"]) == neuron
    assert data["prompts"] == 8 + 192 + 2
    assert len(data["highest"]) == len(data["lowest"]) == len(data["promotes"]) == 3
    shown = command(*line, "--top", "3").out
    for one in (*data["highest"], *data["lowest"]):
        assert f"{one['activation']:+9.3f}" in shown
        assert f"({one['source']})" in shown


def test_a_neuron_needs_its_prompts_and_a_place(
    command: Run, circuit_file: Path, files: tuple[str, str]
) -> None:
    layer, index, _ = Circuit.load(circuit_file).neurons[0]
    line = ("circuit", "neuron", str(circuit_file), str(layer))
    sides = ("--positive", files[0], "--negative", files[1])
    for wrong, said in (
        ((str(index), "--model", TINY), "not built in"),
        ((str(index), *sides), "--model"),
        (("9999", "--model", TINY, *sides), "no neuron 9999"),
        ((str(index), "--model", SISTER, *sides), "--allow-transfer"),
        ((str(index), "--model", TINY, *sides, "--text", "none.txt"), "no such file"),
    ):
        done = command(*line, *wrong)
        assert done.code == 2
        assert said in done.failure
