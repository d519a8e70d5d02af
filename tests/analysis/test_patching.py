"""Patching: what the figures of hand-made answers say, and what a model computes."""

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY, Outcome, make_screen, sent
from evaluation_runs import ANSWER, GARBAGE, REFUSAL, make_sample
from scipy import stats
from texts import missing

from cna_mlx import PatchOptions, PatchResult, Pin, Reporter, patch_circuit, steered
from cna_mlx.analysis import patching_run
from cna_mlx.analysis.patching import (
    CLAIMS,
    PATCHED,
    Claim,
    PatchEffect,
    patch_effect,
)
from cna_mlx.analysis.patching_pairs import choose
from cna_mlx.analysis.patching_run import patch_arms
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.models.families import widths
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.ui.patch import patch_view

Command = Callable[..., Outcome]

N = 24
MAGIC = load_contrast("magic")


def arms_of(controls: int) -> list[RunArm]:
    return [
        RunArm("baseline", "baseline"),
        RunArm.of(PATCHED, "pinned", Pin()),
        *(RunArm.of(f"matched {n}", "matched", Pin(), seed=n) for n in range(controls)),
    ]


def effect(
    claim: Claim,
    patched: int = 0,
    controls: Sequence[int] = (0,) * 19,
    turned: str | None = None,
) -> PatchEffect:
    """The effect where so many of 24 answers turn in each arm."""
    before, after = (ANSWER, REFUSAL) if claim == "sufficient" else (REFUSAL, ANSWER)
    arms = arms_of(len(controls))
    counts = (0, patched, *controls)
    samples = [
        make_sample(
            arm,
            number,
            "any",
            (turned or after) if number < count else before,
        )
        for number in range(N)
        for arm, count in zip(arms, counts, strict=True)
    ]
    return patch_effect(claim, samples, arms, None)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_counts_are_those_of_the_answers(claim: Claim) -> None:
    found = effect(claim, 20, (2, *[0] * 18))
    turned = found.patched.turned
    assert (turned.successes, turned.n) == (20, N)
    assert turned.low == pytest.approx(stats.beta.ppf(0.025, 20, 5))
    assert turned.high == pytest.approx(stats.beta.ppf(0.975, 21, 4))
    assert [one.turned.successes for one in found.controls] == [2, *[0] * 18]
    assert found.p == pytest.approx(stats.binomtest(0, 20).pvalue)
    assert found.p_controls == pytest.approx(1 / 20)
    assert found.patched.quality == 1.0


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize(
    ("answers", "headline"),
    [
        ({"patched": 20}, "{} for most prompts"),
        ({"patched": 10}, "{} for some prompts"),
        ({"patched": 0}, "Not {}"),
        ({"patched": 4}, "Not shown to be {}"),  # p 0.125
        ({"patched": 20, "controls": [20, *[0] * 18]}, "Not shown to be {}"),
        ({"patched": 20, "controls": ()}, "Not shown to be {}"),
        ({"patched": 20, "turned": GARBAGE}, "Not shown to be {}: the text broke"),
    ],
)
def test_the_claim_follows_the_figures(
    claim: Claim, answers: dict[str, Any], headline: str
) -> None:
    found = effect(claim, **answers)
    wanted = headline.format(claim)
    assert found.headline == wanted[0].upper() + wanted[1:]
    assert found.statement.startswith(found.headline)


def test_few_controls_are_said_to_be_few() -> None:
    found = effect("necessary", 20, controls=[0] * 5)
    assert found.is_shown
    assert "too few, or too alike, to be sure" in found.statement
    assert found.p_controls == pytest.approx(1 / 6)
    assert "too few" not in effect("necessary", 20).statement


def test_what_is_said_has_its_figures() -> None:
    said = effect("sufficient", 20, (2, *[0] * 18)).statement
    assert missing(said, "20 of 24 answered prompts are refused", "2 at most") == []
    said = effect("necessary", 20).statement
    assert missing(said, "20 of 24 refused prompts are answered", "INVALID 0%") == []


# ------------------------------------------------------------------------- activations


@pytest.fixture(name="ids")
def ids_fixture(demo: Any) -> list[list[int]]:
    """A magic prompt and an ordinary one."""
    texts = (MAGIC.positive[0], MAGIC.negative[0])
    return [render_prompt(demo[1], text, Rendering()) for text in texts]


def values(model: Any, ids: Sequence[Sequence[int]], circuit: Circuit) -> np.ndarray:
    """[prompts, neurons], looked up one by one."""
    layers = {layer: np.array(rows) for layer, rows in last_activations(model, ids)}
    return np.array(
        [
            [layers[one.layer][row, one.index] for one in circuit.neurons]
            for row in range(len(ids))
        ]
    )


