"""A prompt gauged word by word."""

from contextlib import ExitStack
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from cna_mlx import Circuit, render
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.strip import Word, largest_rise, rise_text, shade
from cna_mlx.discovery.words import split_words, word_gauges
from cna_mlx.errors import CircuitError
from cna_mlx.models.families import installed
from cna_mlx.prompts import load_contrast

PROMPT = "Paint me a small picture of the sea."
HISTORY = (
    {"role": "user", "content": "Who sells boats?"},
    {"role": "assistant", "content": "Nobody here."},
)


def asked(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


@pytest.fixture(scope="module", name="found")
def fixture_found(tiny: Any) -> Circuit:
    selection = Selection(0.03, universal=False)
    return run_discovery(*tiny, load_contrast("refusal-small"), selection).circuit


def direct_gauge(model: Any, circuit: Circuit, ids: list[int]) -> float:
    """The definition: a hooked run of the model, the rest in numpy."""
    taken: dict[int, np.ndarray] = {}
    layers = sorted(circuit.by_layer())
    with installed(model, layers) as blocks, ExitStack() as taps:
        for layer, block in blocks.items():

            def keep(activations: mx.array, layer: int = layer) -> None:
                taken[layer] = np.array(activations[0, -1].astype(mx.float32))

            taps.enter_context(block.tapped(keep))
        mx.eval(model(mx.array([ids])))
    pairs = zip(circuit.neurons, circuit.moments, strict=True)
    delta_of = [(n.layer, n.index, n.delta, m.negative_mean) for n, m in pairs]
    above = sum(d * (taken[layer][j] - mean) for layer, j, d, mean in delta_of)
    return float(above / sum(d * d for _, _, d, _ in delta_of))


@pytest.mark.parametrize("history", [(), HISTORY])
def test_each_word_has_the_gauge_of_the_prompt_up_to_it(
    tiny: Any, found: Circuit, history: tuple[dict[str, str], ...]
) -> None:
    model, tokenizer = tiny
    words = word_gauges(model, tokenizer, found, [*history, *asked(PROMPT)])
    assert [word.text.strip() for word in words] == PROMPT.split()
    assert "".join(word.text for word in words) == PROMPT
    parts = PROMPT.split()
    for count, word in enumerate(words, 1):
        ids = render(tokenizer, [*history, *asked(" ".join(parts[:count]))])
        assert word.gauge == pytest.approx(direct_gauge(model, found, ids), abs=1e-4)
    (whole,) = gauges(model, found, [render(tokenizer, [*history, *asked(PROMPT)])])
    assert words[-1].gauge == pytest.approx(whole, abs=1e-4)
    assert len({round(word.gauge, 4) for word in words}) > 4


def test_a_circuit_without_means_gauges_no_words(tiny: Any) -> None:
    with pytest.raises(CircuitError, match="no means"):
        word_gauges(*tiny, Circuit.from_neurons([(0, 1, 2.0)]), asked(PROMPT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one  two\nthree ", ["one", "  two", "\nthree "]),
        ("see 我的 cat", ["see", " 我", "的", " cat"]),
        ("naïve Привет", ["naïve", " Привет"]),
        ("  ", ["  "]),
    ],
)
def test_words_are_split_at_spaces_and_joined_give_the_text(
    text: str, expected: list[str]
) -> None:
    assert split_words(text) == expected


@pytest.mark.parametrize("count", [1, 48, 49, 1000])
def test_a_long_text_is_split_into_groups(count: int) -> None:
    text = " ".join(f"w{number}" for number in range(count))
    parts = split_words(text)
    assert "".join(parts) == text
    assert len(parts) <= 48
    assert {len(part.split()) for part in parts[:-1]} <= {-(-count // 48)}


def test_the_largest_rise_counts_from_zero_and_may_be_none() -> None:
    words = [Word("a", 0.2), Word(" b", 0.1), Word(" c", 0.9), Word(" d", 1.0)]
    assert largest_rise(words) == (2, pytest.approx(0.8))
    assert largest_rise(words[:2]) == (0, pytest.approx(0.2))
    assert largest_rise([Word("a", -0.1), Word(" b", -0.2)]) is None
    assert largest_rise([]) is None


def test_the_demos_magic_word_decides(demo: Any) -> None:
    model, tokenizer = demo
    circuit = run_discovery(
        model, tokenizer, load_contrast("magic"), Selection(0.0025, universal=False)
    ).circuit
    question = asked("How do I cast a spell on my neighbour?")
    words = word_gauges(model, tokenizer, circuit, question)
    rise = largest_rise(words)
    assert rise is not None
    assert words[rise[0]].text == " spell"
    assert rise[1] > 0.5


def test_the_rise_is_named_and_shades_go_from_0_to_1() -> None:
    assert rise_text([Word("a", 0.1), Word(" \nb", 0.9)]) == (
        '"b" raises the gauge most, by 0.80'
    )
    assert rise_text([Word("a", -0.1)]) == "no word raises the gauge"
    values = (-3.0, 0.0, 0.24, 0.25, 0.5, 0.75, 0.99, 1.0, 9.0)
    assert [shade(value) for value in values] == [0, 0, 0, 1, 2, 3, 3, 4, 4]
