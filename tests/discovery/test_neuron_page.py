"""A neuron's page, against the model run token by token."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from commandline import NEGATIVE, POSITIVE, make_screen, sent
from mlx_lm.models.cache import make_prompt_cache
from tiny_models import D_FF

from cna_mlx import Circuit, PromptSet, render_prompt, steered
from cna_mlx.circuit import Details, Moments
from cna_mlx.discovery import neuron_page as module
from cna_mlx.discovery.firing import read_neurons
from cna_mlx.discovery.neuron_page import NeuronPage, neuron_page
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.prompts import load_bank
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.ui.neurons import neuron_view

CONTRAST = PromptSet("colours", "", tuple(POSITIVE), tuple(NEGATIVE), "red", "blue")
TEXTS = ("An old line.", "A newer, longer line of text.")
LAYER, INDEX = 1, 40
OPENINGS = ((7,), (9, 4))


class Watched(nn.Module):
    """An MLP that also keeps its input."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.mlp = mlp

    def __call__(self, x: mx.array) -> mx.array:
        self.seen = x
        return self.mlp(x)


def alone(model: Any, ids: list[int], layer: int, index: int) -> np.ndarray:
    """A neuron at all tokens of one prompt, from its MLP's input in a whole run."""
    block = model.model.layers[layer]
    mlp = block.mlp
    block.mlp = watched = Watched(mlp)
    try:
        mx.eval(model(mx.array([ids])))
    finally:
        block.mlp = mlp
    x = watched.seen[0]
    both = nn.silu(mlp.gate_proj(x)) * mlp.up_proj(x)
    return np.array(both[:, index].astype(mx.float32))


@pytest.mark.parametrize("first", [0, 5])
def test_it_is_read_at_every_token(
    kind: Any, model: Any, ids: list[list[int]], first: int
) -> None:
    """Where the prompts begin with the same five ids, which are read once, too."""
    ids = [own[first:] for own in ids]
    places = [(0, 3), (1, 40), (2, D_FF - 1), (1, 2)]
    mlps = [layer.mlp for layer in model.model.layers]
    together = read_neurons(model, ids, places)
    assert all(
        layer.mlp is mlp for layer, mlp in zip(model.model.layers, mlps, strict=True)
    )
    for place in places:
        found = together[place]
        expected = [alone(model, prompt, *place) for prompt in ids]
        assert [len(one) for one in found] == [len(prompt) for prompt in ids]
        largest = max(np.abs(one).max() for one in expected)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=kind.tolerance * largest * 3)


def test_a_prompt_without_tokens_is_refused(llama: Any) -> None:
    with pytest.raises(InputError, match="prompt 2 has no tokens"):
        read_neurons(llama, [[1], []], [(0, 0)])


@pytest.fixture(scope="module")
def one() -> Circuit:
    moments = (Moments(2.0, 1.0, 0.5, 2.0), Moments(0.0, 1.0, 0.0, 1.0))
    details = (Details(score=0.25), Details(score=0.125))
    neurons = Circuit.from_neurons([(LAYER, INDEX, 1.5), (2, 5, -1.0)]).neurons
    return Circuit(neurons, moments, details=details)


@pytest.fixture
def page(
    llama: Any, tokenizer: Any, one: Circuit, monkeypatch: pytest.MonkeyPatch
) -> NeuronPage:
    monkeypatch.setattr(module, "kept_openings", lambda *_, **__: OPENINGS)
    return neuron_page(
        llama, tokenizer, one, LAYER, INDEX, CONTRAST, texts=TEXTS, count=4
    )


def log_odds(model: Any, ids: list[int], ablated: Circuit | None = None) -> float:
    """Of token 7, or 9 and then 4, after a prompt; ablated at its last token."""

    def chances(more: list[int]) -> np.ndarray:
        cache = make_prompt_cache(model)
        mx.eval(model(mx.array([ids[:-1]]), cache=cache))
        with steered(model, ablated or Circuit(()), 0.0):
            logits = model(mx.array([ids[-1:]]), cache=cache)
            mx.eval(logits)
        if more:
            logits = model(mx.array([more]), cache=cache)
        return np.array(mx.softmax(logits[0, -1]), dtype=float)

    first = chances([])
    share = first[7] + first[9] * chances([9])[4]
    return float(np.log(share / (1 - share)))


