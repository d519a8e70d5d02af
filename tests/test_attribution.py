"""Which neurons flipped an answer: each alone, and the words that it speaks for."""

import io
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from rich.console import Console

from cna_mlx import Arm, Circuit, steered
from cna_mlx.attribution import causes, output_direction, promoted_tokens
from cna_mlx.chat import STEERED, Conversation, Turn, carry_out
from cna_mlx.comparison import ArmResult, PromptResult
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.evaluation.labels import Label, Verdict
from cna_mlx.models.families import family_of
from cna_mlx.ui.chat import closing
from cna_mlx.ui.console import Screen


def dense_down(model: Any, layer: int) -> mx.array:
    projection = model.model.layers[layer].mlp.down_proj
    if not hasattr(projection, "bits"):
        return projection.weight.astype(mx.float32)
    return mx.dequantize(
        projection.weight,
        projection.scales,
        projection.biases,
        group_size=projection.group_size,
        bits=projection.bits,
    ).astype(mx.float32)


def test_a_column_alone_is_that_of_the_whole_projection(model: Any) -> None:
    for layer in range(len(model.layers)):
        whole = dense_down(model, layer)
        for index in (0, 31, 32, 77, whole.shape[1] - 1):
            assert mx.array_equal(
                output_direction(model, layer, index), whole[:, index]
            )


def test_every_neuron_alone_is_what_ablating_it_by_itself_gives(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    text, token = ids[4], 9

    def logprob() -> float:
        logits = llama(mx.array([text]))[0, -1]
        return (logits[token] - mx.logsumexp(logits)).item()

    expected = {}
    for neuron in circuit.neurons:
        before = logprob()
        with steered(llama, Circuit((neuron,)), 0.0):
            expected[neuron] = before - logprob()
    found = causes(llama, tokenizer, circuit, text, token, top=len(circuit.neurons))
    assert {cause.neuron for cause in found} == set(circuit.neurons)
    for cause in found:
        assert cause.drop == pytest.approx(expected[cause.neuron], abs=2e-5)
    sizes = [abs(cause.drop) for cause in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) > 1e-3
    few = causes(llama, tokenizer, circuit, text, token, top=3)
    assert few == found[:3]


def test_the_words_are_those_of_the_column_through_norm_and_unembedding(
    llama: Any, tokenizer: Any
) -> None:
    for delta in (1.0, -1.0):
        (neuron,) = Circuit.from_neurons([(1, 40, delta)]).neurons
        column = np.array(dense_down(llama, 1)[:, 40], dtype=np.float64) * delta
        scaled = column / np.sqrt((column**2).mean() + 1e-5)
        scaled = scaled * np.array(llama.model.norm.weight)
        logits = np.array(llama.model.embed_tokens.weight) @ scaled
        best = np.argsort(-logits)[:5]
        words = tuple(tokenizer.decode([int(i)]) for i in best)
        assert promoted_tokens(llama, tokenizer, neuron) == words


def test_the_last_step_of_a_model_is_its_own(model: Any, ids: list[list[int]]) -> None:
    family, text = family_of(model), mx.array([ids[0]])
    # the model's output before its norm, got by taking the norm out for a moment
    norm, model.model.norm = model.model.norm, lambda hidden: hidden
    try:
        hidden = model.model(text)
    finally:
        model.model.norm = norm
    assert mx.array_equal(family.unembed(model, hidden), model(text))


def test_a_circuit_of_another_shape_is_refused(llama: Any, tokenizer: Any) -> None:
    with pytest.raises(CircuitError):
        causes(llama, tokenizer, Circuit.from_neurons([(9, 0)]), [1, 2], 3)
    with pytest.raises(InputError):
        causes(llama, tokenizer, Circuit.from_neurons([(0, 0)]), [], 3)


# ------------------------------------------------------------------ in the chat


@pytest.fixture(name="conversation")
def fixture_conversation(llama: Any, tokenizer: Any, circuit: Circuit) -> Conversation:
    arms = [Arm.of(circuit, 0.0, STEERED)]
    return Conversation(llama, tokenizer, arms, is_ablating=True, max_tokens=8)


def ask(conversation: Conversation, text: str) -> Any:
    return list(conversation.turn(text))[-1].result


def test_why_reads_the_token_where_the_arms_part(conversation: Conversation) -> None:
    ask(conversation, "Sell the boat.")
    result = ask(conversation, "And the car?")
    baseline, other = (arm.token_ids for arm in result.arms)
    pairs = enumerate(zip(baseline, other, strict=False))
    shared = next(i for i, (one, two) in pairs if one != two)
    reply = carry_out(conversation, "/why")
    assert reply.is_data
    assert reply.grid is not None
    head, rows = reply.text, reply.grid.rows
    assert "answered differently before" in reply.remark
    said = conversation.tokenizer.decode([baseline[shared]])
    assert f"at token {shared + 1}" in head
    assert repr(said) in head
    assert len(rows) == 10
    expected = causes(
        conversation.model,
        conversation.tokenizer,
        conversation.circuit,
        [*conversation.asked.ids, *baseline[:shared]],
        baseline[shared],
    )
    assert float(rows[0][0]) == pytest.approx(expected[0].drop, abs=5e-4)


def test_why_and_sweep_need_an_answer_and_two_arms(conversation: Conversation) -> None:
    for command in ("/why", "/sweep"):
        with pytest.raises(InputError, match="ask something first"):
            carry_out(conversation, command)
    conversation.is_ablating = False
    ask(conversation, "Sell the boat.")
    with pytest.raises(InputError, match="/ablate on"):
        carry_out(conversation, "/why")
    conversation.is_ablating = True
    carry_out(conversation, "/multiplier 1")
    ask(conversation, "Sell the boat.")
    assert "nothing was flipped" in carry_out(conversation, "/why").text


def test_sweep_answers_the_last_question_at_every_multiplier(
    conversation: Conversation,
) -> None:
    result = ask(conversation, "Sell the boat.")
    histories = {k: list(v) for k, v in conversation.histories.items()}
    rows = carry_out(conversation, "/sweep 1 0 0 2.5").grid.rows
    assert [row[0] for row in rows] == ["1", "0", "2.5"]
    for row, arm in zip(rows, result.arms, strict=False):
        assert row[1] == arm.label.verdict
    assert conversation.histories == histories
    assert len(conversation.turns) == 1
    assert len(carry_out(conversation, "/sweep").grid.rows) == 7
    for wrong in ("/sweep x", "/sweep nan", "/sweep 0 inf"):
        with pytest.raises(InputError):
            carry_out(conversation, wrong)


def test_two_refusals_come_with_what_to_try() -> None:
    out = Console(file=io.StringIO(), width=80)
    screen = Screen(out, out)
    label = Label(Verdict.REFUSED, (0, 5))
    for verdicts, is_told in (
        ((Verdict.REFUSED, Verdict.REFUSED), True),
        ((Verdict.REFUSED, Verdict.ANSWERED), False),
        ((Verdict.REFUSED,), False),
    ):
        arms = tuple(
            ArmResult(
                Arm(str(n)), "I can't", (1,), "stop", replace(label, verdict=v), 1
            )
            for n, v in enumerate(verdicts)
        )
        turn = Turn(PromptResult("Hi", arms), 1.0, 1.0, 1, True, 0)
        assert ("/sweep" in closing(screen, turn)) == is_told
