"""Requests of different arms are rows of one batch, and each is what it is alone."""

import itertools
import pkgutil
import random
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from engines import Got, alone, asked, run
from tiny_models import FAMILIES, MIXTURES, OTHERS, make_model

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError, OutOfMemoryError
from cna_mlx.models.families import widths
from cna_mlx.serve.engine import Engine, StoppedError
from cna_mlx.serve.feeding import Feeding
from cna_mlx.serve.rows import Row
from cna_mlx.serve.work import AnswerPart, Lookup, ScorePrompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.gauge_scale import Scale
from cna_mlx.steering.sampling import Greedy, Sampled
from cna_mlx.strength import Pin

FAST_FAMILIES = ("llama", "llama-sliding", "gemma2", "qwen3_next", "nemotron_h")
DRAW = random.Random(5)
PROMPTS = [[DRAW.randrange(3, 500) for _ in range(n)] for n in (1, 2, 5, 9, 17, 30, 41)]


def arms_of(model: Any) -> list[Arm]:
    """The baseline, multipliers below and above 1, a pin, and two circuits."""
    sizes = widths(model)
    draw = np.random.default_rng(3)
    layers = [layer for layer, size in enumerate(sizes) if size]

    def circuit(count: int) -> Circuit:
        return Circuit.from_neurons(
            (layer, int(index), 1.0)
            for layer in layers
            for index in draw.choice(sizes[layer], count, replace=False)
        )

    first, second = circuit(sizes[layers[0]] // 4), circuit(5)
    return [
        BASELINE,
        *(Arm.of(first, m) for m in (0.0, 0.5, 3.0)),
        Arm("two", ((first, 0.0), (second, -2.0))),
        Arm.of(second, 0.0, "second"),
        Arm.of(second, Pin(0.3), "pinned"),
    ]


def families() -> list[Any]:
    every = [*FAMILIES, *OTHERS, *MIXTURES]
    return [
        name if name in FAST_FAMILIES else pytest.param(name, marks=pytest.mark.slow)
        for name in every
    ]


@pytest.mark.parametrize("family", families())
def test_a_request_is_answered_as_alone(family: str, endless: Any) -> None:
    """Whatever runs beside it, and whenever it comes."""
    model = make_model(family)
    arms, draw = arms_of(model), random.Random(family)
    wanted = []
    for number in range(24):
        sampling = Sampled(0.8, seed=number) if number % 5 == 4 else Greedy()
        prompt, tokens = draw.choice(PROMPTS), draw.choice([1, 2, 7, 20])
        work, got = asked(prompt, draw.choice(arms), tokens, sampling=sampling)
        wanted.append((work, got))
    engine = Engine(model, endless, rows=7, cache_bytes=0)
    # half of them come while others run
    later = [work for work, _ in wanted[12:]]

    def more(event: Any) -> None:
        if later and isinstance(event, AnswerPart):
            engine.submit(later.pop(0))

    for _, got in wanted:
        got.then = more
    run(engine, *(work for work, _ in wanted[:12]))
    assert not later
    for work, got in wanted:
        options = work.max_tokens, work.sampling
        answer = alone(model, endless, work.prompt, work.arm, *options)
        assert got.error is None
        assert got.ids == list(answer.token_ids)
        assert (got.text, got.finish) == (answer.text, answer.finish)


@pytest.mark.parametrize("family", ["llama", "llama-sliding", "nemotron_h"])
def test_a_cache_serves_only_the_arm_that_made_it(family: str, endless: Any) -> None:
    """A steered cache never serves an unsteered request; all pairs of arms."""
    model = make_model(family)
    first, second = PROMPTS[5], [*PROMPTS[5], *PROMPTS[3]]
    for before, after in itertools.product(arms_of(model), repeat=2):
        engine = Engine(model, endless)
        work, got = asked(first, before, 4)
        run(engine, work)
        assert engine.cached_bytes > 0
        # the conversation goes on, in the same arm or another
        work, got = asked([*first, *got.ids[:3], *second], after, 8)
        run(engine, work)
        answer = alone(model, endless, work.prompt, after, 8)
        assert got.read is not None
        assert (got.read.cached > 0) == (before == after)
        assert got.ids == list(answer.token_ids)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_padding_of_one_token_is_fed_too(rows: int, endless: Any) -> None:
    """A windowed cache takes one token for a step of decoding."""
    model, draw = make_model("olmo3"), random.Random(2)
    sizes = [(2, 1, 1), (514, 500, 2), (1026, 2, 1025)][rows - 1]
    works = [
        asked([draw.randrange(3, 500) for _ in range(size)], BASELINE, 4)
        for size in sizes
    ]
    engine = Engine(model, endless, cache_bytes=0)
    feeding = Feeding(
        model,
        [Row(work, endless.detokenizer) for work, _ in works],
        engine._edits,
        engine._kept,
    )
    while not feeding.feed(512 * len(works)):
        pass
    first = feeding.first(Scale).ids.tolist()
    for token, (work, _) in zip(first, works, strict=True):
        assert token == alone(model, endless, work.prompt, BASELINE, 1).token_ids[0]


def test_the_same_prompt_is_read_once(llama: Any, endless: Any) -> None:
    engine, arms = Engine(llama, endless), arms_of(llama)
    for arm in arms:
        for expected in (0, len(PROMPTS[6]) - 1):
            work, got = asked(PROMPTS[6], arm, 3)
            run(engine, work)
            assert got.read is not None
            assert got.read.cached == expected
            assert got.ids == list(alone(llama, endless, PROMPTS[6], arm, 3).token_ids)


def test_kept_caches_stay_below_their_limit(llama: Any, endless: Any) -> None:
    whole = Engine(llama, endless)
    for prompt in PROMPTS:
        run(whole, asked(prompt, BASELINE, 3)[0])
    engine = Engine(llama, endless, cache_bytes=whole.cached_bytes // 2)
    for prompt in PROMPTS:
        run(engine, asked(prompt, BASELINE, 3)[0])
        assert engine.cached_bytes <= whole.cached_bytes // 2
    assert engine.cached_bytes > 0


def test_long_prompts_are_fed_in_parts_beside_the_answers(
    llama: Any, endless: Any
) -> None:
    draw = random.Random(1)
    long = [draw.randrange(3, 500) for _ in range(1500)]
    short, answers = asked([5, 6, 7], BASELINE, 60)
    engine, order = Engine(llama, endless), []
    work, got = asked(long, arms_of(llama)[1], 5)
    got.then = lambda event: order.append(("long", event))

    def once(event: Any) -> None:
        order.append(("short", event))
        if len(answers.tokens) == 1:
            engine.submit(work)

    answers.then = once
    run(engine, short)
    reading = order[: order.index(("long", got.events[0]))]
    assert sum(who == "short" for who, _ in reading) > 3
    assert got.ids == list(alone(llama, endless, long, work.arm, 5).token_ids)
    assert answers.ids == list(alone(llama, endless, [5, 6, 7], BASELINE, 60).token_ids)


def test_no_more_rows_and_tokens_than_allowed(llama: Any, endless: Any) -> None:
    engine = Engine(llama, endless, rows=4, tokens=200)
    works = [asked(prompt, BASELINE, 20) for prompt in PROMPTS * 2]
    sizes = []

    def look(event: Any) -> None:
        rows = [row for row in engine._rows.rows if not row.is_over]
        longest = max((row.longest for row in rows), default=0)
        sizes.append((len(rows), len(rows) * longest))

    for _, got in works:
        got.then = look
    run(engine, *(work for work, _ in works))
    assert max(rows for rows, _ in sizes) == 4
    assert max(tokens for rows, tokens in sizes if rows > 1) <= 200
    assert all(got.finish == "length" for _, got in works)


def test_requests_are_taken_in_order(llama: Any, endless: Any) -> None:
    engine, begun = Engine(llama, endless, rows=2), []
    works = [asked(PROMPTS[n % 7], BASELINE, 4) for n in range(12)]
    for number, (_, got) in enumerate(works):
        got.then = lambda event, number=number: begun.append(number)
    run(engine, *(work for work, _ in works))
    assert list(dict.fromkeys(begun)) == sorted(set(begun))


# --- ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0, 1, 5])
def test_a_request_that_is_given_up_frees_its_row(
    when: int, llama: Any, endless: Any
) -> None:
    engine = Engine(llama, endless)
    gone, ended = asked(PROMPTS[3], BASELINE, 1000)
    stays, got = asked(PROMPTS[4], BASELINE, 9)

    def leave(event: Any) -> None:
        if len(got.tokens) == when:
            engine.cancel(gone)

    got.then = leave
    if when == 0:
        engine.submit(gone)
        engine.cancel(gone)
        run(engine, stays)
    else:
        run(engine, gone, stays)
    assert len(ended.tokens) <= when + 2
    assert ended.finish is None
    assert ended.error is None
    assert got.ids == list(alone(llama, endless, PROMPTS[4], BASELINE, 9).token_ids)
    assert engine.running == 0


def test_stopping_now_fails_what_runs_and_waits(llama: Any, endless: Any) -> None:
    engine = Engine(llama, endless, rows=1)
    runs, waits = asked([5], BASELINE, 1000), asked([6], BASELINE, 5)
    late, score = asked([7], BASELINE, 5), Got()
    runs[1].then = lambda event: (
        engine.finish(now=True) if len(runs[1].tokens) == 3 else None
    )
    for work, _ in (runs, waits):
        engine.submit(work)
    engine.run()
    engine.submit(late[0])
    engine.submit(ScorePrompt(score.deliver, [3, 4], BASELINE))
    engine.run()
    for got in (runs[1], waits[1], late[1], score):
        assert isinstance(got.error, StoppedError)


def test_work_that_comes_after_the_end_is_told_at_once(
    llama: Any, endless: Any
) -> None:
    """Its client would wait for nothing, and the server for its client."""
    engine = Engine(llama, endless)
    engine.finish()
    engine.run()
    work, got = asked([5], BASELINE)
    engine.submit(work)
    assert isinstance(got.error, StoppedError)


def test_a_row_whose_logits_are_not_finite_fails_alone(
    llama: Any, endless: Any
) -> None:
    huge = Arm.of(arms_of(llama)[1].steering[0][0], 3e38)  # type: ignore[arg-type]
    bad, error = asked(PROMPTS[3], huge)
    good, got = asked(PROMPTS[4], BASELINE)
    run(Engine(llama, endless), bad, good)
    assert "take a smaller one" in str(error.error)
    assert got.ids == list(alone(llama, endless, PROMPTS[4], BASELINE).token_ids)


def test_a_row_whose_token_has_no_text_fails_alone(
    llama: Any, endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mlx-lm's detokenizers fail at tokens beyond the tokenizer's."""
    said: list[str] = []
    engine = Engine(llama, endless, warn=said.append)
    works = [asked(PROMPTS[n], BASELINE, 6) for n in (3, 4)]
    error: Any = IndexError("list index out of range")
    real = Row.take
    monkeypatch.setattr(Row, "take", failing(real, error, after=2))
    run(engine, *(work for work, _ in works))
    (failed,) = (got for _, got in works if got.error)
    assert failed.error is error
    for work, got in works:
        if got is not failed:
            right = alone(llama, endless, work.prompt, BASELINE, 6)
            assert got.ids == list(right.token_ids)
    assert said == []


@pytest.mark.parametrize("error", [OutOfMemoryError("no memory"), KeyError("a bug")])
def test_an_error_ends_what_runs_and_the_rest_goes_on(
    error: Exception, llama: Any, endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    engine = Engine(llama, endless, rows=2, warn=said.append)
    works = [asked(PROMPTS[3], BASELINE, 6) for _ in range(4)]
    monkeypatch.setattr(
        engine._rows, "_pass", failing(engine._rows._pass, error, after=2)
    )
    run(engine, *(work for work, _ in works))
    assert [got.error is error for _, got in works] == [True, True, False, False]
    right = list(alone(llama, endless, PROMPTS[3], BASELINE, 6).token_ids)
    assert [got.ids for _, got in works[2:]] == [right, right]
    assert len(said) == 1


def failing(real: Any, error: Exception, after: int) -> Any:
    """Fail once, after some calls."""
    calls = itertools.count()

    def call(*arguments: Any) -> Any:
        if next(calls) == after:
            raise error
        return real(*arguments)

    return call


PARTS = [
    "cna_mlx.serve.engine.Feeding.__init__",
    "cna_mlx.serve.engine.Feeding.feed",
    "cna_mlx.serve.engine.Feeding.first",
    "cna_mlx.serve.engine.RunningRows.join",
    "cna_mlx.serve.engine.score_prompts",
]


@pytest.mark.parametrize("part", [*PARTS, "engines.Got"])
def test_a_signal_leaves_nobody_waiting(
    part: str, llama: Any, endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the third Ctrl-C comes; the last place is a lookup."""
    interrupt: Any = KeyboardInterrupt()
    call = failing(pkgutil.resolve_name(part), interrupt, after=0)
    engine = Engine(llama, endless, lookups={"call": call})
    looked, scored = Got(), Got()
    work, answer = asked(PROMPTS[3], BASELINE, 6)
    monkeypatch.setattr(part, call)
    engine.submit(work)
    engine.submit(ScorePrompt(scored.deliver, PROMPTS[3], BASELINE))
    engine.submit(Lookup(looked.deliver, "call", {}))
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert answer.is_over
    assert scored.is_over
    assert looked.is_over
    assert isinstance(looked.error, StoppedError)


@pytest.mark.parametrize("part", PARTS)
def test_whoever_fails_is_told_and_nobody_else(
    part: str, llama: Any, endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing hangs, wherever it fails."""
    said: list[str] = []
    engine = Engine(llama, endless, warn=said.append)
    runs, answer = asked(PROMPTS[4], BASELINE, 30)
    error, scored, failed = KeyError("a bug"), Got(), asked(PROMPTS[3], BASELINE, 6)
    score = ScorePrompt(scored.deliver, PROMPTS[3], BASELINE)

    def once(event: Any) -> None:
        if len(answer.tokens) == 3:
            monkeypatch.setattr(
                part, failing(pkgutil.resolve_name(part), error, after=0)
            )
            engine.submit(failed[0])
            engine.submit(score)

    answer.then = once
    run(engine, runs)
    is_score = part.endswith("score_prompts")
    assert (scored.error is error) == is_score
    assert (failed[1].error is error) != is_score
    assert bool(scored.scores) != is_score
    if not part.endswith("join"):  # there the batch itself may be broken
        right = alone(llama, endless, PROMPTS[4], BASELINE, 30)
        assert answer.ids == list(right.token_ids)
    assert answer.is_over
    assert len(said) == 1


def test_a_lookup_comes_between_two_steps(llama: Any, endless: Any) -> None:
    said: list[str] = []

    def fails() -> None:
        raise CnaError("no")

    def shape(tokens: int) -> Any:
        return llama(mx.array([[5] * tokens])).shape

    engine = Engine(
        llama, endless, lookups={"shape": shape, "fails": fails}, warn=said.append
    )
    got, failed = Got(), Got()
    work, answer = asked(PROMPTS[3], arms_of(llama)[1], 6)
    look = Lookup(got.deliver, "shape", {"tokens": 2})
    run(engine, work, look, Lookup(failed.deliver, "fails", {}))
    assert got.value == (1, 2, 512)
    assert str(failed.error) == "no"
    assert said == []  # it ended nobody else's
    right = alone(llama, endless, PROMPTS[3], work.arm, 6)
    assert answer.ids == list(right.token_ids)


# --- what stands beside the tokens ----------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "llama-sliding", "qwen3_next", "gemma2"])
def test_scores_are_the_models_own(family: str, endless: Any) -> None:
    model = make_model(family)
    engine = Engine(model, endless)
    works = []
    for number, (prompt, arm) in enumerate(itertools.product(PROMPTS, arms_of(model))):
        got = Got()
        works.append(
            (ScorePrompt(got.deliver, prompt, arm, number % 4, follows=True), got)
        )
    run(engine, *(work for work, _ in works))
    from cna_mlx.steering.interventions import Edits

    for work, got in works:
        with Edits(model, work.arm.steering).installed():
            logits = model(mx.array([list(work.prompt)]))[0].astype(mx.float32)
        right = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        ids = [token.id for token in got.scores]
        assert ids[:-1] == list(work.prompt)
        assert ids[-1] == int(right[-1].argmax())
        assert np.isnan(got.scores[0].logprob)
        for place, token in enumerate(got.scores[1:]):
            assert token.logprob == pytest.approx(right[place, token.id], abs=1e-4)
            best = np.argsort(-right[place], kind="stable")[: work.top]
            found = [one for one, _ in token.top]
            assert found[: work.top] == best.tolist()


def test_an_answers_tokens_have_their_log_probabilities(
    llama: Any, endless: Any
) -> None:
    arm = arms_of(llama)[1]
    work, got = asked(PROMPTS[4], arm, 6, top=3)
    other, plain = asked(PROMPTS[3], BASELINE, 6)
    run(Engine(llama, endless), work, other)
    scored = Got()
    again = [*PROMPTS[4], *got.ids]
    run(Engine(llama, endless), ScorePrompt(scored.deliver, again, arm, 3))
    for one, right in zip(got.tokens, scored.scores[-6:], strict=True):
        assert one.logprob == pytest.approx(right.logprob, abs=1e-4)
        assert [token for token, _ in one.top[:3]] == [t for t, _ in right.top]
    assert got.tokens[0].top[0][0] == got.ids[0]  # greedy
    assert len(plain.tokens) == 6


def test_stops_end_an_answer(llama: Any, endless: Any) -> None:
    whole = alone(llama, endless, PROMPTS[4], BASELINE, 30).text
    stop = whole[len(whole) // 2 :][:3]
    work, got = asked(PROMPTS[4], BASELINE, 30, stops=["never there", stop])
    run(Engine(llama, endless), work)
    assert got.text == whole[: whole.index(stop)]
    assert got.finish == "stop"
