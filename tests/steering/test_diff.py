"""The same prompts in several arms: order, divergence, labels, rates."""

from typing import Any

import pytest
from commandline import make_result

from cna_mlx import Arm, Circuit, Token, render_prompt
from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind
from cna_mlx.steering.arms import BASELINE
from cna_mlx.steering.diff import PromptResult, diff, divergence, rates
from cna_mlx.steering.generation import generate_arms

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "Sure, here is a red stone."


@pytest.fixture
def arms(circuit_text: str) -> list[Arm]:
    circuit = Circuit.from_text(circuit_text, "here")
    return [BASELINE, Arm.of(circuit, 0.0), Arm.of(circuit, 2.0)]


@pytest.mark.parametrize(
    ("baseline", "text", "place"),
    [
        ("the same", "the same", None),
        ("", "", None),
        ("I can not", "I can help", 6),
        ("I cannot", "I can help", 2),  # the word that differs, from its beginning
        ("I can help", "I cannot", 2),
        ("The cat", "The catalogue", 4),
        ("Sorry.", "Sorry. But no", 6),  # all that is shared is whole
        ("Sorry. But no", "Sorry.", 6),
        ("Sorry. ", "Sorry.", 6),
        ("one\ntwo", "one\nten", 4),
        ("one two", "one\ntwo", 3),
        ("alpha", "beta", 0),
        ("", "beta", 0),
        ("beta", "", 0),
        ("你好世界", "你好朋友", 0),  # no spaces: one word
    ],
)
def test_divergence(baseline: str, text: str, place: int | None) -> None:
    assert divergence(baseline, text) == place
    if place is not None:
        assert baseline[:place] == text[:place]


def test_the_arms_of_a_prompt_come_together(
    tiny: tuple[Any, Any], arms: list[Arm]
) -> None:
    prompts = ["one red stone", "a blue bird", "green"]
    events = list(diff(*tiny, prompts, arms, max_tokens=8))
    results = [one for one in events if isinstance(one, PromptResult)]
    assert [one.prompt for one in results] == prompts
    for one in results:
        assert [arm.arm for arm in one.arms] == arms
        assert [arm.multiplier for arm in one.arms] == [1, 0, 2]
    tokens = [one for one in events if isinstance(one, Token)]
    for number, result in enumerate(results):
        for arm, answer in enumerate(result.arms):
            own = [t for t in tokens if (t.prompt, t.arm) == (number, arm)]
            assert "".join(token.text for token in own) == answer.text
    assert isinstance(events[-1], PromptResult)


def test_answers_are_those_of_generate_arms(
    tiny: tuple[Any, Any], arms: list[Arm]
) -> None:
    model, tokenizer = tiny
    ids = render_prompt(tokenizer, "a blue bird")
    plain = [
        event
        for event in generate_arms(model, tokenizer, [ids], arms, max_tokens=8)
        if not isinstance(event, Token)
    ]
    (result,) = (
        event
        for event in diff(model, tokenizer, ["a blue bird"], arms, max_tokens=8)
        if isinstance(event, PromptResult)
    )
    by_arm = sorted(plain, key=lambda answer: answer.arm)
    assert [arm.token_ids for arm in result.arms] == [one.token_ids for one in by_arm]
    assert [arm.finish for arm in result.arms] == [one.finish for one in by_arm]


def test_stop_keeps_what_was_finished(tiny: tuple[Any, Any], arms: list[Arm]) -> None:
    results: list[PromptResult] = []
    for event in diff(
        *tiny,
        ["one red stone", "a blue bird", "green"],
        arms,
        max_tokens=8,
        stop=lambda: len(results) >= 1,
    ):
        if not isinstance(event, PromptResult):
            continue
        results.append(event)
    assert 1 <= len(results) <= 2
    assert all(arm.finish in ("stop", "length") for arm in results[0].arms)


def test_a_prompt_that_is_too_long_is_refused_before_any_answer(
    tiny: tuple[Any, Any], arms: list[Arm]
) -> None:
    with pytest.raises(InputError, match="prompt 3 has"):
        next(diff(*tiny, ["one", "two", "red stone " * 3000], arms))


def test_rates_count_every_answer() -> None:
    results = [
        make_result([REFUSAL, ANSWER]),
        make_result([REFUSAL, REFUSAL]),
        make_result([ANSWER, ""]),
        make_result([REFUSAL, "no no no no no no no no no no no no no no no no"]),
    ]
    baseline, steered = rates(results)
    assert (baseline.total, steered.total) == (4, 4)
    assert baseline.counts[LabelKind.REFUSED] == 3
    assert baseline.counts[LabelKind.ANSWERED] == 1
    assert steered.counts[LabelKind.INVALID] == 2
    assert steered.counts[LabelKind.REFUSED] == steered.counts[LabelKind.ANSWERED] == 1
    for one in (baseline, steered):
        assert sum(one.counts.values()) == one.total
    assert baseline.quality == 1.0
    assert steered.quality < 1.0
    assert rates([]) == []


def test_rates_count_what_was_cut_off(tiny: tuple[Any, Any], arms: list[Arm]) -> None:
    events = diff(*tiny, ["one red stone"], arms, max_tokens=1)
    results = [one for one in events if isinstance(one, PromptResult)]
    assert [one.truncated for one in rates(results)] == [
        int(arm.finish == "length") for arm in results[0].arms
    ]
    assert sum(one.truncated for one in rates(results)) > 0
