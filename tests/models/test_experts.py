"""Mixtures of experts: what a neuron adds, and the laws of its steering."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.switch_layers import SwitchLinear
from tiny_models import HIDDEN, MIXTURES, make_model

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.weight_norms import dequantized
from cna_mlx.errors import CircuitError
from cna_mlx.models.experts import ExpertsBlock, of_expert
from cna_mlx.models.families import (
    block_of,
    downs,
    experts_of,
    family_of,
    installed,
    widths,
)
from cna_mlx.models.family import text_of
from cna_mlx.steering.interventions import steered
from cna_mlx.strength import Pin

# so few that mlx-lm does not sort them by expert, and so many that it does
LENGTHS = (3, 40)


@pytest.fixture(params=sorted(MIXTURES))
def model(request: pytest.FixtureRequest) -> Any:
    return make_model(request.param)


def last_of(model: Any) -> int:
    """The last layer with experts."""
    return max(layer for layer, own in enumerate(experts_of(model)) if own)


def block(model: Any) -> ExpertsBlock:
    family = family_of(model)
    found = block_of(family, family.layers(model)[last_of(model)])
    assert isinstance(found, ExpertsBlock)
    return found


def inputs(length: int, rows: int = 2) -> mx.array:
    random = np.random.default_rng(0)
    return mx.array(random.standard_normal((rows, length, HIDDEN)).astype(np.float32))


def close(found: mx.array, expected: mx.array) -> None:
    limit = 1e-5 * float(mx.abs(expected).max().item())
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=0, atol=limit)


def chosen(model: Any, values: mx.array) -> np.ndarray:
    """Which experts have values, [..., experts]."""
    count, width, _ = experts_of(model)[last_of(model)] or (0, 0, 0)
    parts = np.array(values)[..., : count * width]
    return (parts.reshape(*parts.shape[:-1], count, width) != 0).any(axis=-1)


@pytest.mark.parametrize("length", LENGTHS)
def test_what_neurons_add_sums_up_to_the_output(model: Any, length: int) -> None:
    own, x, last = block(model), inputs(length), last_of(model)
    values, expected = own.activations(x), own(x)
    assert values.shape == (2, length, widths(model)[last_of(model)])
    columns = mx.concatenate([down.weight for down in downs(model, last)], axis=1)
    biases = [down.get("bias") for down in downs(model, last)]
    if biases[0] is not None:
        expected = expected - own._shares(x)[..., :-1] @ mx.stack(biases)
    close(values @ columns.T, expected)
    most = text_of(model).args.num_experts_per_tok
    assert (experts_of(model)[last_of(model)] or ())[2] == most
    assert (chosen(model, values).sum(axis=-1) == most).all()


def test_a_token_has_the_same_values_alone_and_among_many(model: Any) -> None:
    own, x = block(model), inputs(40)
    together = own.activations(x)
    alone = mx.stack([own.activations(x[:, at : at + 1])[:, 0] for at in range(40)], 1)
    close(together, alone)


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_have_their_own_multipliers(model: Any, length: int) -> None:
    x, last, every = inputs(length, 3), last_of(model), range(0, 60, 2)
    own = block(model)
    size = widths(model)[last_of(model)]
    circuit = Circuit.from_neurons([(last, size - 1 - n) for n in every] + [(last, 3)])
    with steered(model, circuit, [0.0, 1.0, -2.0]):
        found = block(model)(x)
    for row, multiplier in enumerate([0.0, 1.0, -2.0]):
        with steered(model, circuit, multiplier):
            close(found[row], block(model)(x)[row])
    assert not mx.allclose(found[0], own(x)[0])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_multiplier_is_exactly_that_of_the_up_projections_row(length: int) -> None:
    """Where the block is gated, without biases and clipping."""
    model, x = make_model("qwen3_moe"), inputs(length)
    own = block(model)
    expert, index = 5, 7
    with steered(model, Circuit.from_neurons([(2, expert * 32 + index)]), 0.5):
        found = block(model)(x)
    before = own(x)
    own.switch_mlp.up_proj.weight[expert, index] *= 0.5
    assert mx.array_equal(found, own(x))
    assert not mx.array_equal(found, before)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("by_row", [False, True])
def test_a_pin_holds_where_the_expert_is_chosen(
    model: Any, length: int, by_row: bool
) -> None:
    x, last = inputs(length), last_of(model)
    count, width, _ = experts_of(model)[last_of(model)] or (0, 0, 0)
    pinned = [5, width + 1, *range(count * width, widths(model)[last_of(model)], 9)]
    circuit = Circuit.from_neurons([(last, n) for n in pinned])
    pin = Pin(0.25)
    plain = block(model).activations(x)
    with steered(model, circuit, [pin, 1.0] if by_row else pin):
        steered_block = block(model)
        values, output = steered_block.activations(x), steered_block(x)
    expected = np.array(plain)
    rows = slice(1) if by_row else slice(None)
    for neuron in pinned:
        is_on = chosen(model, plain)[rows, :, min(neuron // width, count - 1)]
        is_on = is_on | (neuron >= count * width)
        expected[rows, :, neuron] = np.where(is_on, 0.25, 0)
    close(values, mx.array(expected))
    columns = mx.concatenate([down.weight for down in downs(model, last)], axis=1)
    moved = (mx.array(expected) - plain) @ columns.T
    close(output, block(model)(x) + moved)


@pytest.mark.parametrize("mode", ["mxfp4", "affine"])
def test_quantized_experts_are_read_and_steered(mode: str) -> None:
    model, x = make_model("gpt_oss"), inputs(40)
    nn.quantize(model, 32, 4, mode=mode)
    own, last = block(model), last_of(model)
    columns = [
        mx.dequantize(
            one.weight, one.scales, one.get("biases"), 32, 4, mode=mode
        ).astype(mx.float32)
        for one in downs(model, last)
    ]
    output = own(x) - own._shares(x)[..., :-1] @ mx.stack(
        [one.bias for one in downs(model, last)]
    )
    close(own.activations(x) @ mx.concatenate(columns, axis=1).T, output)
    values = own.activations(x)
    with steered(model, Circuit.from_neurons([(last, 4)]), 3.0):
        found = block(model)(x)
    close(found - own(x), 2 * values[..., 4:5] * columns[0][:, 4])


def test_blocks_of_mixtures_are_removed(model: Any) -> None:
    family = family_of(model)
    before = [layer[family.mlp] for layer in family.layers(model)]
    names = [name for name, _ in model.named_modules()]
    last = last_of(model)
    with installed(model, [0, last]) as blocks:
        assert family.layers(model)[last][family.mlp] is blocks[last]
        inside = [name for name, _ in model.named_modules()]
    assert [layer[family.mlp] for layer in family.layers(model)] == before
    assert sorted(names) == sorted(inside)


def test_a_mixture_is_read_in_pieces_and_batches() -> None:
    model = make_model("qwen3_moe")
    random = np.random.default_rng(1)
    prompts = [random.integers(5, 500, length).tolist() for length in (700, 30, 12)]
    together = [np.array(a) for _, a in last_activations(model, prompts)]
    for row, prompt in enumerate(prompts):
        for layer, (_, alone) in enumerate(last_activations(model, [prompt])):
            limit = 1e-4 * np.abs(np.array(alone)).max()
            found = together[layer][row]
            np.testing.assert_allclose(found, np.array(alone)[0], rtol=0, atol=limit)


def test_nvfp4_experts_have_a_scale_each() -> None:
    """Which the CPU can multiply by here only: mlx-lm's product needs a GPU."""
    plain = SwitchLinear(32, 8, 3, bias=False)
    plain.weight *= mx.array([1.0, 50.0, 0.02])[:, None, None]
    packed = plain.to_quantized(16, 4, "nvfp4", global_scale=True)
    for expert, weight in enumerate(plain.weight):
        found = dequantized(of_expert(packed, expert), slice(None))
        limit = 0.2 * float(mx.abs(weight).max())
        assert float(mx.abs(found - weight).max()) < limit


def test_a_circuit_of_other_experts_steers_nothing() -> None:
    """Its neurons have other numbers, though a layer has as many of them."""
    model = make_model("qwen3_moe", mlp_only_layers=[])
    circuit = Circuit.from_neurons([(0, 3)])
    own = experts_of(model)
    entry = replace(circuit.model, d_ff=widths(model), experts=own)
    with steered(model, replace(circuit, model=entry), 0.5):
        pass
    other = replace(entry, experts=((4, 64, 2),) * len(own))
    wrong = replace(circuit, model=other)
    with pytest.raises(CircuitError, match="4 experts of 64"), steered(model, wrong):
        pass
