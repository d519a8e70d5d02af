"""Neurons of experts are found, named and ablated as those of other models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import Outcome
from demo_mixture import CHOSEN, EXPERTS, write_demo_mixture

from cna_mlx import Answer, Arm, Circuit, generate_arms, load, render_prompt
from cna_mlx.circuit_profile import routing
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.discover import Discovery, run_discovery
from cna_mlx.discovery.options import defaults_for
from cna_mlx.discovery.selection import Selection
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.models.families import family_of
from cna_mlx.prompts import load_contrast

Model = tuple[Any, Any]
MAGIC = load_contrast(defaults_for("demo").contrast)
FRACTION = defaults_for("demo").fraction
WIDTH = 512


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_mixture(tmp_path_factory.mktemp("mixture") / "demo")


@pytest.fixture(scope="module")
def mixture(directory: Path) -> Model:
    return load(str(directory))


def circuit_of(model: Model, **options: Any) -> Discovery:
    selection = Selection(universal=False, **options)
    return run_discovery(*model, MAGIC, selection)


@pytest.fixture(scope="module")
def found(mixture: Model) -> Discovery:
    return circuit_of(mixture, fraction=FRACTION)


def test_all_experts_values_add_up_to_those_of_the_dense_model(
    demo: Model, mixture: Model
) -> None:
    """As all experts are the demo's MLP and shares sum to 1."""
    ids = [render_prompt(demo[1], text) for text in MAGIC.positive[:6]]
    dense = last_activations(demo[0], ids)
    for (_, expected), (_, values) in zip(
        dense, last_activations(mixture[0], ids), strict=True
    ):
        parts = np.array(values).reshape(len(ids), EXPERTS, WIDTH)
        assert ((parts != 0).any(axis=-1).sum(axis=-1) == CHOSEN).all()
        limit = 2e-2 * np.abs(np.array(expected)).max()  # the demo is stored in fp16
        np.testing.assert_allclose(
            parts.sum(axis=1), np.array(expected), rtol=0, atol=limit
        )


def test_a_circuit_says_how_prompts_are_routed(
    mixture: Model, found: Discovery
) -> None:
    circuit = found.circuit
    assert circuit.model.experts == ((EXPERTS, WIDTH, CHOSEN),) * 6
    assert circuit.model.active == 6 * CHOSEN * WIDTH
    ids = [render_prompt(mixture[1], text) for text in MAGIC.positive]
    rows = {layer: np.array(a) for layer, a in last_activations(mixture[0], ids)}
    for neuron, moments, own in zip(
        circuit.neurons, circuit.moments, routing(circuit), strict=True
    ):
        values = rows[neuron.layer][:, neuron.index]
        assert own is not None
        assert own.positive == pytest.approx((values != 0).mean())
        if own.delta is not None:
            above = values[values != 0].mean()
            below = moments.negative_mean / own.negative
            assert own.delta == pytest.approx(above - below, rel=1e-4)


def plant(model: Any, circuit: Circuit) -> None:
    """Route every token to all experts alike, and keep the neurons in two of them."""
    family = family_of(model)
    for index, layer in enumerate(family.layers(model)):
        block = layer[family.mlp]
        block.num_experts_per_tok = EXPERTS
        block.gate.weight = mx.zeros_like(block.gate.weight)
        rows = mx.array([n.index for n in circuit.neurons if n.layer == index] or [0])
        up = block.switch_mlp.up_proj.weight
        up[:2, rows] = 0
        up[2:, rows] = 2 * up[2:, rows]


def refusals(model: Model, arms: list[Arm], texts: list[str]) -> list[int]:
    counts = [0] * len(arms)
    for text in texts:
        ids = render_prompt(model[1], text)
        for event in generate_arms(*model, [ids], arms, max_tokens=24):
            if isinstance(event, Answer):
                said = model[1].decode(list(event.token_ids))
                counts[event.arm] += label(said).kind is LabelKind.REFUSED
    return counts


def test_neurons_planted_in_two_experts_are_found_and_ablated(
    demo: Model, directory: Path
) -> None:
    planted = circuit_of(demo, fraction=FRACTION).circuit
    model = load(str(directory))
    plant(model[0], planted)
    wanted = {(n.layer, e, n.index) for n in planted.neurons for e in (2, 3)}
    found = circuit_of(model, fraction=len(wanted) / (6 * EXPERTS * WIDTH)).circuit
    expert_of = found.model.expert_of
    names = {(n.layer, *expert_of(n.layer, n.index)) for n in found.neurons}
    assert len(names) == len(wanted)
    assert len(names & wanted) >= 0.9 * len(wanted)
    arms = [Arm("baseline"), Arm("ablated", ((found, 0.0),))]
    before, after = refusals(model, arms, list(MAGIC.positive[:8]))
    assert before >= 7
    assert after <= 1


def test_commands_name_the_experts(
    command: Callable[..., Outcome], directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "magic.json"
    made = command(
        *("discover", str(directory), "--contrast", "magic", "--no-expect"),
        *("-o", str(file)),
    )
    assert made.code == 0, made.err
    assert "12,288, 6,144 of them active per token" in made.out
    circuit = Circuit.load(file)
    layer, index, _ = circuit.neurons[0]
    expert, own = circuit.model.expert_of(layer, index)
    shown = command("circuit", "show", str(file))
    assert f"{layer}" in shown.out
    assert f"{expert}:{own}" in shown.out
    assert "magic routed" in shown.out
    html = tmp_path / "page.html"
    assert command("circuit", "show", str(file), "--out", str(html)).code == 0
    assert "delta if routed" in (text := html.read_text("utf-8"))
    assert ">42%<" in text
    first = json.loads(file.read_text("utf-8"))["neurons"][0]
    assert (first[0], first[1]) == (layer, own)
    page = command(
        *("circuit", "neuron", str(file), str(layer), f"{expert}:{own}"),
        *("--model", str(directory)),
    )
    assert f"neuron {expert}:{own} of layer {layer}" in page.out
    assert "positive routed 100%, negative routed 42%" in page.out
    assert "expert +" not in page.out
    neuron = ("neuron", str(file), str(layer), "9:1")
    wrong = command("circuit", *neuron, "--model", "demo")
    assert wrong.code == 2
    assert "EXPERT:NUMBER" in wrong.err
