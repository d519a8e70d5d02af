"""Every family against transformers: see tests/data/oracle/README.md."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step
from oracle import ORACLE, PROMPTS, weights_of, write_model
from tiny_models import Ends

from cna_mlx import Answer, Arm, Circuit, generate_arms, load, steered
from cna_mlx.discovery.activations import last_activations
from cna_mlx.models.families import widths

CASES = sorted(path.parent.name for path in ORACLE.glob("*/expected.json"))


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Any:
    folder: Path = ORACLE / request.param
    config = json.loads((folder / "config.json").read_text("utf-8"))
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    arrays = np.load(folder / "arrays.npz")
    path = tmp_path_factory.mktemp("oracle") / request.param
    write_model(path, config, weights_of(json.loads(str(arrays["shapes"]))))
    model, tokenizer = load(str(path))
    return SimpleNamespace(
        path=path,
        model=model,
        tokenizer=Ends(tokenizer),
        circuit=Circuit.from_neurons(expected["ablated"]),
        arrays=arrays,
        expected=expected,
    )


def close(found: Any, expected: np.ndarray) -> None:
    limit = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=limit)


def check(case: Any, model: Any) -> None:
    """Compare activations and logits of a model with those of transformers."""
    layers = np.split(case.arrays["activations"], np.cumsum(widths(model)), axis=1)
    assert layers.pop().shape == (len(PROMPTS), 0)
    layers = [one for one in layers if one.shape[1]]
    for (_, found), expected in zip(
        last_activations(model, PROMPTS), layers, strict=True
    ):
        for number in range(len(PROMPTS)):
            close(found[number], expected[number])
    for prompt, expected in zip(PROMPTS, case.arrays["logits"], strict=True):
        close(model(mx.array([prompt]))[0, -1], expected)


def test_activations_and_logits(case: Any) -> None:
    check(case, case.model)


def test_the_config_as_transformers_5_writes_it(case: Any) -> None:
    (case.path / "config.json").write_text(
        json.dumps(case.expected["config"]), encoding="utf-8"
    )
    check(case, load(str(case.path))[0])


def test_an_ablated_neuron_is_a_zeroed_column(case: Any) -> None:
    for number, prompt in enumerate(PROMPTS):
        with steered(case.model, case.circuit, 0.0):
            found = case.model(mx.array([prompt]))[0, -1]
        expected, plain = case.arrays["ablated"][number], case.arrays["logits"][number]
        close(found, expected)
        assert np.abs(plain - expected).max() > 1e-3 * np.abs(plain).max()


def test_greedy_texts(case: Any) -> None:
    for prompt, expected in zip(PROMPTS, case.expected["greedy"], strict=True):
        steps = generate_step(mx.array(prompt), case.model, max_tokens=len(expected))
        assert [int(token) for token, _ in steps] == expected


def test_greedy_texts_of_arms(case: Any) -> None:
    arms = [Arm.of(case.circuit, multiplier) for multiplier in (1.0, 0.0)]
    texts = (case.expected[name] for name in ("greedy", "greedy_ablated"))
    for prompt, *expected in zip(PROMPTS, *texts, strict=True):
        events = generate_arms(
            case.model, case.tokenizer, [prompt], arms, max_tokens=len(expected[0])
        )
        found = [one for one in events if isinstance(one, Answer)]
        found.sort(key=lambda one: one.arm)
        assert [list(one.token_ids) for one in found] == expected
