"""Every family: what is read and steered is what the model computes."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from family_table import README, with_table
from marks import slow
from mlx_lm.models import nemotron_h
from mlx_lm.models.cache import ChunkedKVCache
from mlx_lm.models.switch_layers import SwitchLinear
from tiny_models import FAMILIES, MIXTURES, OTHERS, Ends, make_model

from cna_mlx.analysis.circuit_overlap import compare_circuits
from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.invariants import identity, random_circuit
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.attribution import output_direction
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.influence import gradients
from cna_mlx.discovery.last_tokens import following, read_prompts
from cna_mlx.discovery.reference import reference
from cna_mlx.discovery.selection import Selection
from cna_mlx.errors import CircuitError, UnsupportedModelError
from cna_mlx.models.families import (
    family_of,
    family_of_config,
    installed,
    supported,
    widths,
)
from cna_mlx.models.forward import Pass, logits
from cna_mlx.models.mlp import replaced
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.search.statistics import read_statistics
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.forced import ForcedTokens
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits, steered
from cna_mlx.steering.prefill import shared_prefill

# the others run the whole suite
ALL = sorted({*OTHERS, *MIXTURES, "llama"})
KINDS = [
    *((family, "float32") for family in ALL),
    *((family, "4-bit") for family in ("phi3", "gemma3")),
    ("qwen3_moe", "4-bit-float32"),
    ("llama", "mxfp4-float32"),
    ("gpt_oss", "mxfp4-float32"),
    ("qwen3_5_moe", "8-bit-float32"),
    slow(("gemma3", "8-bit-float32")),
    # in bf16 some random models multiply a rounding to the size of the values
    *(
        slow((family, "4-bit-float32"))
        for family in sorted({*OTHERS, *MIXTURES} - {"qwen3_moe"})
    ),
]
TEXT = mx.array([[5, 7, 300, 12, 44, 9, 10, 2, 71, 30, 8, 21]])


@pytest.fixture(params=KINDS, ids="-".join)
def model(request: pytest.FixtureRequest) -> Any:
    return make_model(*request.param)


def column(model: Any, layer: int, index: int, value: float) -> None:
    """Multiply a column of a down-projection's (dequantized) weight."""
    family = family_of(model)
    mlp = family.layers(model)[layer][family.mlp]
    switch = mlp.get("switch_mlp") or mlp.get("experts")
    if switch is None:
        _plain(mlp).weight[:, index] *= value
        return
    up, down = ("fc1", "fc2") if "fc1" in switch else ("up_proj", "down_proj")
    count, width = switch[up].weight.shape[:2]
    if index < count * width:
        _plain(switch, down).weight[index // width, :, index % width] *= value
    else:
        shared = mlp.get("shared_expert") or mlp.get("shared_experts")
        _plain(shared).weight[:, index - count * width] *= value


def _plain(mlp: Any, name: str = "down_proj") -> Any:
    """The down-projection, dequantized in place."""
    down = mlp[name]
    if hasattr(down, "bits"):
        linear = nn.Linear if down.weight.ndim == 2 else partial(SwitchLinear, 1)
        plain = linear(1, 1, bias="bias" in down)
        plain.weight = mx.dequantize(
            *(down.weight, down.scales, down.get("biases")),
            *(down.group_size, down.bits, down.mode),
        )
        if "bias" in down:
            plain.bias = down.bias
        mlp[name] = plain
    return mlp[name]


def close(found: mx.array, expected: mx.array, limit: float) -> None:
    left, right = (np.array(one.astype(mx.float32)) for one in (found, expected))
    np.testing.assert_allclose(left, right, rtol=0, atol=limit * np.abs(right).max())


def tolerance(model: Any) -> float:
    return 5e-5 if norm_of(model).weight.dtype == mx.float32 else 0.1


def norm_of(model: Any) -> Any:
    family = family_of(model)
    return getattr(family.decoder(model), family.norm)


def test_a_block_in_place_changes_nothing(model: Any) -> None:
    expected = model(TEXT)
    with installed(model, list(range(len(widths(model))))):
        assert mx.array_equal(model(TEXT), expected)
    first = next(layer for layer, size in enumerate(widths(model)) if size)
    with steered(model, Circuit.from_neurons([(first, 3)]), 1.0):
        assert mx.array_equal(model(TEXT), expected)


@pytest.mark.parametrize("multiplier", [0.0, 0.5, -2.0])
def test_a_multiplier_is_that_of_the_neurons_column(
    model: Any, multiplier: float
) -> None:
    sizes = enumerate(widths(model))
    neurons = [(layer, size - 1 - layer) for layer, size in sizes if size]
    before = model(TEXT)
    with steered(model, Circuit.from_neurons(neurons), multiplier):
        found = model(TEXT)
    for layer, index in neurons:
        column(model, layer, index, multiplier)
    close(found, model(TEXT), tolerance(model))
    assert not mx.allclose(found, before, rtol=1e-3)


def test_passes_by_layer_are_the_models_own(model: Any) -> None:
    fed = Pass(model, TEXT)
    assert mx.array_equal(logits(model, fed.through(fed.hidden)), model(TEXT))


def test_the_logits_are_of_the_unembedding(model: Any) -> None:
    """But for a soft cap and a scale, which keep the order."""
    family, norm = family_of(model), norm_of(model)
    hidden = mx.random.normal((3, family.hidden(model))).astype(
        family.norm_weight(model).dtype
    )
    head = family.unembedding(model)
    rows = norm(hidden)
    plain = head.as_linear(rows) if hasattr(head, "as_linear") else head(rows)
    order = mx.argsort(plain, axis=-1)
    ranked = mx.take_along_axis(logits(model, hidden), order, axis=-1)
    assert mx.all(ranked[:, 1:] >= ranked[:, :-1])
    # the norm's weight is what it multiplies by
    ones = mx.where(mx.arange(hidden.shape[1]) % 2 == 0, 1.0, -1.0)
    close(norm(ones) * ones, family.norm_weight(model), 1e-2)


def alone(model: Any, prompt: list[int]) -> list[np.ndarray]:
    """The activations at a prompt's last token, from the model's own forward pass."""
    found: dict[int, mx.array] = {}
    layers = list(range(len(widths(model))))
    with installed(model, layers) as blocks, ExitStack() as taps:
        for layer, block in blocks.items():
            keep = partial(found.__setitem__, layer)
            taps.enter_context(block.tapped(keep))
        mx.eval(model(mx.array([prompt])))
    return [np.array(a[0, -1].astype(mx.float32)) for _, a in sorted(found.items())]


@pytest.mark.parametrize("shared", [0, 11])
def test_activations_do_not_depend_on_batch_and_padding(
    model: Any, shared: int
) -> None:
    random = np.random.default_rng(0)
    header = random.integers(5, 500, shared).tolist()
    prompts = [
        [*header, number, *random.integers(5, 500, length).tolist()]
        for number, length in enumerate((3, 14, 1, 3))
    ]
    found = [np.array(a) for _, a in last_activations(model, prompts)]
    assert [one.shape[1] for one in found] == [size for size in widths(model) if size]
    for row, prompt in enumerate(prompts):
        for layer, expected in enumerate(alone(model, prompt)):
            limit = tolerance(model) * np.abs(expected).max()
            np.testing.assert_allclose(found[layer][row], expected, rtol=0, atol=limit)


def test_a_prompt_in_pieces_is_read_as_in_one() -> None:
    """Windows, recurrent states and shared keys are carried from piece to piece."""
    random = np.random.default_rng(1)
    for family in ("gemma4", "qwen3_5", "ministral3", "gemma3", "nemotron_h"):
        model = make_model(family)
        prompts = [random.integers(5, 500, length).tolist() for length in (700, 690)]
        found = [np.array(a) for _, a in last_activations(model, prompts)]
        for row, prompt in enumerate(prompts):
            for layer, expected in enumerate(alone(model, prompt)):
                limit = 1e-4 * np.abs(expected).max()
                np.testing.assert_allclose(
                    found[layer][row], expected, rtol=0, atol=limit, err_msg=family
                )


def test_what_follows_is_what_the_model_says(model: Any) -> None:
    prompts = [TEXT[0].tolist(), [*TEXT[0].tolist()[:4], 9, 9]]
    for part in read_prompts(model, prompts, 3):
        after = following(model, *part.hidden())
        for row, number in enumerate(part.rows):
            for rest in ((), (4, 8)):
                whole = model(mx.array([[*prompts[number], *rest]]))[0, -1]
                close(after(rest)[row], whole, 3 * tolerance(model))


@pytest.mark.parametrize(
    "family", ["gemma3", "gemma4", "qwen3_5", "phi3", "qwen3_next", "nemotron_h"]
)
def test_a_gradient_is_a_finite_difference(family: str) -> None:
    """Of the log-odds of a first token, by one neuron at the last token."""
    model, prompt, opening = make_model(family), TEXT[0].tolist(), 17

    def odds(layer: int, index: int, shift: float) -> float:
        name, own = family_of(model).mlp, family_of(model).layers(model)[layer]
        mlp, column = own[name], output_direction(model, layer, index)

        def shifted(x: mx.array) -> mx.array:
            found = mlp(x)
            found[:, -1] += shift * column
            return found

        with replaced(own, **{name: shifted}):
            p = mx.softmax(model(mx.array([prompt]))[0, -1])[opening].item()
        return float(np.log(p / (1 - p)))

    layers = [layer for layer, size in enumerate(widths(model)) if size][:2]
    found = gradients(model, [prompt], [(opening,)], range(layers[1] + 1))
    assert list(found) == layers
    for layer in layers:
        values = np.array(found[layer])[0]
        index = int(np.abs(values).argmax())
        expected = (odds(layer, index, 0.02) - odds(layer, index, -0.02)) / 0.04
        assert values[index] == pytest.approx(expected, rel=0.05)
    assert not model.training


def test_a_gradient_takes_no_kernel_of_mamba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which Metal has for single tokens, and has no gradient."""
    plain = nemotron_h.ssm_update

    def kernel(x: mx.array, *others: Any, **named: Any) -> Any:
        assert x.shape[1] > 1
        return plain(x, *others, **named)

    monkeypatch.setattr(nemotron_h, "ssm_update", kernel)
    model, prompt = make_model("nemotron_h"), TEXT[0].tolist()
    found = gradients(model, [prompt], [(17,)], [0, 1, 4])
    assert list(found) == [1, 4]
    assert np.abs(np.array(found[1])).max() > 0
    assert nemotron_h.ssm_update is kernel


def answers(
    model: Any, tokenizer: Any, prompts: Any, arms: list[Arm]
) -> list[tuple[int, ...]]:
    events = generate_arms(model, tokenizer, [prompts], arms, max_tokens=6)
    found = [one for one in events if isinstance(one, Answer)]
    return [one.token_ids for one in sorted(found, key=lambda one: one.arm)]


def arms_of(model: Any) -> list[Arm]:
    layers = [layer for layer, size in enumerate(widths(model)) if size]
    early, late = (
        Circuit.from_neurons([(layer, n) for n in range(0, widths(model)[layer], 2)])
        for layer in (layers[0], layers[-1])
    )
    return [Arm("a"), Arm("b", ((early, 0.0),)), Arm("c", ((late, 3.0),))]


def test_arms_answer_as_alone(model: Any, tokenizer: Any) -> None:
    prompt, arms = TEXT[0].tolist(), arms_of(model)
    together = answers(model, tokenizer, prompt, arms)
    assert len(set(together)) > 1
    if tolerance(model) < 0.01:  # in bf16 near ties differ
        alone = [answers(model, tokenizer, prompt, [arm])[0] for arm in arms]
        assert together == alone


@pytest.mark.parametrize("family", sorted(OTHERS | MIXTURES))
def test_arms_with_histories_of_their_own(family: str, tokenizer: Any) -> None:
    """As from the second turn of a chat on."""
    model = make_model(family)
    arms, text = arms_of(model), TEXT[0].tolist()
    # the last ones leave nothing to feed before their only token
    for prompts in ([text, text[:5], [*text, *text]], [[5], [9], [5]]):
        together = answers(model, tokenizer, prompts, arms)
        pairs = zip(prompts, arms, strict=True)
        alone = [answers(model, tokenizer, one, [arm])[0] for one, arm in pairs]
        assert together == alone


@pytest.mark.parametrize("family", ALL)
def test_arms_are_fed_the_same_tokens_as_alone(family: str, tokenizer: Any) -> None:
    """Two prompts in three arms, from their caches; what they share is read once."""
    model = make_model(family)
    *_, late = (layer for layer, size in enumerate(widths(model)) if size)
    circuit = Circuit.from_neurons([(late, n) for n in range(0, 16, 2)])
    arms = [Arm("a"), Arm("b", ((circuit, 0.0),)), Arm("c", ((circuit, 3.0),))]
    text = TEXT[0].tolist()
    prompts, forced = [text[:7], text], [[5, 9, 30, 7, 11], [2, 8, 8, 41, 3]]
    rows = [(ids, arm) for ids in prompts for arm in arms]
    named = [replace(arm, label=str(at)) for at, (_, arm) in enumerate(rows)]
    fed: list[list[Any]] = []
    for _ in generate_arms(
        model,
        tokenizer,
        [[ids for ids, _ in rows]],
        named,
        max_tokens=12,  # beyond the window: the copy of the caches stays as it is
        prefilled=fed.append,
    ):
        pass
    edits = Edits(model, [arm.steering for arm in arms] * 2)
    both = ForcedTokens(model, edits, fed[0], 2)
    if family == "llama":
        assert both._first == late
    after = [[ids[-1], *more] for ids, more in zip(prompts, forced, strict=True)]
    parts = [
        both.logits([one[part] for one in after]) for part in (slice(2), slice(2, 6))
    ]
    found = mx.concatenate(parts, axis=1).astype(mx.float32)
    for row, (ids, arm) in enumerate(rows):
        with Edits(model, arm.steering).installed():
            whole = model(mx.array([[*ids, *forced[row // 3]]]))
        wanted = whole[0, len(ids) - 1 :].astype(mx.float32)
        scale = mx.abs(wanted).max().item()
        assert mx.allclose(found[row], wanted, atol=5 * tolerance(model) * scale)


def test_arms_may_all_be_edited_where_they_are_fed_together() -> None:
    """What they share below the first difference is not the unsteered model's."""
    model, ids, more = make_model("llama"), TEXT[0].tolist(), [5, 9, 30]
    early = Circuit.from_neurons([(0, n) for n in range(60)])
    late = Circuit.from_neurons([(2, n) for n in range(60)])
    arms = [((early, 3.0),), ((early, 3.0), (late, 0.0))]
    edits = Edits(model, arms)
    fed = shared_prefill(model, ids, edits, lambda: False)
    assert fed
    found = ForcedTokens(model, edits, fed, 1).logits([more])
    for row, steering in enumerate(arms):
        with Edits(model, steering).installed():
            wanted = model(mx.array([[*ids, *more]]))[0, len(ids) :]
        assert mx.allclose(found[row], wanted, atol=1e-4)


@pytest.mark.parametrize("family", sorted(OTHERS | MIXTURES))
def test_rows_that_have_ended_leave_the_others_as_they_are(
    family: str, tokenizer: Any
) -> None:
    """Two prompts in three arms; the first answer's third token ends answers."""
    model = make_model(family)
    text = TEXT[0].tolist()
    rows = [(ids, arm) for ids in (text[:7], text) for arm in arms_of(model)]
    named = [replace(arm, label=str(at)) for at, (_, arm) in enumerate(rows)]
    endless = Ends(tokenizer)
    alone = [answers(model, endless, ids, [arm])[0] for ids, arm in rows]
    ends = Ends(tokenizer, alone[0][2])
    events = generate_arms(
        model, ends, [[ids for ids, _ in rows]], named, max_tokens=6, leaves=True
    )
    found = [one for one in events if isinstance(one, Answer)]
    assert len(found) == len(rows)
    for one in found:
        whole = alone[one.arm]
        end = whole.index(alone[0][2]) if alone[0][2] in whole else len(whole)
        assert one.token_ids == whole[:end]
        assert one.finish == ("stop" if end < len(whole) else "length")
    assert {one.finish for one in found} == {"stop", "length"}


def test_there_is_a_tiny_model_of_every_family() -> None:
    from cna_mlx.models.families import _FAMILIES

    assert {module for module, _ in (FAMILIES | OTHERS | MIXTURES).values()} == set(
        _FAMILIES
    )


def test_the_readmes_table_is_that_of_the_families() -> None:
    text = README.read_text("utf-8")
    assert text == with_table(text), "python tests/support/family_table.py"
    assert all(name in text for name in supported())


def test_layers_without_neurons_keep_their_place(tokenizer: Any) -> None:
    """In what a walk leaves, in circuits, in a search's figures and in checks."""
    model, contrast = make_model("nemotron_h"), load_contrast("refusal-small")
    sizes = widths(model)
    assert sizes == (0, 128, 0, 0, 128)
    own = reference(model, tokenizer, contrast, Rendering())
    assert [len(one) for one in own.direction.deltas] == list(sizes)
    assert [one.shape for one in own.layers] == [(6, size) for size in sizes]
    found = read_statistics(model, tokenizer, contrast, [8], Rendering(), bank=[])
    assert found.sizes == sizes
    selection = Selection(0.05, "weighted", universal=False)
    circuit = run_discovery(model, tokenizer, contrast, selection).circuit
    assert {neuron.layer for neuron in circuit.neurons} <= {1, 4}
    again = found.circuit(selection)
    assert [n[:2] for n in again.neurons] == [n[:2] for n in circuit.neurons]
    assert compare_circuits(circuit, again).shared.jaccard == 1
    with steered(model, own.direction, 2.0):
        moved = model(TEXT)
    assert not mx.allclose(moved, model(TEXT))
    laws = identity(model, TEXT[0].tolist(), random_circuit(model, 0.1))
    assert laws.status == "ok"
    with pytest.raises(CircuitError, match="5 layers, 2 of them of 128 neurons"):
        Circuit.from_neurons([(0, 0)]).check_shape(sizes)


def test_llama_4_is_refused() -> None:
    """Its caches cannot be those of one batch: see docs/design.md."""
    for kind in ("llama4", "llama4_text"):
        with pytest.raises(UnsupportedModelError, match="it has MLP blocks"):
            family_of_config({"model_type": kind}, "it")
    assert not hasattr(ChunkedKVCache, "merge")


def test_experts_beside_an_mlp_are_refused() -> None:
    """As in Gemma 4 26B: only a part of what the layer adds could be steered."""
    extra = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2}
    model = make_model("gemma4", moe_intermediate_size=32, **extra)
    with pytest.raises(UnsupportedModelError, match="experts beside its MLP"):
        family_of(model)
    with pytest.raises(UnsupportedModelError, match="experts beside its MLP"):
        family_of_config({"model_type": "gemma4_text", **extra}, "it")


def test_experts_of_a_narrower_stream_are_refused() -> None:
    """As in Nemotron 3 Super: their columns are not of the hidden states."""
    model = make_model("nemotron_h_moe", moe_latent_size=32)
    with pytest.raises(UnsupportedModelError, match=r"layer 1 of .*NemotronHMoE"):
        family_of(model)
    config = {"model_type": "nemotron_h", "moe_latent_size": 32}
    with pytest.raises(UnsupportedModelError, match="experts of a narrower stream"):
        family_of_config(config, "it")
