"""The paper's figures, its models, and what a run does otherwise."""

from dataclasses import replace

import pytest
from texts import missing

from cna_mlx.analysis.paper import BASE_AND_INSTRUCT, paper_row, paper_rows
from cna_mlx.analysis.protocol import RunProtocol, protocol_differences
from cna_mlx.discovery.selection import expected_overlap, jaccard
from cna_mlx.models import catalogue
from cna_mlx.provenance import ContrastEntry
from cna_mlx.strength import Pin

INSTRUCT = [row for row in paper_rows() if row.is_instruct]
BASE = [row for row in paper_rows() if not row.is_instruct]
LIKE_THE_PAPER = RunProtocol(
    neurons=131,
    total=131_072,
    prompts="jbb",
    n=100,
    is_jbb=True,
    max_tokens=150,
    quantization="bfloat16",
    architecture="qwen2",
    contrast=ContrastEntry("refusal", positive=100, negative=100),
    seen=0,
)


def by_name(row) -> str:
    return row.model


# ------------------------------------------------------------------------- figures


@pytest.mark.parametrize("row", INSTRUCT, ids=by_name)
def test_the_relative_change_follows_from_the_papers_own_columns(row) -> None:
    computed = (row.ablated - row.baseline) / row.baseline
    assert row.relative is not None
    assert 100 * row.relative == pytest.approx(100 * computed, abs=0.05)  # as printed


def test_the_table_is_whole() -> None:
    names = [entry.name for entry in catalogue.entries()]
    assert [row.model for row in INSTRUCT] == [f"{name}-Instruct" for name in names]
    assert [row.model for row in BASE] == names
    for row in paper_rows():
        assert all(0 <= share <= 1 for share in (row.baseline, row.ablated))
        assert row.relative is None or row.is_instruct
    by_model = {row.model: row for row in paper_rows()}
    assert by_model["Llama-3.2-1B"].baseline == pytest.approx(0.02)
    assert by_model["Llama-3.2-1B"].ablated == 0
    assert by_model["Qwen2.5-3B"].baseline == pytest.approx(0.141)
    assert by_model["Qwen2.5-3B"].ablated == pytest.approx(0.111)


def test_what_the_paper_states_follows_from_its_tables() -> None:
    halved = [row.model for row in INSTRUCT if (row.relative or 0) < -0.5]
    assert len(halved) == 6
    quality = [row.quality for row in INSTRUCT]
    assert (min(quality), max(quality)) == (0.969, 0.984)


def test_the_rates_of_the_base_models_are_of_99_prompts() -> None:
    """Which is how many prompts the authors' sweep has, by its own name."""
    for row in BASE:
        for share in (row.baseline, row.ablated):
            assert 99 * share == pytest.approx(round(99 * share), abs=0.06)


def test_base_and_instruct_share_few_neurons_and_more_than_chance() -> None:
    for pair, percent in zip(BASE_AND_INSTRUCT, (8.5, 14.0), strict=True):
        assert 100 * pair.shared / pair.size == pytest.approx(percent)  # as printed
        shape = next(e for e in catalogue.entries() if e.name == pair.model)
        assert jaccard(pair.shared, pair.size, pair.size) > 20 * expected_overlap(
            pair.size, shape.neurons
        )


# -------------------------------------------------------------------------- models


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda one: one.name)
def test_a_hub_id_is_certain(entry) -> None:
    for kind, hub_id in entry.ids.items():
        if hub_id is None:
            continue
        found = paper_row(hub_id)
        assert found is not None
        assert found.is_certain
        suffix = "-Instruct" if "instruct" in kind else ""
        assert found.row.model == entry.name + suffix
        assert "hub id" in found.how


@pytest.mark.parametrize(
    "name",
    [
        "mlx-community/Llama-3.2-3B-Instruct-8bit",
        "mlx-community/Llama-3.2-3B-Instruct-bf16",
        "mlx-community/Llama-3.2-3B-Instruct-4bit-DWQ",
        "mlx-community/Llama-3.2-3B-Instruct",
        "META-LLAMA/llama-3.2-3b-instruct",
    ],
)
def test_conversions_and_capitals(name: str) -> None:
    found = paper_row(name)
    assert found is not None
    assert (found.row.model, found.is_certain) == ("Llama-3.2-3B-Instruct", True)


