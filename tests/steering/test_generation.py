"""Answers: the same tokens as mlx-lm's own loop, in as many arms as one likes."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import sample_utils
from mlx_lm.generate import generate_step
from tiny_models import Ends

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer, Token
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sampling import Greedy, Sampled, _filtered


def answers(*args: Any, **options: Any) -> list[Answer]:
    found = [e for e in generate_arms(*args, **options) if isinstance(e, Answer)]
    return sorted(found, key=lambda answer: (answer.prompt, answer.arm))


def by_mlx_lm(model: Any, ids: list[int], count: int) -> list[int]:
    steps = generate_step(mx.array(ids), model, max_tokens=count)
    return [int(token) for token, _ in steps]


# --- greedy ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "llama-sliding", "qwen2", "qwen3"])
def test_greedy_is_mlx_lms(
    build: Any, endless: Any, ids: list[list[int]], family: str
) -> None:
    model = build(family)
    prompts = [ids[0], ids[4], [9]]
    found = answers(model, endless, prompts, [BASELINE], max_tokens=16)
    for prompt, answer in zip(prompts, found, strict=True):
        assert list(answer.token_ids) == by_mlx_lm(model, prompt, 16)
        assert answer.finish == "length"


def test_four_bits_are_greedy_too(
    build: Any, endless: Any, ids: list[list[int]]
) -> None:
    model = build("llama", "4-bit")
    found = answers(model, endless, [ids[0]], [BASELINE], max_tokens=12)
    assert list(found[0].token_ids) == by_mlx_lm(model, ids[0], 12)


def test_events_tell_the_answers(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    """Chat, diff and evaluation all live on these."""
    arms = [BASELINE, Arm.of(circuit, 0.0), Arm.of(circuit, 3.0)]
    texts: dict[Any, str] = defaultdict(str)
    tokens: dict[Any, list[int]] = defaultdict(list)
    ended = {}
    for event in generate_arms(llama, tokenizer, ids[:3], arms, max_tokens=9):
        key = (event.prompt, event.arm)
        assert key not in ended
        if isinstance(event, Token):
            texts[key] += event.text
            tokens[key].append(event.id)
        else:
            ended[key] = event
    assert set(ended) == {(p, a) for p in range(3) for a in range(3)}
    assert len({answer.token_ids for answer in ended.values()}) > 3
    for key, answer in ended.items():
        assert texts[key] == answer.text
        assert tuple(tokens[key][: len(answer.token_ids)]) == answer.token_ids


def test_labels() -> None:
    circuit = Circuit.from_neurons([(0, 1)])
    assert Arm.of(circuit, 0.5).label == "m=0.5"
    assert Arm.of(circuit, 0).label == "ablated"
    assert Arm.of(circuit, 0, "ablated").label == "ablated"


# --- sampled --------------------------------------------------------------------------


def test_equal_arms_share_their_noise(
    llama: Any, endless: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    ones = [
        BASELINE,
        Arm("one", ((circuit, 1.0),)),
        Arm("none", ()),
        Arm.of(circuit, 0.0),
    ]
    found = answers(
        llama, endless, [ids[0]], ones, max_tokens=20, sampling=Sampled(1.0, seed=3)
    )
    assert found[0].token_ids == found[1].token_ids == found[2].token_ids
    assert found[0].text == found[1].text
    assert found[3].token_ids != found[0].token_ids


def test_seeds(llama: Any, endless: Any, ids: list[list[int]]) -> None:
    def draw(seed: int, prompts: list[list[int]], **options: Any) -> list[Any]:
        sampling = Sampled(1.0, seed=seed, **options)
        found = answers(
            llama, endless, prompts, [BASELINE], max_tokens=16, sampling=sampling
        )
        return [answer.token_ids for answer in found]

    state = [mx.array(part) for part in mx.random.state]
    assert draw(0, ids[:1]) == draw(0, ids[:1])
    assert draw(0, ids[:1]) != draw(1, ids[:1])
    # MLX's own random state is the caller's
    assert all(
        mx.array_equal(a, b) for a, b in zip(state, mx.random.state, strict=True)
    )
    twice = draw(0, [ids[0], ids[0]])
    assert twice[0] != twice[1]  # each prompt has noise of its own
    assert draw(0, [ids[0], ids[0]]) == twice
    greedy = tuple(by_mlx_lm(llama, ids[0], 16))
    assert draw(0, ids[:1], top_p=1e-6)[0] == greedy


def test_a_low_temperature_is_greedy(
    llama: Any, endless: Any, ids: list[list[int]]
) -> None:
    sampling = Sampled(1e-4, seed=5)
    found = answers(
        llama, endless, ids[:1], [BASELINE], max_tokens=16, sampling=sampling
    )
    assert list(found[0].token_ids) == by_mlx_lm(llama, ids[0], 16)


def test_samples_follow_the_distribution(
    llama: Any, endless: Any, ids: list[list[int]]
) -> None:
    """Of many first tokens the frequent one is as frequent as its probability."""
    temperature, draws = 0.7, 400
    logits = llama(mx.array([ids[0]]))[0, -1] / temperature
    expected = mx.softmax(logits)
    top = int(mx.argmax(expected))
    found = answers(
        llama,
        endless,
        [ids[0]] * draws,
        [BASELINE],
        max_tokens=1,
        sampling=Sampled(temperature, seed=1),
    )
    share = sum(answer.token_ids == (top,) for answer in found) / draws
    p = float(expected[top])
    assert 0.05 < p < 0.95  # else it would show nothing
    assert abs(share - p) < 4 * (p * (1 - p) / draws) ** 0.5


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_that_cannot_be(temperature: float) -> None:
    with pytest.raises(InputError, match="temperature"):
        Sampled(temperature)


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.1, float("nan")])
def test_top_p_that_cannot_be(top_p: float) -> None:
    with pytest.raises(InputError, match="top-p"):
        Sampled(1.0, top_p=top_p)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_cannot_be(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        Sampled(1.0, seed=seed)
    assert Sampled(1.0, seed=2**63 - 1).seed


# --- how an answer ends ---------------------------------------------------------------


def test_stop_and_length(llama: Any, tokenizer: Any, ids: list[list[int]]) -> None:
    tokens = by_mlx_lm(llama, ids[0], 12)
    end = next(t for i, t in enumerate(tokens) if i >= 4 and t not in tokens[:i])
    place = tokens.index(end)
    ending = Ends(tokenizer, end)
    for limit, count, finish in (
        (place, place, "length"),
        (place + 1, place, "stop"),
        (12, place, "stop"),
        (1, 1, "length"),
    ):
        found = answers(llama, ending, [ids[0]], [BASELINE], max_tokens=limit)
        assert list(found[0].token_ids) == tokens[:count]
        assert found[0].finish == finish
    found = answers(llama, Ends(tokenizer, tokens[0]), [ids[0]], [BASELINE])
    assert found == [Answer(0, 0, "", (), "stop", end=tokens[0])]


def test_arms_end_each_in_its_time(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    arms = [BASELINE, Arm.of(circuit, 0.0), Arm.of(circuit, 3.0)]
    endless = answers(llama, Ends(tokenizer), [ids[0]], arms, max_tokens=14)
    end = endless[1].token_ids[3]
    found = answers(llama, Ends(tokenizer, end), [ids[0]], arms, max_tokens=14)
    for long, short in zip(endless, found, strict=True):
        whole = list(long.token_ids)
        cut = whole.index(end) if end in whole else 14
        assert list(short.token_ids) == whole[:cut]
        assert short.finish == ("stop" if cut < 14 else "length")
    assert len({len(answer.token_ids) for answer in found}) > 1


def _after(count: int) -> Callable[[], bool]:
    asked = iter(range(count))
    return lambda: next(asked, None) is None


def test_interrupted(llama: Any, endless: Any, ids: list[list[int]]) -> None:
    whole = by_mlx_lm(llama, ids[0], 12)
    seen = set()
    for asked in range(2, 8):
        found = answers(
            llama, endless, [ids[0]], [BASELINE], max_tokens=12, stop=_after(asked)
        )
        assert found[0].finish == "interrupted"
        count = len(found[0].token_ids)
        assert list(found[0].token_ids) == whole[:count]
        seen.add(count)
    assert len(seen) == 6  # one token more for each time that it went on
    # before the first token, and before the next prompt
    found = answers(llama, endless, ids[:2], [BASELINE], stop=lambda: True)
    assert found == []


def test_the_next_prompt_is_not_begun_once_stopped(
    llama: Any, endless: Any, ids: list[list[int]]
) -> None:
    found = answers(llama, endless, ids[:3], [BASELINE], max_tokens=4, stop=_after(4))
    assert len(found) == 1


def test_the_context_ends_the_answer(
    build: Any, endless: Any, ids: list[list[int]]
) -> None:
    model = build("llama", max_position_embeddings=20)
    prompt = (ids[0] * 2)[:15]
    found = answers(model, endless, [prompt], [BASELINE], max_tokens=50)
    assert found[0].finish == "length"
    assert len(found[0].token_ids) == 5
    full = (ids[0] * 2)[:20]
    found = answers(model, endless, [full], [BASELINE], max_tokens=50)
    assert len(found[0].token_ids) == 1
    with pytest.raises(InputError, match=r"prompt 2\b.*\b21\b.*\b20\b"):
        answers(model, endless, [prompt, [*full, 1]], [BASELINE], max_tokens=2)
    with pytest.raises(InputError, match="prompt 2"):
        answers(model, endless, [prompt, []], [BASELINE], max_tokens=2)


# --- text -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_the_text_is_that_of_the_ids(
    llama: Any,
    tokenizers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    """Characters of several bytes arrive whole, also at the end of an answer."""
    tokenizer = Ends(tokenizers[family])
    text = "Grüße, 你好 🙂👍🏽 naïve\n\n  Ω≠∞ ende"
    spelled = tokenizer.encode(text, add_special_tokens=False)
    assert len(spelled) > len(text)  # bytes, not characters
    for count in (len(spelled), len(spelled) - 3, 4, 9, 10, 11):
        script = iter(spelled)
        monkeypatch.setattr(
            "cna_mlx.steering.generation.chooser",
            lambda *_, script=script: lambda logits: mx.array([next(script)]),
        )
        pieces, answer = [], None
        for event in generate_arms(
            llama, tokenizer, [[1, 2]], [BASELINE], max_tokens=count
        ):
            if isinstance(event, Token):
                pieces.append(event.text)
            else:
                answer = event
        assert answer is not None
        assert list(answer.token_ids) == spelled[:count]
        assert answer.text == tokenizer.decode(spelled[:count])
        assert "".join(pieces) == answer.text
        if count == len(spelled):
            assert answer.text == text
            assert "\ufffd" not in "".join(pieces)


def test_random_text_is_that_of_the_ids(
    llama: Any, endless: Any, ids: list[list[int]], circuit: Circuit
) -> None:
    """Two rows do not mix their half characters."""
    arms = [BASELINE, Arm.of(circuit, 0.0), Arm.of(circuit, 4.0)]
    alone = [
        answers(llama, endless, [ids[4]], [arm], max_tokens=30)[0].text for arm in arms
    ]
    found = answers(llama, endless, [ids[4]], arms, max_tokens=30)
    assert [answer.text for answer in found] == alone


# --- bad requests ---------------------------------------------------------------------


def test_requests_that_cannot_be(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    two = [BASELINE, Arm.of(circuit, 0.0)]
    for prompts, arms, limit, message in (
        (ids[:1], [], 5, "one or more arms"),
        (ids[:1], [BASELINE, Arm("baseline", ((circuit, 0.0),))], 5, "label"),
        (ids[:1], two, 0, "max_tokens 0"),
        ([[ids[0]] * 3], two, 5, "prompt 1 has 3 histories for 2 arms"),
        ([ids[0], [ids[0]]], two, 5, "prompt 2 has 1 histories for 2 arms"),
    ):
        with pytest.raises(InputError, match=message):
            answers(llama, tokenizer, prompts, arms, max_tokens=limit)


def test_sampling_is_greedy_by_default(
    llama: Any, endless: Any, ids: list[list[int]]
) -> None:
    options = {"max_tokens": 8}
    default = answers(llama, endless, ids[:1], [BASELINE], **options)
    chosen = answers(llama, endless, ids[:1], [BASELINE], sampling=Greedy(), **options)
    assert default == chosen


@pytest.mark.parametrize(
    "filters", [{"top_k": 3}, {"min_p": 0.2}, {"top_p": 0.8, "min_p": 0.1, "top_k": 2}]
)
def test_filters_keep_the_tokens_that_mlx_lm_keeps(filters: dict[str, Any]) -> None:
    logits = mx.array(np.random.default_rng(5).normal(0, 2, (4, 40)), mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    ours = np.isfinite(np.array(_filtered(logprobs, Sampled(1.0, **filters))))
    theirs = logprobs
    if "top_p" in filters:
        theirs = sample_utils.apply_top_p(theirs, filters["top_p"])
    if "min_p" in filters:
        theirs = sample_utils.apply_min_p(theirs, filters["min_p"])
    if "top_k" in filters:
        theirs = sample_utils.apply_top_k(theirs, filters["top_k"])
    assert (ours == np.isfinite(np.array(theirs))).all()
    assert 0 < ours.sum() < ours.size


def test_filters_larger_than_the_vocabulary_keep_all() -> None:
    logprobs = mx.array([[-1.0, -2.0, -3.0]])
    assert mx.array_equal(_filtered(logprobs, Sampled(1.0, top_k=3)), logprobs)
    assert mx.array_equal(_filtered(logprobs, Sampled(1.0, top_k=9)), logprobs)


@pytest.mark.parametrize("filters", [{"top_k": -1}, {"min_p": -0.1}, {"min_p": 1.1}])
def test_filters_that_cannot_be(filters: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"top-k|min-p"):
        Sampled(1.0, **filters)
