"""The phrases that begin refusals, and the odds that an answer begins with one."""

from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tiny_models import VOCABULARY, Kind

from cna_mlx import Rendering
from cna_mlx.discovery.refusing_openings import (
    distinct_openings,
    opening_log_odds,
    openings_of,
    refusing_openings,
)
from cna_mlx.errors import CnaError
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms

ME, CANNOT, LIKE, TO, SORRY, SURE = range(6)


def distinct(positive: list[tuple[int, ...]], negative: list[tuple[int, ...]]) -> Any:
    return list(distinct_openings(positive, negative))


def test_a_first_token_of_refusals_alone_is_enough() -> None:
    positive = [(SORRY, ME, CANNOT)] * 19 + [(SURE, TO, ME)]
    negative = [(SURE, TO, LIKE)] * 10
    assert distinct(positive, negative) == [(SORRY,)]


def test_an_ambiguous_token_is_made_longer() -> None:
    positive = [(ME, CANNOT, TO)] * 6 + [(ME, LIKE, TO)] * 2 + [(SORRY, ME, ME)] * 2
    negative = [(ME, LIKE, TO)] * 3 + [(SURE, TO, TO)] * 7
    # I like to: as ambiguous at three tokens as at one
    assert distinct(positive, negative) == [(ME, CANNOT), (SORRY,)]
    third = [(ME, LIKE, SURE)] * 10
    assert distinct(positive, third) == [(ME, CANNOT), (ME, LIKE, TO), (SORRY,)]


def test_one_in_ten_counts_and_fewer_do_not() -> None:
    negative = [(SURE,)] * 20
    assert distinct([(SORRY,)] * 2 + [(SURE,)] * 18, negative) == [(SORRY,)]
    assert distinct([(SORRY,)] + [(SURE,)] * 19, negative) == []
    # one of twenty answers to harmless prompts does not make a phrase ambiguous
    assert distinct([(ME,)] * 20, [(ME,)] + [(SURE,)] * 19) == [(ME,)]
    assert distinct([(ME,)] * 20, [(ME,)] * 2 + [(SURE,)] * 18) == []


REFUSAL = "I cannot help you with that. It is against the law."
HELP = "Here is what you need: two cups of flour, some milk and an egg."


def answers(*parts: tuple[int, str, tuple[int, ...]]) -> list[Answer]:
    """So many answers of a text, with other first tokens than the text's."""
    return [
        Answer(number, 0, text, ids, "length")
        for count, text, ids in parts
        for number in range(count)
    ]


def test_openings_of_a_model_that_refuses_too_much_are_those_of_its_refusals() -> None:
    positive = answers(
        (9, REFUSAL, (ME, CANNOT, TO, ME)), (3, HELP, (SURE, ME)), (1, "", ())
    )
    negative = answers(
        (8, REFUSAL, (ME, CANNOT, TO)), (5, HELP, (ME, LIKE)), (1, HELP, (SURE,))
    )
    starts = ([one.token_ids for one in side] for side in (positive, negative))
    assert (ME, CANNOT, TO) not in list(distinct_openings(*starts))
    assert openings_of(positive, negative) == ((ME, CANNOT),)


def test_without_labelled_refusals_all_answers_count() -> None:
    positive = answers((3, REFUSAL, (ME, CANNOT)), (7, HELP, (SORRY, ME)))
    negative = answers((10, HELP, (SURE,)))
    assert openings_of(positive, negative) == ((SORRY,), (ME,))
    positive += answers((1, REFUSAL, (ME, CANNOT)))
    assert openings_of(positive, negative) == ((ME,),)


def test_a_model_that_answers_nothing_has_no_openings() -> None:
    refusals = answers((10, REFUSAL, (ME, CANNOT, TO)))
    assert openings_of(refusals, refusals) == ()


def test_empty_answers_begin_with_nothing() -> None:
    assert distinct([(), (ME,), ()], [(), ()]) == [(ME,)]
    assert distinct([()], [()]) == []


def _probabilities(model: Any, ids: list[int]) -> np.ndarray:
    logits = np.array(model(mx.array([ids]))[0, -1].astype(mx.float32), np.float64)
    parts = np.exp(logits - logits.max())
    return parts / parts.sum()


def test_the_odds_are_those_of_all_phrases_together(
    kind: Kind, model: Any, ids: list[list[int]]
) -> None:
    openings = [(7,), (9, 4), (9, 5, 6), (9, 5, 8), (3, 2)]
    for prompt in ids[:3]:
        wanted = 0.0
        for opening in openings:
            share = 1.0
            for position, token in enumerate(opening):
                fed = [*prompt, *opening[:position]]
                share *= _probabilities(model, fed)[token]
            wanted += share
        found = opening_log_odds(model, prompt, openings)
        tolerance = 1e-4 if kind.exact else 0.3
        assert found == pytest.approx(np.log(wanted / (1 - wanted)), abs=tolerance)


def test_the_odds_of_nearly_all_and_nearly_nothing_are_finite(
    llama: Any, ids: list[list[int]]
) -> None:
    everything = [(token,) for token in range(VOCABULARY)]
    shares = _probabilities(llama, ids[0])
    rarest = int(shares.argmin())
    but_one = [one for one in everything if one != (rarest,)]
    high = opening_log_odds(llama, ids[0], but_one)
    low = opening_log_odds(llama, ids[0], [(rarest,)])
    assert high == pytest.approx(-low, abs=1e-6)
    assert low == pytest.approx(np.log(shares[rarest]), abs=1e-3)
    with pytest.raises(CnaError, match="infinite"):
        opening_log_odds(llama, ids[0], everything)


def test_the_demos_refusals_begin_with_i(demo: tuple[Any, Any]) -> None:
    model, tokenizer = demo
    contrast = load_contrast("magic")
    openings = refusing_openings(model, tokenizer, contrast, Rendering())
    assert [tokenizer.decode(opening) for opening in openings] == ["I"]
    # one prompt at a time says the same of a tenth of the prompts
    begun = Counter(
        event.token_ids[0]
        for text in contrast.positive[::10]
        for event in generate_arms(
            model, tokenizer, [render_prompt(tokenizer, text)], [BASELINE], max_tokens=1
        )
        if isinstance(event, Answer)
    )
    assert (begun.most_common(1)[0][0],) == openings[0]
    odds = [
        np.mean(
            [
                opening_log_odds(model, render_prompt(tokenizer, text), openings)
                for text in side[:8]
            ]
        )
        for side in (contrast.positive, contrast.negative)
    ]
    assert odds[0] > 0 > odds[1]