@pytest.mark.parametrize(
    "name",
    [
        "mlx-community/Llama-3.2-3B-Instruct-uncensored-4bit",
        "somebody/Llama-3.2-3B-Instruct",
        "meta-llama/Llama-3.2-3B-Instruct-4bit",
        "Qwen/Qwen2.5-14B-Instruct",
        "Llama-3.2-3B-Instruct",
        "demo",
        "",
    ],
)
def test_no_other_name_is_one_of_the_papers(name: str) -> None:
    assert paper_row(name) is None


def config_of(name: str, **changes):
    shape = next(one.shape for one in catalogue.entries() if one.name == name)
    config = {
        "model_type": "llama" if name.startswith("Llama") else "qwen2",
        "num_hidden_layers": shape["layers"],
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["d_ff"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
    }
    return {**config, **changes}


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda one: one.name)
def test_a_shape_is_a_hint_and_no_more(entry) -> None:
    found = paper_row("my/own-tune", config_of(entry.name))
    assert found is not None
    assert found.row.model == f"{entry.name}-Instruct"
    assert not found.is_certain
    assert "hub id" not in found.how
    base = paper_row("weights/tuned-base", config_of(entry.name), is_local=True)
    assert base is not None
    assert (base.row.model, base.is_certain) == (entry.name, False)


def test_a_directory_of_that_name_proves_nothing() -> None:
    name = "meta-llama/Llama-3.2-1B-Instruct"
    assert paper_row(name, is_local=True) is None
    found = paper_row(name, config_of("Llama-3.2-1B"), is_local=True)
    assert found is not None
    assert not found.is_certain


def test_another_shape_or_architecture_is_none_of_them() -> None:
    assert paper_row("x/y", config_of("Llama-3.2-1B", model_type="mistral")) is None
    assert paper_row("x/y", config_of("Llama-3.2-1B", hidden_size=1)) is None
    assert paper_row("x/y", {}) is None


# ------------------------------------------------------------------------ protocol


def test_what_always_differs_is_always_said() -> None:
    text = " ".join(protocol_differences(LIKE_THE_PAPER))
    circuits = ("1,600 (1.22%", "131 (0.10%)", "layers 0 and 1")
    assert missing(text, *circuits, "13 regular expressions", "500 characters") == []
    for absent in ("BOS", "quantized", "The paper evaluates", "universal", "saw"):
        assert absent not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization": "4-bit g64"}, "4-bit g64"),
        ({"is_jbb": False, "prompts": "mine"}, "100 of mine"),
        ({"n": 20}, "20 of jbb"),
        ({"seen": 3}, "saw 3"),
        ({"seen": None}, "known"),
        ({"contrast": None}, "known"),
        (
            {"contrast": ContrastEntry("magic", positive=60, negative=50)},
            "magic (60 and 50)",
        ),
        ({"max_tokens": 60}, "up to 60"),
        ({"multiplier": 0.5}, "m = 0.5"),
        ({"pin": Pin(kind="mean")}, "pinned (mean)"),
        ({"is_greedy": False}, "sampled"),
        ({"rank": "weighted"}, "weighted"),
        ({"layers": (8, 23)}, "layers 8 to 23"),
        ({"universal_dropped": 12}, "12 neurons"),
        ({"architecture": "llama"}, "BOS"),
        ({"neurons": 1600}, "1,600 (1.22%)."),
    ],
)
def test_each_difference_is_said(changes, said: str) -> None:
    before = protocol_differences(LIKE_THE_PAPER)
    after = protocol_differences(replace(LIKE_THE_PAPER, **changes))
    assert said in " ".join(after)
    assert said not in " ".join(before)
    assert all(one.endswith(".") and "\n" not in one for one in after)
