"""What each ranking scores, against a direct computation of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY
from tiny_models import D_FF, HIDDEN, LAYERS, VOCABULARY, Kind

from cna_mlx import Circuit, Rendering, steered
from cna_mlx.discovery import deciding
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.deciding import Deciding, spread_out
from cna_mlx.discovery.discover import residual, run_discovery
from cna_mlx.discovery.influence import effects, gradients
from cna_mlx.discovery.last_tokens import read_prompts
from cna_mlx.discovery.rankings import ALL
from cna_mlx.discovery.refusing_openings import log_odds, opening_log_odds
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import InputError
from cna_mlx.models.families import family_of
from cna_mlx.models.memory.forecast import (
    Shape,
    Workload,
    causal_bytes,
    influence_bytes,
)
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.prompts import PromptSet, load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.util.progress import silent

OPENINGS = ((7,), (9, 4), (9, 5, 6))
NEURONS = [(0, 3), (0, 90), (1, 17), (2, 5), (2, 127)]


def odds_with(
    model: Any, ids: Sequence[int], positions: int, *steering: tuple[Any, float]
) -> float:
    """R with the model steered at the last tokens only, by mlx-lm's own call."""

    def following(tokens: tuple[int, ...]) -> mx.array:
        cache = make_prompt_cache(model)
        parts = [list(ids[:-positions]), list(ids[-positions:]), list(tokens)]
        for number, part in enumerate(parts):
            if not part:
                continue
            contexts = [steered(model, *one) for one in steering] if number == 1 else []
            for context in contexts:
                context.__enter__()
            try:
                logits = model(mx.array([part]), cache=cache)[:, -1]
                mx.eval(logits)
            finally:
                for context in reversed(contexts):
                    context.__exit__(None, None, None)
        return logits.astype(mx.float32)

    return float(np.array(log_odds(following, OPENINGS)).item())


def shift(layer: int, index: int) -> MeanDifference:
    deltas = np.zeros((LAYERS, D_FF), np.float32)
    deltas[layer, index] = 1
    return MeanDifference(tuple(deltas))


@pytest.mark.parametrize("positions", [1, 2])
def test_the_gradient_is_that_of_finite_differences(
    kind: Kind, model: Any, ids: list[list[int]], positions: int
) -> None:
    found = gradients(model, ids, OPENINGS, range(LAYERS), positions=positions)
    assert {layer: part.shape for layer, part in found.items()} == {
        layer: (len(ids), D_FF) for layer in range(LAYERS)
    }
    pairs = []
    for row in (0, 4, 6):
        for layer, index in NEURONS:
            step = 0.05 if kind.exact else 1.0
            ends = [
                odds_with(model, ids[row], positions, (shift(layer, index), one))
                for one in (step, -step)
            ]
            pairs.append(
                (found[layer][row, index].item(), (ends[0] - ends[1]) / 2 / step)
            )
    ours, slopes = np.array(pairs).T
    if kind.exact:
        np.testing.assert_allclose(ours, slopes, rtol=2e-2, atol=2e-3)
        assert np.abs(slopes).max() > 0.05
    else:
        assert np.corrcoef(ours, slopes)[0, 1] > 0.8


