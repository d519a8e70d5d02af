"""What an independent implementation says of the same weights (see data/parity)."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from paths import PARITY

from cna_mlx import (
    Answer,
    Arm,
    Circuit,
    Rendering,
    discover,
    generate_arms,
    load,
    render_prompt,
    steered,
)
from cna_mlx.discovery.activations import last_activations

THINKING = Rendering(thinking=True)  # as the ids of Qwen3 were made
MULTIPLIERS = ("0", "0.5", "1", "2")


def _models() -> list[Path]:
    roots = [PARITY]
    if more := os.environ.get("CNA_MLX_PARITY"):
        roots.append(Path(more))
    return [
        path.parent for root in roots for path in sorted(root.glob("*/expected.json"))
    ]


@pytest.fixture(scope="module", params=_models(), ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> Any:
    path = request.param
    model, tokenizer = load(str(path))
    expected = json.loads((path / "expected.json").read_text())
    return SimpleNamespace(
        model=model,
        tokenizer=tokenizer,
        positive=expected["positive"],
        negative=expected["negative"],
        expected=expected,
        steering=expected["steering"],
        deltas=np.load(path / "deltas.npy"),
        circuit=Circuit.from_neurons(expected["topk"]["13"]),
    )


def test_there_are_models_of_all_families() -> None:
    names = {path.name.partition("_")[0] for path in _models()}
    assert names >= {"llama", "qwen2", "qwen3"}


def test_token_ids(case: Any) -> None:
    for prompt in (*case.positive, *case.negative):
        found = render_prompt(case.tokenizer, prompt["prompt"], THINKING)
        assert found == prompt["ids"]


def test_deltas(case: Any) -> None:
    ids = [prompt["ids"] for prompt in (*case.positive, *case.negative)]
    count = len(case.positive)
    found = np.stack(
        [
            np.array(a[:count].mean(axis=0) - a[count:].mean(axis=0))
            for _, a in last_activations(case.model, ids)
        ]
    )
    np.testing.assert_allclose(found, case.deltas, rtol=0, atol=1e-4)


def _discovered(case: Any, k: int, **options: Any) -> Circuit:
    sides = (
        [prompt["prompt"] for prompt in side] for side in (case.positive, case.negative)
    )
    return discover(
        case.model,
        case.tokenizer,
        *sides,
        fraction=k / case.deltas.size,
        universal=False,
        rendering=THINKING,
        **options,
    )


@pytest.mark.parametrize("k", [1, 4, 13])
def test_top_neurons_in_order(case: Any, k: int) -> None:
    expected = case.expected["topk"][str(k)]
    found = _discovered(case, k).neurons
    assert [list(n[:2]) for n in found] == [n[:2] for n in expected]
    np.testing.assert_allclose(
        [n.delta for n in found], [n[2] for n in expected], rtol=0, atol=1e-4
    )


def test_top_neurons_without_the_first_two_layers(case: Any) -> None:
    expected = case.expected["topk_skip01"]
    found = _discovered(case, 13, layers=(2, 3)).neurons
    assert [list(n[:2]) for n in found] == [n[:2] for n in expected]


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_logits(case: Any, multiplier: str) -> None:
    expected = case.steering["m"][multiplier]
    with steered(case.model, case.circuit, float(multiplier)):
        logits = case.model(mx.array([case.steering["prompt_ids"]]))[0, -1]
    np.testing.assert_allclose(logits[:32], expected["logits32"], rtol=0, atol=1e-3)
    assert int(mx.argmax(logits)) == expected["argmax"]


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_greedy_with_mlx_lm(case: Any, multiplier: str) -> None:
    prompt = mx.array(case.steering["prompt_ids"])
    with steered(case.model, case.circuit, float(multiplier)):
        found = [int(t) for t, _ in generate_step(prompt, case.model, max_tokens=12)]
    assert found == case.steering["m"][multiplier]["greedy"]


def test_greedy_with_all_arms_in_one_batch(case: Any) -> None:
    arms = [Arm.of(case.circuit, float(m)) for m in MULTIPLIERS]
    events = generate_arms(
        case.model, case.tokenizer, [case.steering["prompt_ids"]], arms, max_tokens=12
    )
    answers = {event.arm: event for event in events if isinstance(event, Answer)}
    ends = case.tokenizer.eos_token_ids
    for number, multiplier in enumerate(MULTIPLIERS):
        expected = case.steering["m"][multiplier]["greedy"]
        stop = next((i for i, id in enumerate(expected) if id in ends), len(expected))
        assert list(answers[number].token_ids) == expected[:stop]
        assert answers[number].finish == ("stop" if stop < 12 else "length")