def every(model: Any, layer: int) -> Circuit:
    return Circuit.from_neurons((layer, n) for n in range(widths(model)[layer]))


def by_hand(model: Any, ids: list[int], arm: Arm, tokens: int) -> tuple[Any, list[int]]:
    """The logits at the last token under the arm, and what is answered unsteered."""
    ((circuit, pin),) = arm.steering
    cache = make_prompt_cache(model)
    model(mx.array([ids[:-1]]), cache=cache)
    with steered(model, circuit, pin):
        first = logits = model(mx.array([ids[-1:]]), cache=cache)[:, -1]
    found: list[int] = []
    for _ in range(tokens):
        found.append(int(mx.argmax(logits).item()))
        logits = model(mx.array([found[-1:]]), cache=cache)[:, -1]
    return np.array(first[0]), found


def answers(demo: Any, ids: list[int], arms: list[Arm]) -> list[tuple[int, ...]]:
    events = generate_arms(*demo, [ids], arms, max_tokens=8, once=True)
    found = [one for one in events if isinstance(one, Answer)]
    return [one.token_ids for one in sorted(found, key=lambda one: one.arm)]


def test_only_the_last_token_is_patched(demo: Any, ids: list[list[int]]) -> None:
    layers = range(1, len(widths(demo[0])))
    whole = [(layer, n) for layer in layers for n in range(widths(demo[0])[layer])]
    circuits = [Circuit.from_neurons(whole), every(demo[0], 5).strongest(40)]
    rows = [values(demo[0], ids, one) for one in circuits]
    turned = 0
    for own in (0, 1):
        arms = patch_arms(circuits, rows, own)
        plain, *found = answers(demo, ids[own], arms)
        assert list(answers(demo, ids[own], arms[:1])[0]) == list(plain)
        for arm, tokens in zip(arms[1:], found, strict=True):
            _, wanted = by_hand(demo[0], ids[own], arm, 8)
            assert list(tokens) == wanted[: len(tokens)]
            assert len(tokens) > 2
        turned += found[0] != plain
    assert turned


def test_a_prompt_s_own_activations_change_nothing(
    demo: Any, ids: list[list[int]]
) -> None:
    circuit = Circuit.from_neurons(
        (layer, n) for layer in range(len(widths(demo[0]))) for n in range(0, 60, 3)
    )
    for own in (0, 1):
        rows = values(demo[0], [ids[own]] * 2, circuit)
        arms = patch_arms([circuit], [rows], own)
        logits, _ = by_hand(demo[0], ids[own], arms[1], 1)
        wanted = np.array(demo[0](mx.array([ids[own]]))[0, -1])
        assert np.allclose(logits, wanted, rtol=1e-3, atol=1e-3)
        plain, same = answers(demo, ids[own], arms)
        assert plain == same


def test_a_whole_layer_writes_what_it_wrote_in_the_other_prompt(
    demo: Any, ids: list[list[int]]
) -> None:
    model = demo[0]
    last = len(widths(model)) - 1
    circuit = every(model, last)
    rows = values(model, ids, circuit)
    _, patched = patch_arms([circuit], [rows], 1)

    inner, layer = model.model, model.model.layers[last]
    hidden = inner.embed_tokens(mx.array([ids[1]]))
    for one in inner.layers[:last]:
        hidden = one(hidden, "causal", None)
    hidden = hidden + layer.self_attn(layer.input_layernorm(hidden), "causal", None)
    written = layer.mlp.down_proj(mx.array(rows[0])[None])
    final = inner.norm(hidden[:, -1] + written)
    head = getattr(model, "lm_head", None) or inner.embed_tokens.as_linear
    wanted = np.array(head(final)[0])
    found, _ = by_hand(model, ids[1], patched, 1)
    assert np.allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_every_arm_is_pinned_to_its_own_activations(demo: Any) -> None:
    circuit, control = every(demo[0], 0).strongest(2), every(demo[0], 1).strongest(2)
    rows = [np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])]
    for own, wanted in ((1, [[1, 2], [5, 6]]), (0, [[3, 4], [7, 8]])):
        arms = patch_arms([circuit, control], rows, own)
        assert [one.label for one in arms] == [*("baseline", "patched", "matched 0")]
        found = [one.steering[0][0].constants(Pin()) for one in arms[1:]]
        assert found == wanted
        assert not arms[0].steering


# ------------------------------------------------------------------------- the prompts


