"""Answers tried further: past the token limit, and from the refusal's first word."""

import json
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from answering import answered_alone
from commandline import QUESTIONS
from evaluation_runs import ABLATED, BASELINE, make_sample

from cna_mlx import Circuit, Rendering
from cna_mlx.discovery.words import word_gauges
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.further import LOOKED, continues, first_word, turned
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.prompts.benchmarks import Benchmark, load_benchmark
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.generation import generate_arms

DEMO_CIRCUIT = Path(__file__).parents[1] / "data/version_0_1_0/circuit.json"

Answered = list[list[Sample]]


def a_sample(kind: LabelKind, finish: str = "length", number: int = 1) -> Sample:
    return make_sample(ABLATED, number, "harmful", "", label=kind, finish=finish)


def evaluate(evaluation: Evaluation) -> Answered:
    found = [
        answered_alone(evaluation, number) for number in range(len(evaluation.prompts))
    ]
    return [batch for batch in found if batch]


@pytest.fixture(scope="module", name="demo_evaluation")
def demo_evaluation_fixture(demo: tuple[Any, Any]) -> Evaluation:
    circuit = Circuit.load(DEMO_CIRCUIT)
    arms = [Arm("baseline"), Arm.of(circuit, 0.0, "ablated"), Arm.of(circuit, 0.5)]
    sets = [load_benchmark("demo").limited(16)]
    return Evaluation(*demo, sets, arms, Rendering(), 8, 0, None, "interleaved", 40, 1)


@pytest.fixture(scope="module", name="answered")
def answered_fixture(demo_evaluation: Evaluation) -> Answered:
    return evaluate(demo_evaluation)


# ------------------------------------------------------------------- which ones and why


@pytest.mark.parametrize("kind", LabelKind)
def test_what_may_change_continues(kind: LabelKind) -> None:
    always = kind in (LabelKind.PARTIAL, LabelKind.REFUSED)
    sampled = kind is LabelKind.ANSWERED
    assert not continues(a_sample(kind, "stop", 0))
    assert continues(a_sample(kind, number=1)) is always
    assert continues(a_sample(kind, number=0)) is (always or sampled)
    assert continues(a_sample(kind, number=7)) is (always or sampled)


def test_an_arm_turned_if_it_answers_what_the_baseline_refuses() -> None:
    pairs = [
        (before, after)
        for before, after in product(LabelKind, LabelKind)
        if turned(a_sample(before), a_sample(after))
    ]
    refused = LabelKind.REFUSED
    assert pairs == [(refused, LabelKind.ANSWERED), (refused, LabelKind.PARTIAL)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("I'm not able to help you write that.", "I"),
        ("Sorry, but no.", "Sorry"),
        ("No", "No"),
        ("I", "I"),
        ("", ""),
    ],
)
def test_the_first_word_is_whole(demo: tuple[Any, Any], text: str, word: str) -> None:
    tokenizer = demo[1]
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(first_word(tokenizer, ids)).strip() == word


def test_the_first_word_has_a_letter_and_at_most_three_tokens(
    demo: tuple[Any, Any],
) -> None:
    tokenizer = demo[1]

    def begun(text: str) -> str:
        ids = tokenizer.encode(text, add_special_tokens=False)
        found = first_word(tokenizer, ids)
        assert list(found) == ids[: len(found)]
        assert len(found) <= 3
        return tokenizer.decode(found)

    assert begun("1. No") in ("1. No", "1. N")
    assert "antidisestablishmentarianism".startswith(
        begun("antidisestablishmentarianism now")
    )


# ------------------------------------------------------------------- past the limit


def test_an_answer_continues_as_if_nothing_had_stopped_it(
    demo_evaluation: Evaluation, answered: Answered
) -> None:
    whole = evaluate(replace(demo_evaluation, max_tokens=40, extend_to=0))
    continued = 0
    for batch, wanted in zip(answered, whole, strict=True):
        for sample, answer in zip(batch, wanted, strict=True):
            assert (sample.extended is not None) is continues(sample)
            assert sample.token_ids == answer.token_ids[:8]
            if sample.extended:
                continued += 1
                own = sample.extended
                assert own.text.startswith(sample.text)
                assert (own.text, own.token_ids) == (answer.text, answer.token_ids)
                assert own.finish == answer.finish
                assert (own.label, own.span) == (answer.label, answer.span)
    assert continued >= 10