def test_the_plan_has_room_for_the_gradients(llama: Any, ids: list[list[int]]) -> None:
    shape = Shape(LAYERS, HIDDEN, D_FF, 4, 2, HIDDEN // 4, value_bytes=4)
    work = Workload(len(ids), 53, 5, len(ids), 13, len(ids))
    list(read_prompts(llama, ids))  # what the first pass makes once
    mx.clear_cache()
    before = mx.get_active_memory()
    found = gradients(llama, ids, OPENINGS, range(LAYERS))
    held = sum(part.nbytes for part in found.values())
    assert held == 4 * len(ids) * LAYERS * D_FF
    assert mx.get_active_memory() - before < influence_bytes(shape, work)


def test_the_plan_has_room_for_a_batch_of_ablations(
    llama: Any, monkeypatch: Any
) -> None:
    shape = Shape(LAYERS, HIDDEN, D_FF, 4, 2, HIDDEN // 4, value_bytes=4)
    prompt = np.random.default_rng(0).integers(0, VOCABULARY, 64).tolist()
    (read,) = read_prompts(llama, [prompt])  # 128 rows: as many tokens as there may be
    logits = 128 * VOCABULARY  # this vocabulary is too small to bound the rows
    monkeypatch.setattr("cna_mlx.models.memory.forecast.ABLATED_LOGITS", logits)
    mx.eval(llama.parameters())
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    effects(read, {0: np.arange(D_FF)}, None, lambda f: log_odds(f, OPENINGS))
    held = mx.get_peak_memory() - before
    few = Workload(1, 1, 1, 1, 1, 1)
    assert held < causal_bytes(shape, few) < 2 * held


@pytest.mark.parametrize("positions", [1, 3])
def test_an_effect_is_what_changing_the_neuron_alone_does(
    kind: Kind, model: Any, ids: list[list[int]], positions: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr("cna_mlx.discovery.influence.ABLATED_ROWS", 2)
    neurons = {0: np.array([3, 90]), 1: np.array([17]), 2: np.array([5, 127])}
    targets = {layer: np.full(D_FF, 0.5, np.float32) for layer in range(LAYERS)}
    (prompt,) = read_prompts(model, [ids[4]], positions)
    before = odds_with(model, ids[4], positions)
    for to in (None, targets):
        found = effects(prompt, neurons, to, lambda f: log_odds(f, OPENINGS))
        ours = np.concatenate([found[layer] for layer in neurons])
        expected = []
        for layer, index in NEURONS:
            changes = [(Circuit.from_neurons([(layer, index)]), 0.0)]
            changes += [(shift(layer, index), 0.5)] if to else []
            expected.append(before - odds_with(model, ids[4], positions, *changes))
        largest = np.abs(expected).max()
        assert largest > 0.01
        slack = 3e-5 if kind.exact else 0.3 * largest
        np.testing.assert_allclose(ours, expected, atol=slack)


def rows_of(module: Any) -> np.ndarray:
    """The dense weight of a projection or embedding."""
    weight = module.weight
    if hasattr(module, "bits"):
        weight = mx.dequantize(
            weight,
            module.scales,
            module.get("biases"),
            group_size=module.group_size,
            bits=module.bits,
            mode=module.mode,
        )
    return np.array(weight.astype(mx.float32), np.float64)


@pytest.fixture(name="deciding_of")
def fixture_deciding_of(ids: list[list[int]]) -> Callable[..., Deciding]:
    """Five positive and four negative prompts of the ids, and known openings."""

    def make(model: Any, **options: Any) -> Deciding:
        contrast = PromptSet.from_prompts(list("abcde"), list("fghi"))
        return Deciding(model, contrast, Selection(**options), ids, OPENINGS, silent)

    return make


def test_direct_is_the_linear_part_of_the_logits(
    kind: Kind, model: Any, ids: list[list[int]], deciding_of: Any
) -> None:
    ranking = deciding_of(model, rank="direct").direct()
    head = rows_of(family_of(model).unembedding(model))
    norm, model.model.norm = model.model.norm, lambda hidden: hidden
    try:
        ends = [model.model(mx.array([one]))[0, -1] for one in ids[:5]]
    finally:
        model.model.norm = norm
    ends = [np.array(one.astype(mx.float32), np.float64) for one in ends]
    rms = np.mean([np.sqrt((one**2).mean()) for one in ends])
    weight = np.array(norm.weight.astype(mx.float32), np.float64)
    for layer, a in last_activations(model, ids):
        delta = np.array(a[:5].mean(axis=0) - a[5:].mean(axis=0), np.float64)
        # the logits that each neuron's difference adds, all else the same
        written = rows_of(model.layers[layer].mlp.down_proj) * delta
        logits = head @ (written * weight[:, None] / rms)
        expected = logits[[7, 9]].mean(axis=0) - logits.mean(axis=0)
        found = ranking.at(layer)(a[:5], a[5:], ALL, ALL)
        np.testing.assert_allclose(
            found, expected, atol=np.abs(expected).max() * kind.tolerance
        )


def stream_after(model: Any, ids: Sequence[int], layer: int) -> np.ndarray:
    """The residual stream after a layer at the last token, by mlx-lm's own call."""
    norm, layers = model.model.norm, model.model.layers
    model.model.norm, model.model.layers = lambda hidden: hidden, layers[: layer + 1]
    try:
        found = model.model(mx.array([list(ids)]))[0, -1].astype(mx.float32)
    finally:
        model.model.norm, model.model.layers = norm, layers
    return np.array(found, np.float64)


def residual_of(model: Any, ids: Sequence[Sequence[int]], end: int) -> Any:
    contrast = PromptSet.from_prompts(list("abcde"), list("fghi"))
    chosen = Selection(rank="residual", layers=(0, end))
    return residual(model, contrast, chosen, ids, silent)


@pytest.mark.parametrize("end", [1, LAYERS - 1])
def test_residual_is_the_part_along_the_mean_difference(
    kind: Kind, model: Any, ids: list[list[int]], end: int
) -> None:
    ranking = residual_of(model, ids, end)
    streams = np.stack([stream_after(model, one, end) for one in ids])
    some, others = np.array([0, 2, 3]), np.array([1, 2])
    for layer, a in last_activations(model, ids):
        if layer > end:
            break
        written = rows_of(model.layers[layer].mlp.down_proj)
        for above, below in ((np.arange(5), np.arange(4)), (some, others)):
            sides = above, 5 + below
            first, second = (streams[side].mean(axis=0) for side in sides)
            direction = (first - second) / np.linalg.norm(first - second)
            means = [np.array(a, np.float64)[side].mean(axis=0) for side in sides]
            expected = (means[0] - means[1]) * (direction @ written)
            found = ranking.at(layer)(a[:5], a[5:], above, below)
            slack = np.abs(expected).max() * kind.tolerance
            np.testing.assert_allclose(found, expected, atol=slack)


def test_a_positive_residual_score_falls_when_the_difference_goes(
    llama: Any, ids: list[list[int]]
) -> None:
    ranking, end = residual_of(llama, ids, 1), 1
    before = np.stack([stream_after(llama, one, end) for one in ids])
    difference = before[:5].mean(axis=0) - before[5:].mean(axis=0)
    direction = difference / np.linalg.norm(difference)
    a = dict(last_activations(llama, ids))[end]
    delta = np.array(a[:5].mean(axis=0) - a[5:].mean(axis=0))
    scores = np.array(ranking.at(end)(a[:5], a[5:], ALL, ALL))
    for index in np.argsort(scores)[[0, 1, -2, -1]].tolist():
        with steered(llama, shift(end, index), -float(delta[index])):
            after = np.stack([stream_after(llama, one, end) for one in ids[:5]])
        fall = direction @ (before[:5].mean(axis=0) - after.mean(axis=0))
        assert fall == pytest.approx(scores[index], rel=1e-3)
        assert abs(fall) > 0.01


def test_a_positive_influence_falls_when_the_difference_goes(
    llama: Any, ids: list[list[int]], deciding_of: Any
) -> None:
    ranking = deciding_of(llama, rank="influence", layers=(0, 2)).influence()
    for layer, a in last_activations(llama, ids):
        positive, negative = a[:5], a[5:]
        scores = np.array(ranking.at(layer)(positive, negative, ALL, ALL))
        means = [np.abs(np.array(side.mean(axis=0))) for side in (positive, negative)]
        ranked = np.isfinite(scores)
        np.testing.assert_array_equal(ranked, means[0] > means[1])
        delta = np.array(positive.mean(axis=0) - negative.mean(axis=0))
        places = np.flatnonzero(ranked)
        for index in places[np.argsort(scores[places])[[0, -1]]].tolist():
            step = float(delta[index]) * 0.05
            changes = [
                odds_with(llama, one, 1)
                - odds_with(llama, one, 1, (shift(layer, index), -step))
                for one in ids
            ]
            fall = np.mean(changes[:5]) + np.mean(changes[5:])
            assert fall == pytest.approx(0.05 * scores[index], rel=0.1, abs=1e-5)
            assert np.sign(fall) == np.sign(scores[index])


def test_causal_is_the_mean_effect_and_goes_with_influence(
    llama: Any, ids: list[list[int]], deciding_of: Any
) -> None:
    found, agreement = deciding_of(llama, rank="causal").causal(20, {})
    # fewer neurons than candidates: all of the ranked layers are tried
    assert [len(part) for part in found.candidates.values()] == [D_FF] * 2
    positive = mx.zeros((5, D_FF))
    scores = np.array(found.at(1)(positive, positive, ALL, ALL))
    before = [odds_with(llama, one, 1) for one in ids[:5]]
    neuron = Circuit.from_neurons([(1, 17)])
    after = [odds_with(llama, one, 1, (neuron, 0.0)) for one in ids[:5]]
    assert scores[17] == pytest.approx(np.mean(before) - np.mean(after), abs=3e-5)
    assert agreement > 0.5
    without = np.array(found.at(1)(positive, positive, np.arange(1, 5), ALL))
    expected = np.mean(before[1:]) - np.mean(after[1:])
    assert without[17] == pytest.approx(expected, abs=3e-5)
    assert np.isneginf(found.at(2)(positive, positive, ALL, ALL)).all()


def test_causal_resumes(llama: Any, deciding_of: Any, monkeypatch: Any) -> None:
    one, kept = deciding_of(llama, rank="causal"), {}
    whole, agreement = one.causal(20, kept)
    assert len(kept) == 5
    done = dict(list(kept.items())[:3])
    ran: list[int] = []

    def counted(*arguments: Any) -> Any:
        ran.append(1)
        return effects(*arguments)

    monkeypatch.setattr(deciding, "effects", counted)
    again, same = one.causal(20, done)
    assert len(ran) == 4  # two prompts, ablated and set to the mean
    assert same == agreement
    for layer, part in whole.effects.items():
        np.testing.assert_array_equal(again.effects[layer], part)


def test_prompts_are_spread_over_folds_and_halves() -> None:
    assert spread_out(5) == list(range(5))
    for count in range(9, 400):
        chosen = spread_out(count)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 8
        assert max(chosen) < count
        for parts in (2, 5):
            assert len({row % parts for row in chosen}) > 1


def test_bands_leave_late_layers_out_unless_told() -> None:
    ends = {"delta": 29, "normalized": 29, "direct": 26, "influence": 19, "causal": 19}
    ends["residual"] = 17
    for rank, end in ends.items():
        assert Selection(rank=rank).band(30) == (0, end)
        assert Selection(rank=rank, layers=(8, 29)).band(30) == (8, 29)


def test_a_selection_without_positions_keeps_its_key() -> None:
    old = {"fraction": 0.001, "rank": "delta", "layers": None, "universal": True}
    assert Selection().identity() == old
    several = Selection(positions=3)
    assert several.identity() == asdict(several) == {**old, "positions": 3}
    with pytest.raises(InputError, match="positions"):
        Selection(positions=0)


def test_several_positions_are_those_of_shorter_prompts(
    kind: Kind, model: Any, ids: list[list[int]]
) -> None:
    several = list(last_activations(model, ids, positions=3))
    for back in range(3):
        shorter = [one[: len(one) - back] for one in ids]
        for (layer, a), (_, found) in zip(
            last_activations(model, shorter), several, strict=True
        ):
            slack = kind.tolerance * mx.abs(a).max().item()
            assert found.shape == (len(ids), 3, D_FF), layer
            assert mx.allclose(found[:, 2 - back], a, rtol=0, atol=slack)
    with pytest.raises(InputError, match="--positions 6"):
        list(last_activations(model, ids, positions=7))


@pytest.mark.parametrize("rank", ["direct", "influence", "causal"])
def test_the_demos_refusals_rest_on_what_is_ranked_first(
    demo: tuple[Any, Any], rank: Any, monkeypatch: Any
) -> None:
    model, tokenizer = demo
    monkeypatch.setattr(deciding, "CANDIDATES", 100)
    contrast = load_contrast("magic")
    some = PromptSet.from_prompts(contrast.positive[:16], contrast.negative[:16])
    chosen = Selection(0.0025, rank, universal=False)
    found = run_discovery(model, tokenizer, some, chosen)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert len(found.scores) == len(found.circuit.neurons)
    origin = found.circuit.provenance
    assert origin.rank == rank
    assert origin.layers == chosen.band(len(found.sizes))
    begin = [tokenizer.decode(one) for one in origin.openings or ()]
    assert begin
    assert all(one.startswith("I") for one in begin)
    assert (origin.causal_correlation is not None) == (rank == "causal")
    again = Circuit.from_text(found.circuit.to_text(), "it")
    assert again.provenance == origin
    assert tuple(one.score for one in again.details) == found.scores
    ids = [render_prompt(tokenizer, text) for text in contrast.positive[16:24]]

    def odds() -> float:
        return float(
            np.mean([opening_log_odds(model, one, origin.openings) for one in ids])
        )

    before = odds()
    with steered(model, found.circuit, 0.0):
        assert odds() < before - 0.5


def test_a_model_that_does_not_refuse_is_told_so(
    command: Any, selection: list[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(deciding, "refusing_openings", lambda *_, **__: ())
    result = command("discover", TINY, "--rank", "direct", *selection)
    assert result.code == 2
    assert "--rank residual" in result.err
    result = command("discover", "demo", "--stream", "--rank", "influence")
    assert result.code == 2
    assert "all weights in memory" in result.err


def test_several_positions_are_part_of_the_circuit(tiny: Any) -> None:
    model, tokenizer = tiny
    contrast = load_contrast("refusal-small")
    chosen = Selection(0.05, universal=False, positions=2)
    found = run_discovery(model, tokenizer, contrast, chosen).circuit
    assert found.provenance.positions == 2
    texts = (*contrast.positive, *contrast.negative)
    ids = [render_prompt(tokenizer, text, Rendering()) for text in texts]
    middle = len(contrast.positive)
    best = []
    for layer, a in last_activations(model, ids, positions=2):
        mean = np.array(a.mean(axis=1))
        scores = np.abs(mean[:middle].mean(axis=0) - mean[middle:].mean(axis=0))
        best += [(float(score), layer, n) for n, score in enumerate(scores)]
    best.sort(reverse=True)
    expected = {one[1:] for one in best[: len(found.neurons)]}
    assert {neuron[:2] for neuron in found.neurons} == expected