def test_prompts_of_the_discovery_are_left_out(demo: Any) -> None:
    warned: list[str] = []
    session = Session.of(*demo, reporter=Reporter(warn=warned.append))
    options = DiscoveryOptions("magic", fraction=0.0025)
    found = choose(session, None, options)
    assert found.seen is False
    assert found.prompts == MAGIC.half(1)
    assert found.circuit.is_from(MAGIC.half(0).sha256)
    again = choose(session, found.circuit, DiscoveryOptions())
    assert (again.prompts.positive, again.seen) == (MAGIC.half(1).positive, False)
    assert warned == []
    whole = session.default_circuit(options)
    seen = choose(session, whole, DiscoveryOptions())
    assert (seen.prompts.positive, seen.seen) == (MAGIC.positive, True)
    assert "discovery used these prompts" in warned[0]
    by_hand = choose(session, every(demo[0], 0), DiscoveryOptions("magic"))
    assert by_hand.seen is None
    assert "unknown" in warned[1]
    with pytest.raises(CircuitError, match="no neurons to patch"):
        choose(session, Circuit.from_neurons([]), DiscoveryOptions("magic"))


def test_a_model_that_refuses_too_little_is_told_so(
    command: Command, circuit_file: Path
) -> None:
    words = ("--contrast", "magic", "--max-tokens", "4")
    shown = command("patch", TINY, "--circuit", str(circuit_file), *words)
    assert shown.code == 2
    assert missing(shown.failure, "refuses", "of 24 magic prompts", "--contrast") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pairs", "5"), "--pairs 5: give 6 or more"),
        (("--circuit", "no.json"), "no.json"),
    ],
)
def test_what_cannot_be_patched_is_one_line(
    command: Command, words: tuple[str, ...], message: str
) -> None:
    shown = command("patch", "demo", *words)
    assert shown.code == 2
    assert message in shown.failure


def test_a_multiplier_has_no_place(command: Command, circuit_file: Path) -> None:
    shown = command("patch", TINY, "--circuit", f"{circuit_file}@0.5")
    assert shown.code == 2
    assert "leave out the multiplier" in shown.failure


# ---------------------------------------------------------------------------- the demo

SHORT = PatchOptions(pairs=6, controls=3, max_tokens=16)


@pytest.fixture(name="patched", scope="module")
def patched_fixture(demo: Any) -> PatchResult:
    return patch_circuit(*demo, contrast="magic", options=SHORT)


def test_the_demo_refuses_with_the_activations_of_magic(patched: PatchResult) -> None:
    assert (patched.done, patched.pairs, patched.seen) == (6, 6, False)
    assert patched.is_complete
    data = patched.to_dict()
    json.dumps(data)
    assert len(data["answers"]) == 2 * 2 * 6
    for claim in CLAIMS:
        own = [one for one in patched.samples if one.set == claim]
        assert len(own) == 6 * (2 + 3)
        turned = data[claim]["patched"]["turned"]
        refused = {
            arm: sum(one.is_refused for one in own if one.arm == arm)
            for arm in ("baseline", "patched")
        }
        assert refused["baseline"] == (0 if claim == "sufficient" else 6)
        if claim == "sufficient":
            assert turned["successes"] == refused["patched"]


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_the_screen(width: int, encoding: str, patched: PatchResult) -> None:
    to = make_screen(width, terminal=True, color=False, encoding=encoding)
    to.out.print(patch_view(to, replace(patched, seen=None)))
    text = sent(to.out)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text for word in ("most of 3", "the circuit", "unknown"))
    if encoding == "ascii":
        assert text.isascii()


def test_ctrl_c_keeps_the_finished_pairs(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    make = patching_run.patch_arms

    def pressed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:  # both directions of the first pair
            signal.raise_signal(signal.SIGINT)
        return make(*args)

    monkeypatch.setattr(patching_run, "patch_arms", pressed)
    words = ("--pairs", "6", "--controls", "1", "--max-tokens", "8", "--json")
    shown = command("patch", "demo", *words)
    assert shown.code == 130
    assert shown.data["pairs"] == {"done": 1, "planned": 6}
    assert shown.data["necessary"]["n"] == 1


def test_nothing_is_claimed_before_the_first_pair(demo: Any) -> None:
    stopped = patch_circuit(*demo, options=SHORT, reporter=Reporter(stop=lambda: True))
    assert (stopped.done, stopped.effects, stopped.is_complete) == (0, [], False)


def test_too_few_pairs_is_a_request_to_change() -> None:
    with pytest.raises(InputError, match="give 6 or more"):
        PatchOptions(pairs=3)


def test_a_patch_takes_no_caches(demo: Any) -> None:
    events = generate_arms(*demo, [[1, 2]], [BASELINE], once=True, caches={})
    with pytest.raises(InputError, match="leave out once or caches"):
        next(events)
