"""The gauge: its scale, its cross-validation, and the area under its curve."""

from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from magnitudes import magnitudes
from marks import slow
from sklearn.metrics import roc_auc_score

from cna_mlx import Circuit, render_prompt
from cna_mlx.discovery.auc import auc
from cna_mlx.discovery.controls import matched_control
from cna_mlx.discovery.cross_validation import HeldOut
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import CircuitError
from cna_mlx.prompts import PromptSet, load_bank, load_contrast

SIDES = ("positive", "negative")


def ids_of(tokenizer, prompts):
    return [render_prompt(tokenizer, prompt) for prompt in prompts]


def test_the_gauge_is_0_over_the_negative_prompts_and_1_over_the_positive(tiny):
    model, tokenizer = tiny
    contrast = load_contrast("sentiment")
    selection = Selection(0.02, universal=False)
    circuit = run_discovery(model, tokenizer, contrast, selection).circuit
    positive = gauges(model, circuit, ids_of(tokenizer, contrast.positive))
    negative = gauges(model, circuit, ids_of(tokenizer, contrast.negative))
    assert positive.mean() == pytest.approx(1, abs=1e-4)
    assert negative.mean() == pytest.approx(0, abs=1e-4)


def test_a_held_out_gauge_is_that_of_a_circuit_of_the_other_prompts(tiny):
    model, tokenizer = tiny
    contrast = load_contrast("refusal-small")
    selection = Selection(0.02, universal=False)
    found = run_discovery(model, tokenizer, contrast, selection).held_out
    for fold in range(5):
        sides = contrast.positive, contrast.negative
        rest = [[p for i, p in enumerate(s) if i % 5 != fold] for s in sides]
        others = PromptSet.from_prompts(*rest)
        circuit = run_discovery(model, tokenizer, others, selection).circuit
        for side, values in zip(sides, (found.positive, found.negative), strict=True):
            held = ids_of(tokenizer, side[fold::5])
            expected = gauges(model, circuit, held)
            assert np.allclose(values[fold::5], expected, atol=1e-4)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(0.02, universal=False),
        slow(Selection(0.05, "normalized", (1, 2), universal=False)),
        slow(Selection(0.05, "weighted")),
    ],
    ids=["delta", "normalized-band", "weighted-universal"],
)
def test_a_folds_circuit_is_what_discovery_finds_in_the_other_prompts(tiny, selection):
    model, tokenizer = tiny
    whole = load_contrast("refusal-small")
    contrast = PromptSet.from_prompts(whole.positive, whole.negative[:6])
    bank = load_bank()[:3]
    found = run_discovery(model, tokenizer, contrast, selection, bank=bank)
    sides = contrast.positive, contrast.negative
    held = [[i for fold in found.folds for i in getattr(fold, side)] for side in SIDES]
    assert [sorted(positions) for positions in held] == [
        list(range(8)),
        list(range(6)),
    ]
    dropped = 0
    for fold in found.folds:
        rest = [
            [p for i, p in enumerate(side) if i not in getattr(fold, name)]
            for side, name in zip(sides, SIDES, strict=True)
        ]
        alone = run_discovery(
            model,
            tokenizer,
            PromptSet.from_prompts(*rest),
            selection,
            universal=found.universal,
        ).circuit
        expected = {neuron[:2]: neuron.delta for neuron in alone.neurons}
        deltas = {neuron[:2]: neuron.delta for neuron in fold.circuit.neurons}
        assert list(deltas) == list(expected)
        # batches of another shape: a fast BLAS rounds differently
        assert deltas == pytest.approx(expected, rel=1e-5, abs=1e-4)
        dropped += len(alone.universal_dropped)
    assert bool(dropped) == selection.universal


def test_equal_scores_make_a_fold_no_larger_than_k():
    held_out = HeldOut((4, 4), k=3, fraction=0.5)
    for layer in range(2):
        positive, negative = mx.ones((4, 5)), mx.zeros((4, 5))
        held_out.take(layer, positive, negative, np.ones((4, 5)))
    for fold in held_out.folds(frozenset({(0, 1)})):
        assert [neuron[:2] for neuron in fold.circuit.neurons] == [(0, 0), (0, 2)]
        assert all(neuron.delta == 1 for neuron in fold.circuit.neurons)