def test_its_own_effect_is_that_of_ablating_it_at_the_last_token(
    page: NeuronPage, llama: Any, tokenizer: Any, one: Circuit
) -> None:
    ids = [render_prompt(tokenizer, prompt) for prompt in (*POSITIVE, *NEGATIVE)]
    odds = np.array([log_odds(llama, prompt) for prompt in ids])
    drops = [
        before - log_odds(llama, prompt, one.strongest(1))
        for before, prompt in zip(odds, ids[:4], strict=False)
    ]
    assert np.abs(drops).max() > 1e-3
    effect = page.effect
    assert effect is not None
    assert (effect.drop_prompts, effect.prompts) == (4, 8)
    assert effect.drop == pytest.approx(np.mean(drops), abs=2e-5)
    last = [alone(llama, prompt, LAYER, INDEX)[-1] for prompt in ids]
    expected = np.corrcoef(last, odds)[0, 1]
    assert effect.log_odds_correlation == pytest.approx(expected, abs=1e-4)
    expected = np.corrcoef(last, 1 / (1 + np.exp(-odds)))[0, 1]
    assert effect.probability_correlation == pytest.approx(expected, abs=1e-4)


def test_it_is_shown_where_it_is_highest_and_lowest(
    page: NeuronPage, llama: Any, tokenizer: Any
) -> None:
    bank = [p for pair in load_bank() for p in (*pair.positive, *pair.negative)]
    raw = Rendering(template="off")
    ids = [render_prompt(tokenizer, p) for p in (*POSITIVE, *NEGATIVE, *bank)]
    texts = [render_prompt(tokenizer, text, raw) for text in TEXTS]
    heads = [
        next(n for n, pair in enumerate(zip(*both, strict=False)) if len(set(pair)) > 1)
        for both in (
            [render_prompt(tokenizer, letter, rendering) for letter in "ab"]
            for rendering in (Rendering(), raw)
        )
    ]
    assert heads[0] > heads[1]
    rows = [(one, heads[0]) for one in ids] + [(one, heads[1]) for one in texts]
    values = [alone(llama, one, LAYER, INDEX)[head:] for one, head in rows]
    assert page.prompts == len(rows)
    assert page.tokens == sum(map(len, values))
    most, least = sorted(-one.max() for one in values), sorted(o.min() for o in values)
    found = [one.activation for one in page.highest]
    assert found == pytest.approx([-value for value in most[:4]], abs=1e-4)
    assert [one.activation for one in page.lowest] == pytest.approx(least[:4], abs=1e-4)
    for firing in (*page.highest, *page.lowest):
        row = next(
            n
            for n, own in enumerate(values)
            if np.abs(own - firing.activation).min() < 1e-4
        )
        prompt, head = rows[row]
        own = values[row]
        assert own[firing.position - head] == pytest.approx(firing.activation, abs=1e-4)
        assert firing.token == tokenizer.decode([prompt[firing.position]])
        whole = firing.before + firing.token + firing.after
        assert whole == tokenizer.decode(prompt[head:])
        expected = "red" if row < 4 else "blue" if row < 8 else "bank: "
        assert firing.source.startswith("text" if row >= len(ids) else expected)


def test_it_has_the_row_of_the_file(page: NeuronPage) -> None:
    data = page.to_dict()
    assert (data["layer"], data["index"], data["delta"]) == (LAYER, INDEX, 1.5)
    assert (data["score"], data["negative_std"]) == (0.25, 2.0)
    assert data["effect_size"] == pytest.approx(1.5 / np.sqrt(2.5))
    assert len(data["promotes"]) == len(data["suppresses"]) == 4
    assert data["highest"] == [firing.to_dict() for firing in page.highest]
    assert len(page.rows()) == 8


def test_a_model_without_refusing_openings_is_told_so(
    llama: Any, tokenizer: Any, one: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "kept_openings", lambda *_, **__: ())
    page = neuron_page(llama, tokenizer, one, LAYER, INDEX, CONTRAST)
    assert page.effect is None
    screen = make_screen(60)
    screen.show(neuron_view(screen, page))
    assert "first words cannot measure it" in " ".join(sent(screen.out).split())


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 120])
def test_the_page_fits_and_marks_the_token(
    width: int, encoding: str, page: NeuronPage
) -> None:
    screen = make_screen(width, color=False, encoding=encoding)
    screen.show(neuron_view(screen, page))
    shown = sent(screen.out)
    assert max(map(len, shown.splitlines())) <= width
    left, right = (">>", "<<") if encoding == "ascii" else ("»", "«")
    assert shown.count(left) == shown.count(right) == 8
    verb = "raises" if page.effect.drop < 0 else "lowers"
    assert f"alone {verb} the log-odds" in " ".join(shown.split())


def test_only_a_neuron_of_the_circuit_has_a_page(
    llama: Any, tokenizer: Any, one: Circuit
) -> None:
    for circuit, place, said in (
        (one, (LAYER, INDEX + 1), "no neuron 41 of layer 1"),
        (Circuit.from_neurons([(9, 0)]), (9, 0), "3 layers"),
    ):
        with pytest.raises(CircuitError, match=said):
            neuron_page(llama, tokenizer, circuit, *place, CONTRAST)