@pytest.fixture
def whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continue every answer that is cut off: random models speak no English."""
    name = "cna_mlx.evaluation.follow_up.continues"
    monkeypatch.setattr(name, lambda sample: sample.is_truncated)


@pytest.mark.usefixtures("whatever_it_says")
def test_a_random_model_continues_the_same_way(
    tiny: tuple[Any, Any], circuit_text: str
) -> None:
    circuit = Circuit.from_text(circuit_text, "own")
    arms = [Arm("baseline"), Arm.of(circuit, 0.0, "ablated"), Arm.of(circuit, 2.0)]
    sets = [Benchmark.from_prompts(QUESTIONS)]
    short = Evaluation(*tiny, sets, arms, Rendering(), 6, 0, extend_to=20)
    first = answered_alone(short, 0)
    wanted = answered_alone(replace(short, max_tokens=20, extend_to=0), 0)
    assert first
    assert wanted
    for sample, answer in zip(first, wanted, strict=True):
        assert sample.extended is not None
        assert sample.extended.token_ids == answer.token_ids
        assert sample.extended.text == answer.text


@pytest.mark.usefixtures("whatever_it_says")
def test_an_answer_ends_with_the_context(build: Any, tokenizer: Any) -> None:
    ids = render_prompt(tokenizer, QUESTIONS[0])
    sets = [Benchmark.from_prompts(QUESTIONS[:1])]
    for room, wanted in ((6, None), (7, 7), (9, 9), (30, 20)):
        model = build("llama", max_position_embeddings=len(ids) + room)
        evaluation = Evaluation(
            model, tokenizer, sets, [Arm("baseline")], Rendering(), 6, 0, extend_to=20
        )
        (sample,) = answered_alone(evaluation, 0) or []
        assert len(sample.token_ids) == 6
        found = sample.extended and len(sample.extended.token_ids)
        assert found == wanted


# ------------------------------------------------------------- from the refusal's word


def test_the_main_arm_is_begun_like_the_refusal(
    demo_evaluation: Evaluation, answered: Answered
) -> None:
    model, tokenizer = demo_evaluation.model, demo_evaluation.tokenizer
    opened = 0
    for baseline, main, other in answered:
        assert baseline.opened is other.opened is None
        assert (main.opened is not None) is turned(baseline, main)
        if main.opened is None:
            continue
        opened += 1
        begun = first_word(tokenizer, baseline.token_ids)
        assert main.opened.token_ids[: len(begun)] == begun
        ids = [*render_prompt(tokenizer, main.prompt), *begun]
        answer = next(
            event
            for event in generate_arms(
                model,
                tokenizer,
                [ids],
                [demo_evaluation.arms[1]],
                max_tokens=8 - len(begun),
            )
            if isinstance(event, Answer)
        )
        assert main.opened.token_ids == (*begun, *answer.token_ids)
        assert main.opened.text.endswith(answer.text.strip())
        assert main.opened.label is label(main.opened.text).kind
    assert opened >= 2


# --------------------------------------------------------------- words and first tokens


def test_the_first_prompts_have_their_words_and_first_tokens(
    demo_evaluation: Evaluation, answered: Answered
) -> None:
    model, tokenizer = demo_evaluation.model, demo_evaluation.tokenizer
    circuit = Circuit.load(DEMO_CIRCUIT)
    both = replace(demo_evaluation, gauge=circuit)
    for number in (0, LOOKED - 1):
        batch = answered_alone(both, number)
        assert batch
        baseline, main, other = batch
        assert main.words is other.words is other.first is None
        message = {"role": "user", "content": baseline.prompt}
        assert baseline.words == word_gauges(model, tokenizer, circuit, [message])
        ids = render_prompt(tokenizer, baseline.prompt)
        found = first_tokens(model, tokenizer, ids, demo_evaluation.arms[:2])
        assert found
        for row, sample in enumerate((baseline, main)):
            assert sample.first
            texts, probabilities = zip(*sample.first, strict=True)
            assert texts == tuple(one.text for one in found.tokens)
            assert probabilities == pytest.approx(
                [one.probabilities[row] for one in found.tokens], rel=1e-4, abs=1e-9
            )
        assert Sample.from_line(baseline.to_line()) == baseline
        # without a gauge no word is gauged; the answers stay the same
        plain = answered[number][0]
        assert plain.words is None
        assert plain.first == baseline.first
        assert plain.token_ids == baseline.token_ids
    later = answered_alone(both, LOOKED)
    assert later
    assert {one.words for one in later} == {one.first for one in later} == {None}
    baseline_only = answered_alone(replace(both, main=None), 0)
    assert baseline_only
    assert {one.first for one in baseline_only} == {None}


def test_a_line_of_an_older_run_has_no_words() -> None:
    data = json.loads(a_sample(LabelKind.REFUSED).to_line())
    del data["words"], data["first"]
    old = Sample.from_line(json.dumps(data))
    assert old == a_sample(LabelKind.REFUSED)
    with pytest.raises(TypeError, match="'b' is not"):
        Sample.from_line(json.dumps({**data, "words": [["a", "b"]]}))


def test_lines_keep_what_was_tried_further(answered: Answered) -> None:
    for batch in answered:
        for sample in batch:
            assert Sample.from_line(sample.to_line()) == sample


def test_a_batch_that_is_stopped_anywhere_is_none(demo_evaluation: Evaluation) -> None:
    calls = count()
    turned_at = next(
        number
        for number in range(16)
        if (found := answered_alone(demo_evaluation, number)) and found[1].opened
    )
    whole = answered_alone(demo_evaluation, turned_at, lambda: next(calls) < 0)
    total = next(calls)
    assert whole
    assert whole[0].extended
    for allowed in range(0, total, 5):
        asked = count()
        stopped = answered_alone(
            demo_evaluation,
            turned_at,
            lambda asked=asked, allowed=allowed: next(asked) >= allowed,
        )
        assert stopped is None


def test_the_baseline_is_never_begun_otherwise(answered: Answered) -> None:
    assert all(batch[0].arm == BASELINE.label for batch in answered)
    assert not any(batch[0].opened for batch in answered)
