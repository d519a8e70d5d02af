"""What a run's batches need: the forecast, and the warning where memory is short."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from tiny_models import Ends

from cna_mlx.circuit import Circuit
from cna_mlx.evaluation import memory
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.memory import batch_bytes, short_of_memory
from cna_mlx.models.memory.forecast import Shape, evaluation_bytes
from cna_mlx.models.memory.machine import Machine
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.steering.arms import BASELINE, Arm

HALF = load_contrast("magic").half(1)
DEMO_CIRCUIT = Path(__file__).parents[1] / "data/version_0_1_0/circuit.json"


@pytest.fixture(name="of_rows", scope="module")
def fixture_of_rows(demo: Any) -> Callable[..., Evaluation]:
    circuit = Circuit.load(DEMO_CIRCUIT)

    def make(rows: int, arms: int, tokens: int, **options: Any) -> Evaluation:
        sets = [Benchmark.from_prompts(HALF.positive[:8], "harmful", "magic")]
        steered = [Arm.of(circuit, n / arms, f"arm {n}") for n in range(arms - 1)]
        all_arms = [BASELINE, *steered]
        work = *demo, sets, all_arms, Rendering(), tokens
        return Evaluation(*work, rows=rows, **options)

    return make


@pytest.mark.parametrize(
    ("rows", "arms", "options"),
    [
        (32, 4, {}),
        (32, 4, {"extend_to": 120}),
        (32, 4, {"kl_tokens": 0}),
        (12, 12, {}),
        (4, 2, {}),
    ],
)
def test_a_group_stays_within_its_forecast(
    of_rows: Callable[..., Evaluation], rows: int, arms: int, options: dict[str, Any]
) -> None:
    # equal rows share what they hold: up to four times less
    assert 0.2 < of_forecast(of_rows(rows, arms, 40, **options)) <= 1.05


@pytest.mark.parametrize("rows", [4, 12])
def test_so_do_answers_that_all_continue(
    of_rows: Callable[..., Evaluation], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several batches, where all are cut off."""
    monkeypatch.setattr(
        "cna_mlx.evaluation.follow_up.continues", lambda sample: sample.is_truncated
    )
    evaluation = of_rows(rows, 4, 40, extend_to=250)
    endless = replace(evaluation, tokenizer=Ends(evaluation.tokenizer))
    assert 0.5 < of_forecast(endless) <= 1.05


def of_forecast(evaluation: Evaluation) -> float:
    """The measured peak of a group, as a part of the forecast."""
    answer_group(replace(evaluation, max_tokens=2), [0])  # what is made once
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    answer_group(evaluation, evaluation.next_group(0))
    measured = mx.get_peak_memory() - before
    return measured / batch_bytes(evaluation)


def test_the_forecast_in_figures() -> None:
    """Two layers of one head of 8 and of 16 neurons, in float32: 128 bytes a token."""
    shape = Shape(2, 8, 16, 1, 1, 8, value_bytes=4)
    assert shape.kv_per_token == 128
    rows, logits, vocabulary = 3, 1000, 50
    always = 4 * 6 * rows * vocabulary + 2 * 4 * rows * 32
    one = rows * 128  # a token of each row
    work = shape, rows, 10, 40
    found = evaluation_bytes(*work, 0, vocabulary=vocabulary)
    assert found == always + 2 * one * (10 + 256)
    found = evaluation_bytes(*work, logits, vocabulary=vocabulary)
    assert found == always + 2 * one * (10 + 256) + one * 10
    found = evaluation_bytes(*work, 10**6, vocabulary=vocabulary)
    assert found == always + one * (10 + 256) + 4 * 4 * 10**6
    found = evaluation_bytes(*work, 10**6, vocabulary=vocabulary, extended=300)
    assert found == always + one * (10 + 256 + 10 + 40) + 4 * 4 * 10**6
    found = evaluation_bytes(*work, 0, vocabulary=vocabulary, extended=300)
    assert found == always + 2 * one * (10 + 40 + 512)


def test_a_run_that_is_too_wide_is_told_what_fits(
    of_rows: Callable[..., Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = of_rows(32, 4, 40)
    weights = memory.parameter_bytes(wide.model)

    def has(usable: float) -> None:
        monkeypatch.setattr(memory, "machine", lambda: Machine(10**12, int(usable)))

    has((weights + batch_bytes(wide)) / 0.89)
    assert short_of_memory(wide) is None
    narrow = replace(wide, rows=12)
    has((weights + batch_bytes(narrow)) / 0.89)
    said = short_of_memory(wide)
    assert said
    assert "32 rows need up to" in said
    assert f"--batch 12 takes {memory.gigabytes(weights + batch_bytes(narrow))}" in said
    has(weights)
    said = short_of_memory(wide)
    assert said
    assert said.endswith("fewer arms (--controls) or fewer --max-tokens take less")
