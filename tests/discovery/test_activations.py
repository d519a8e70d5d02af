"""Walking the layers: what it holds, and what it refuses."""

import gc
from contextlib import ExitStack
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from marks import slow

from cna_mlx.circuit import Circuit
from cna_mlx.discovery import activations
from cna_mlx.discovery.activations import last_activations
from cna_mlx.errors import InputError, NonFiniteError, UnsupportedModelError
from cna_mlx.models.families import installed
from cna_mlx.models.forward import Pass
from cna_mlx.steering.interventions import steered


def walk(model: Any, ids: Any, **options: Any) -> list[np.ndarray]:
    return [np.array(a) for _, a in last_activations(model, ids, **options)]


@pytest.mark.parametrize("prompts", [1, slow(2)])
def test_a_long_prompt_pins_no_buffers(build: Any, prompts: int) -> None:
    """[1, 1024, d_ff] of a layer is 1.5 MB here: none may outlive the walk."""
    model = build("llama", intermediate_size=384)
    ids = np.random.default_rng(0).integers(0, 512, (prompts, 1024)).tolist()
    walk(model, [[1, 2, 3]])
    gc.collect()
    before = mx.get_active_memory()
    kept = list(last_activations(model, ids, batch_tokens=4096))
    gc.collect()
    held = mx.get_active_memory() - before
    assert [a.shape for _, a in kept] == [(prompts, 384)] * 3
    assert held < 1_000_000


def test_a_walk_in_progress_holds_one_layer(build: Any) -> None:
    """What was yielded is detached even while the walk goes on."""
    model = build("llama", intermediate_size=384, num_hidden_layers=6)
    ids = np.random.default_rng(0).integers(0, 512, (2, 1024)).tolist()
    mx.eval(model.parameters())
    gc.collect()
    before = mx.get_active_memory()
    kept = []
    for layer, a in last_activations(model, ids, batch_tokens=4096):
        kept.append(a)
        if layer == 4:
            gc.collect()
            # the hidden states [2, 1024, 64] and little more
            assert mx.get_active_memory() - before < 1_000_000


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_layer_is_named(build: Any, precision: str, value: float) -> None:
    model = build("llama", precision)
    model.model.layers[1].mlp.gate_proj.weight[7, 5] = value
    with pytest.raises(NonFiniteError, match=r"layer 1\b.*NaN.*prompt 1\b") as caught:
        walk(model, [[1, 2, 3], [4, 5]])
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_a_broken_prompt_is_named(build: Any) -> None:
    """By its place in the call, though batches are sorted by length."""
    model = build("qwen2")
    model.model.embed_tokens.weight[99] = mx.array(float("nan"))
    ids = [[1, 2, 3, 4, 5], [3], [7, 99], [5, 6, 7, 8]]
    with pytest.raises(NonFiniteError, match=r"layer 0 .* prompt 3;"):
        walk(model, ids)
    ids[2] = [7, 8]
    walk(model, ids)


def test_nothing_is_yielded_of_a_broken_layer(build: Any) -> None:
    model = build("llama")
    model.model.layers[2].mlp.up_proj.weight[0] = mx.array(float("nan"))
    seen = []
    with pytest.raises(NonFiniteError, match="layer 2"):
        seen.extend(layer for layer, _ in last_activations(model, [[1, 2]]))
    assert seen == [0, 1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no prompts"),
        ([[1, 2], []], "prompt 2"),
        ([[1], [2] * 2048, [3] * 2049], r"prompt 3\b.*2049\b.*2048\b"),
    ],
)
def test_prompts_that_cannot_be_read(llama: Any, ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        walk(llama, ids)


def whole_passes(model: Any, ids: Any, positions: int) -> list[np.ndarray]:
    """The same from mlx-lm's own forward pass of each whole prompt."""
    layers = range(len(model.layers))
    found: list[list[np.ndarray]] = [[] for _ in layers]

    def keep(a: mx.array, layer: int) -> None:
        found[layer].append(np.array(a[0, -positions:].astype(mx.float32)))

    with installed(model, list(layers)) as blocks, ExitStack() as stack:
        for layer, block in blocks.items():
            stack.enter_context(block.tapped(partial(keep, layer=layer)))
        for prompt in ids:
            mx.eval(model(mx.array([prompt])))
    return [np.stack(one) for one in found]


PIECE = 128


@pytest.mark.parametrize("positions", [1, 5])
@pytest.mark.parametrize("lengths", [(325,), (128, 129, 256), (257, 10, 256)], ids=str)
@pytest.mark.parametrize("shared", [0, 175])
def test_long_prompts_in_pieces_are_as_in_one(
    kind: Any, model: Any, lengths: tuple[int, ...], positions: int, shared: int
) -> None:
    random = np.random.default_rng(4)
    header = random.integers(5, 512, shared).tolist()
    ids = [
        [*header, number, *random.integers(5, 512, length).tolist()]
        for number, length in enumerate(lengths)
    ]
    sizes: list[int] = []
    layer = Pass.layer

    def recorded(self: Any, index: int, hidden: mx.array, *cache: Any) -> mx.array:
        sizes.append(hidden.shape[0] * hidden.shape[1])
        return layer(self, index, hidden, *cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pass, "layer", recorded)
        patch.setattr(activations, "BATCH_TOKENS", PIECE)  # 512 take 4 times as long
        found = walk(model, ids, positions=positions, batch_tokens=PIECE)
    assert max(sizes) <= PIECE + positions
    for one, expected in zip(found, whole_passes(model, ids, positions), strict=True):
        limit = kind.tolerance * np.abs(expected).max()
        np.testing.assert_allclose(
            one.reshape(expected.shape), expected, rtol=0, atol=limit
        )


def test_prompts_of_several_lengths_in_long_batches(llama: Any) -> None:
    """What a shorter prompt ends with may be before the last piece."""
    ids = [[7] * 20, [5] * 900, [3] * 1100]
    expected = walk(llama, ids)
    for one, other in zip(walk(llama, ids, batch_tokens=9999), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_a_prompt_that_fills_the_context_is_read(build: Any) -> None:
    model = build("llama", max_position_embeddings=32)
    assert len(walk(model, [[5] * 32])) == 3
    with pytest.raises(InputError, match=r"prompt 1\b.*33 tokens"):
        walk(model, [[5] * 33])


def test_another_block_is_refused(build: Any) -> None:
    model = build("llama")

    class Other(type(model.model.layers[0].mlp)):
        pass

    mlp = Other(model.args)
    model.model.layers[1].mlp = mlp
    with pytest.raises(UnsupportedModelError, match=r"layer 1 .*\(Other\).*Qwen3"):
        walk(model, [[1, 2]])
    assert model.model.layers[1].mlp is mlp


def test_a_steered_model_is_walked_steered(llama: Any, circuit: Circuit) -> None:
    plain = walk(llama, [[1, 2, 3], [1, 4]])
    with steered(llama, circuit, 0.0):
        found = walk(llama, [[1, 2, 3], [1, 4]])
    for layer, index, _ in circuit.neurons:
        assert not found[layer][:, index].any()
        assert plain[layer][:, index].all()
    # other neurons of the first layer are as they were
    rest = [i for i in range(128) if (0, i) not in {n[:2] for n in circuit.neurons}]
    np.testing.assert_array_equal(found[0][:, rest], plain[0][:, rest])