@pytest.mark.parametrize("layers", [None, (1, 2)])
def test_a_discovery_knows_how_active_neurons_are_on_the_negative_prompts(tiny, layers):
    model, tokenizer = tiny
    contrast = load_contrast("refusal-small")
    selection = Selection(0.02, layers=layers, universal=False)
    found = run_discovery(model, tokenizer, contrast, selection)
    expected = magnitudes(model, ids_of(tokenizer, contrast.negative))
    first, last = selection.band(4)
    assert list(found.magnitudes) == list(range(first, last + 1))
    for layer, values in found.magnitudes.items():
        np.testing.assert_allclose(values, expected[layer], atol=1e-5)
    control = matched_control(found.circuit, found.magnitudes, 0)
    wanted = {layer: len(own) for layer, own in found.circuit.by_layer().items()}
    assert {layer: len(own) for layer, own in control.by_layer().items()} == wanted


def test_a_layers_own_auc_is_that_of_a_circuit_ranked_within_it(tiny):
    model, tokenizer = tiny
    contrast = load_contrast("refusal-small")
    found = run_discovery(
        model, tokenizer, contrast, Selection(0.02, universal=False)
    ).held_out
    # the same number of neurons as a layer's own share, of all the model's
    share = round(0.02 * 160) / 640
    alone = run_discovery(
        model, tokenizer, contrast, Selection(share, layers=(2, 2), universal=False)
    ).held_out
    assert found.layers[2] == pytest.approx(alone.auc)


def test_with_one_prompt_a_side_nothing_can_be_held_out(tiny):
    model, tokenizer = tiny
    contrast = PromptSet.from_prompts(["Sell the bicycle."], ["Paint the bicycle."])
    found = run_discovery(model, tokenizer, contrast, Selection(0.02, universal=False))
    assert found.held_out is None
    assert found.folds == ()


def test_a_circuit_without_means_is_no_gauge(tiny):
    model, _ = tiny
    with pytest.raises(CircuitError, match="discover"):
        gauges(model, Circuit.from_neurons([(0, 1, 2.0)]), [[1, 2, 3]])


@pytest.mark.parametrize("seed", range(5))
def test_the_area_counts_the_pairs_in_order_and_half_of_the_ties(seed):
    random = np.random.default_rng(seed)
    positive = random.integers(0, 6, random.integers(1, 12)).tolist()
    negative = random.integers(0, 5, random.integers(1, 12)).tolist()
    pairs = [(p > n) + (p == n) / 2 for p, n in product(positive, negative)]
    found = auc(positive, negative)
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    opposite = auc(negative, positive)
    assert opposite.low == pytest.approx(1 - found.high, abs=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_the_area_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    shapes = [(1, 1), (1, 7), (90, 2), (500, 300), *random.integers(1, 120, (8, 2))]
    m, n = shapes[seed]
    for decimals in (0, 1, 12):  # from nearly all tied to no ties
        positive = np.round(random.normal(0.5, 1, m), decimals)
        negative = np.round(random.normal(0, 2, n), decimals)
        labels = [1] * m + [0] * n
        expected = roc_auc_score(labels, [*positive, *negative])
        assert auc(positive, negative).value == pytest.approx(expected, abs=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    # scores from two normal distributions whose true area is known
    truth, shift = 0.8, 1.1902  # the normal quantile of .8 times the root of 2
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = auc(random.normal(shift, 1, 30), random.normal(0, 1, 30))
        held += found.low <= truth <= found.high
    assert held / 400 >= 0.93


def test_the_interval_is_open_to_doubt_when_all_pairs_are_in_order():
    found = auc([2.0, 3.0, 4.0], [0.0, 1.0])
    assert (found.value, found.high) == (1, 1)
    assert 0.3 < found.low < 0.9
