"""Which neurons flipped an answer, and the tokens that they promote."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from rich.console import Console

from cna_mlx import Arm, Circuit, steered
from cna_mlx.chat.commands import run_command
from cna_mlx.chat.conversation import Conversation, Turn
from cna_mlx.discovery import attribution
from cna_mlx.discovery.attribution import (
    ablate_each_neuron,
    output_direction,
    promoted_tokens,
    written_tokens,
)
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.labels.label import Label, LabelKind
from cna_mlx.models.forward import logits
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.ui.chat import closing
from cna_mlx.ui.console import Screen


def dense_down(model: Any, layer: int) -> mx.array:
    projection = model.model.layers[layer].mlp.down_proj
    if not hasattr(projection, "bits"):
        return projection.weight.astype(mx.float32)
    return mx.dequantize(
        projection.weight,
        projection.scales,
        projection.get("biases"),
        group_size=projection.group_size,
        bits=projection.bits,
        mode=projection.mode,
    ).astype(mx.float32)


def test_a_column_alone_is_that_of_the_whole_projection(model: Any) -> None:
    for layer in range(len(model.layers)):
        whole = dense_down(model, layer)
        for index in (0, 31, 32, 77, whole.shape[1] - 1):
            assert mx.array_equal(
                output_direction(model, layer, index), whole[:, index]
            )


# everything that MLX 0.32 quantizes to: mode, bits, group size
LAYOUTS = [
    *(("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
    ("mxfp4", 4, 32),
    ("mxfp8", 8, 32),
    ("nvfp4", 4, 16),
]


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize(("mode", "bits", "size"), LAYOUTS)
def test_a_column_alone_is_the_same_however_it_is_quantized(
    build: Callable[..., Any], mode: str, bits: int, size: int, dtype: Any
) -> None:
    model = build("llama", num_hidden_layers=1, intermediate_size=256)
    model.set_dtype(dtype)
    nn.quantize(
        model,
        group_size=size,
        bits=bits,
        mode=mode,
        class_predicate=lambda path, _: path.endswith("down_proj"),
    )
    whole = dense_down(model, 0)
    for index in (0, 15, 16, 31, 32, 63, 64, 127, 128, 200, 255):
        assert mx.array_equal(output_direction(model, 0, index), whole[:, index])
    # and what the column holds is what the neuron writes
    one = mx.zeros((1, 256), dtype)
    one[0, 200] = 1.0
    written = model.layers[0].mlp.down_proj(one)[0].astype(mx.float32)
    expected = output_direction(model, 0, 200)
    assert mx.allclose(written, expected, rtol=1e-2, atol=1e-3)


def test_every_neuron_alone_is_what_ablating_it_by_itself_gives(
    kind: Any, model: Any, tokenizer: Any, ids: list[list[int]], monkeypatch: Any
) -> None:
    # so that prompts span several steps, and the longest several batches of rows
    monkeypatch.setattr(attribution, "_STEP", 7)
    monkeypatch.setattr(attribution, "_TOKENS", 100)
    random = np.random.default_rng(4)
    places = [(layer, int(i)) for layer in range(3) for i in random.choice(128, 3)]
    circuit, token = Circuit.from_neurons(sorted(set(places))), 9

    def logprob(text: list[int]) -> float:
        logits = model(mx.array([text]))[0, -1].astype(mx.float32)
        return (logits[token] - mx.logsumexp(logits)).item()

    for text in ([5], ids[6], ids[4], [*ids[4], *ids[7]]):
        expected = {}
        for neuron in circuit.neurons:
            before = logprob(text)
            with steered(model, Circuit((neuron,)), 0.0):
                expected[neuron] = before - logprob(text)
        found = ablate_each_neuron(model, tokenizer, circuit, text, token, top=99)
        drops = {cause.neuron: cause.drop for cause in found}
        assert set(drops) == set(circuit.neurons)
        largest = max(map(abs, expected.values()))
        assert largest > 0.02
        slack = 2e-5 if kind.exact else kind.tolerance * largest
        for neuron, drop in drops.items():
            assert drop == pytest.approx(expected[neuron], abs=slack)
        sizes = [abs(cause.drop) for cause in found]
        assert sizes == sorted(sizes, reverse=True)
        assert (
            ablate_each_neuron(model, tokenizer, circuit, text, token, top=3)
            == found[:3]
        )


def test_causes_tell_how_far_they_are(
    llama: Any, tokenizer: Any, circuit: Circuit, ids: list[list[int]]
) -> None:
    told: list[tuple[int, int]] = []

    def listen(task: str, done: int, total: int) -> None:
        told.append((done, total))

    ablate_each_neuron(
        llama, tokenizer, circuit, ids[0], 9, top=1, most=37, progress=listen
    )
    assert told == [(16, 37), (32, 37), (37, 37)]


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
        worst = tuple(tokenizer.decode([int(i)]) for i in np.argsort(logits)[:5])
        assert written_tokens(llama, tokenizer, neuron).suppresses == worst


def test_the_last_step_of_a_model_is_its_own(model: Any, ids: list[list[int]]) -> None:
    text = mx.array([ids[0]])
    # the model's output before its norm, got by taking the norm out for a moment
    norm, model.model.norm = model.model.norm, lambda hidden: hidden
    try:
        hidden = model.model(text)
    finally:
        model.model.norm = norm
    assert mx.array_equal(logits(model, hidden), model(text))


def test_a_circuit_of_another_shape_is_refused(llama: Any, tokenizer: Any) -> None:
    with pytest.raises(CircuitError):
        ablate_each_neuron(llama, tokenizer, Circuit.from_neurons([(9, 0)]), [1, 2], 3)
    with pytest.raises(InputError):
        ablate_each_neuron(llama, tokenizer, Circuit.from_neurons([(0, 0)]), [], 3)


# ------------------------------------------------------------------ in the chat


@pytest.fixture(name="conversation")
def fixture_conversation(llama: Any, tokenizer: Any, circuit: Circuit) -> Conversation:
    arms = [Arm.of(circuit, 0.0, "ablated")]
    return Conversation(
        Session.of(llama, tokenizer), arms, is_ablating=True, max_tokens=8
    )


def ask(conversation: Conversation, text: str) -> Any:
    return list(conversation.turn(text))[-1].result


def test_why_reads_the_token_where_the_arms_part(conversation: Conversation) -> None:
    ask(conversation, "Sell the boat.")
    result = ask(conversation, "And the car?")
    baseline, other = (arm.token_ids for arm in result.arms)
    pairs = enumerate(zip(baseline, other, strict=False))
    shared = next(i for i, (one, two) in pairs if one != two)
    reply = run_command(conversation, "/why")
    assert reply.is_data
    assert reply.grid is not None
    head, rows = reply.text, reply.grid.rows
    assert "/align" in reply.remark
    said = conversation.session.tokenizer.decode([baseline[shared]])
    assert f"at token {shared + 1}" in head
    assert repr(said) in head
    assert len(rows) == 10
    expected = ablate_each_neuron(
        conversation.session.model,
        conversation.session.tokenizer,
        conversation.circuit,
        [*conversation.asked.ids, *baseline[:shared]],
        baseline[shared],
    )
    assert float(rows[0][0]) == pytest.approx(expected[0].drop, abs=5e-4)


def test_why_and_sweep_need_an_answer_and_two_arms(conversation: Conversation) -> None:
    for command in ("/why", "/sweep"):
        with pytest.raises(InputError, match="ask something first"):
            run_command(conversation, command)
    conversation.is_ablating = False
    ask(conversation, "Sell the boat.")
    with pytest.raises(InputError, match="/ablate on"):
        run_command(conversation, "/why")
    conversation.is_ablating = True
    run_command(conversation, "/multiplier 1")
    ask(conversation, "Sell the boat.")
    assert "nothing was flipped" in run_command(conversation, "/why").text


def test_sweep_answers_the_last_question_at_every_multiplier(
    conversation: Conversation,
) -> None:
    result = ask(conversation, "Sell the boat.")
    histories = {k: list(v) for k, v in conversation.histories.items()}
    rows = run_command(conversation, "/sweep 1 0 0 2.5").grid.rows
    assert [row[0] for row in rows] == ["1", "0", "2.5"]
    for row, arm in zip(rows, result.arms, strict=False):
        assert row[1] == arm.label.kind
    assert conversation.histories == histories
    assert len(conversation.turns) == 1
    assert len(run_command(conversation, "/sweep").grid.rows) == 7
    for wrong in ("/sweep x", "/sweep nan", "/sweep 0 inf"):
        with pytest.raises(InputError):
            run_command(conversation, wrong)


def test_two_refusals_come_with_what_to_try() -> None:
    out = Console(file=io.StringIO(), width=80)
    screen = Screen(out, out)
    label = Label(LabelKind.REFUSED, (0, 5))
    for verdicts, is_told in (
        ((LabelKind.REFUSED, LabelKind.REFUSED), True),
        ((LabelKind.REFUSED, LabelKind.ANSWERED), False),
        ((LabelKind.REFUSED,), False),
    ):
        arms = tuple(
            ArmResult(Arm(str(n)), "I can't", (1,), "stop", replace(label, kind=v), 1)
            for n, v in enumerate(verdicts)
        )
        turn = Turn(PromptResult("Hi", arms), 1.0, 1, True, 0)
        assert ("/sweep" in closing(screen, turn)) == is_told
