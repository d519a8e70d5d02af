"""What a run keeps of its circuit's neurons, against a walk through the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import NEGATIVE, POSITIVE

from cna_mlx import Circuit, EvalOptions, Rendering, Reporter, evaluate, render_prompt
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.attribution import written_tokens
from cna_mlx.evaluation import neurons, runner
from cna_mlx.evaluation.neurons import circuit_neurons
from cna_mlx.evaluation.order import in_sequence
from cna_mlx.evaluation.runs import NEURONS
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark

CIRCUIT = Circuit.from_neurons([(2, 5, 1.0), (0, 3, -0.5), (1, 40, 0.25)])
CONTRAST = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
PROMPTS = Benchmark.from_prompts([*POSITIVE, *NEGATIVE], "harmful", "mine")
SHORT = EvalOptions(seeds=1, max_tokens=3, extend_to=0)


def test_activations_are_those_of_the_last_token(llama: Any, tokenizer: Any) -> None:
    prompts = in_sequence([PROMPTS])
    found = circuit_neurons(llama, tokenizer, CIRCUIT, prompts, Rendering())
    ids = [render_prompt(tokenizer, one.text) for one in PROMPTS.prompts]
    walked = {layer: np.array(own) for layer, own in last_activations(llama, ids)}
    assert found.neurons == ((2, 5), (0, 3), (1, 40))
    assert found.prompts == tuple(range(8))
    for (layer, index), own in zip(found.neurons, found.activations, strict=True):
        assert np.allclose(own, walked[layer][:, index], rtol=1e-3, atol=1e-5)
    for neuron, page in zip(CIRCUIT.neurons, found.pages, strict=True):
        assert (page.layer, page.index) == neuron[:2]
        assert page.written == written_tokens(llama, tokenizer, neuron, 4)
        assert len(page.highest) == len(page.lowest) == 4
        assert page.highest[0].activation >= page.lowest[0].activation
        assert page.highest[0].source.startswith("harmful, mine")


def test_many_neurons_and_prompts_are_thinned(
    llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neurons, "_PROMPTS", 3)
    monkeypatch.setattr(neurons, "_NEURONS", 2)
    monkeypatch.setattr(neurons, "_PAGES", 1)
    prompts = in_sequence([PROMPTS])
    found = circuit_neurons(llama, tokenizer, CIRCUIT, prompts, Rendering())
    assert found.prompts == (0, 3, 6)
    assert np.shape(found.activations) == (2, 3)
    assert len(found.pages) == 1


def test_a_complete_run_keeps_them_once(
    tiny: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**rest: Any) -> Path:
        return evaluate(
            *tiny, CIRCUIT, PROMPTS, contrast=CONTRAST, options=SHORT, **rest
        ).directory

    asked = iter([False, False, True])
    stopped = Reporter(stop=lambda: next(asked, True))
    path = run(out=tmp_path / "run", reporter=stopped) / NEURONS
    assert not path.exists()
    run(out=tmp_path / "run")
    data = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (data["kind"], data["format"]) == ("cna-mlx neurons", 1)
    assert data["neurons"] == [[2, 5], [0, 3], [1, 40]]
    assert sorted(data["prompts"]) == list(range(8))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "circuit_neurons", interrupted)
    assert run(out=tmp_path / "run") / NEURONS == path
    other = run(out=tmp_path / "other")
    assert json.loads((other / "run.json").read_text())["status"] == "complete"
    assert not (other / NEURONS).exists()
