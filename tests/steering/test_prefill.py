"""What arms share of a prompt is computed once, and nothing else is."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache, make_prompt_cache

from cna_mlx import Circuit, MeanDifference, steered
from cna_mlx.models.families import family_of
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import (
    Header,
    _Shared,
    prefill,
    prefill_prompts,
    rows_of,
    shared_prefill,
)

IDS = [0, 2, 17, 3, 9, 40, 41, 42, 43, 44, 45]
LATE = Circuit.from_neurons([(2, 5), (2, 77)])
MIDDLE = Circuit.from_neurons([(1, 5), (1, 9)])
EARLY = Circuit.from_neurons([(0, 1), (2, 5)])


def go_on() -> bool:
    return False


@pytest.fixture
def seen(llama: Any) -> Iterator[dict[int, int]]:
    """How many rows went through each layer in the last step."""
    rows: dict[int, int] = {}
    layers = family_of(llama).layers(llama)
    attentions = [layer.self_attn for layer in layers]

    def noted(index: int, attention: Any) -> Any:
        def attend(hidden: mx.array, *rest: Any) -> mx.array:
            rows[index] = len(hidden)
            return attention(hidden, *rest)

        return attend

    for index, layer in enumerate(layers):
        layer.self_attn = noted(index, attentions[index])
    yield rows
    for layer, attention in zip(layers, attentions, strict=True):
        layer.self_attn = attention


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([(), ((LATE, 0.0),)], [1, 1, 2]),
        ([(), ((LATE, 1.0),), ()], [1, 1, 1]),
        ([(), ((LATE, 0.0),), ((LATE, 0.0),)], [1, 1, 2]),
        ([(), ((LATE, 0.0),), ((LATE, 0.5),)], [1, 1, 3]),
        ([(), ((MIDDLE, 0.0),), ((LATE, 0.5),)], [1, 2, 3]),
        ([(), ((EARLY, 0.0),), ((MIDDLE, 2.0),)], [2, 3, 3]),
        ([((LATE, 0.0), (MIDDLE, 1.0)), ((LATE, 0.0),)], [1, 1, 1]),
        ([((LATE, 0.0), (MIDDLE, 0.5)), ((LATE, 0.0),)], [1, 2, 2]),
    ],
)
def test_arms_are_one_row_until_they_differ(
    arms: list[Any], expected: list[int], llama: Any, seen: dict[int, int]
) -> None:
    edits = Edits(llama, arms)
    cache = shared_prefill(llama, IDS, edits, go_on)
    assert [seen[layer] for layer in range(3)] == expected
    assert cache is not None
    assert [len(layer.keys) for layer in cache] == [len(arms)] * 3


@pytest.mark.parametrize("step", [3, 512])
def test_every_row_is_what_it_is_alone(
    step: int,
    model: Any,
    kind: Any,
    direction: MeanDifference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cna_mlx.steering.prefill._STEP", step)
    arms: list[Any] = [
        (),
        ((LATE, 0.0),),
        ((MIDDLE, 2.0), (EARLY, 0.5)),
        ((direction, 0.3),),
        ((LATE, 1.0),),
        ((LATE, 0.0),),
    ]
    cache = shared_prefill(model, IDS, Edits(model, arms), go_on)
    assert cache is not None
    for row, steering in enumerate(arms):
        alone = make_prompt_cache(model)
        assert prefill(model, IDS, alone, Edits(model, steering), go_on)
        for ours, theirs in zip(cache, alone, strict=True):
            pairs = zip(_kept(ours, row), _kept(theirs, 0), strict=True)
            for mine, other in pairs:
                assert mine.shape == other.shape
                scale = mx.abs(other).max().item()
                error = mx.abs(mine - other).max().item()
                assert error <= kind.tolerance * scale


def _kept(cache: Any, row: int) -> list[mx.array]:
    state = cache.state[:2]
    return [part[row, :, : cache.offset].astype(mx.float32) for part in state]


def test_what_prompts_begin_with_is_fed_once(
    model: Any, kind: Any, direction: MeanDifference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the same arms; other arms feed it again."""
    fed: list[int] = []
    forward = _Shared._forward

    def counted(shared: _Shared, ids: mx.array, cache: list[Any]) -> None:
        fed.append(ids.shape[1])
        forward(shared, ids, cache)

    monkeypatch.setattr(_Shared, "_forward", counted)
    arms: list[Any] = [(), ((LATE, 0.0),), ((EARLY, 0.5),), ((direction, 0.3),)]
    header, texts = Header(IDS[:3]), (IDS, IDS[:5], IDS[::-1], IDS[:3])
    for ids in texts:
        plain = shared_prefill(model, ids, Edits(model, arms), go_on)
        cache = shared_prefill(model, ids, Edits(model, arms), go_on, header)
        assert plain is not None
        assert cache is not None
        for ours, theirs in zip(cache, plain, strict=True):
            assert ours.offset == theirs.offset == len(ids)
            for row in range(len(arms)):
                pairs = zip(_kept(ours, row), _kept(theirs, row), strict=True)
                for mine, other in pairs:
                    error = mx.abs(mine - other).max().item()
                    assert error <= kind.tolerance * mx.abs(other).max().item()
    size = len(IDS)
    # the last two do not begin with it, or do not go on
    assert fed == [size, 3, size - 3, 5, 2, size, size, 3, 3]
    fed.clear()
    shared_prefill(model, IDS, Edits(model, arms[:2]), go_on, header)
    assert fed == [3, size - 3]


@pytest.mark.parametrize("together", [1 << 20, 60, 1])
@pytest.mark.parametrize("header", [(), IDS[:3]])
def test_several_prompts_are_fed_as_each_alone(
    header: list[int],
    together: int,
    model: Any,
    kind: Any,
    direction: MeanDifference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one batch, in several, and one after the other; the third in two steps."""
    monkeypatch.setattr("cna_mlx.steering.prefill._STEP", 8)
    monkeypatch.setattr("cna_mlx.steering.prefill._TOGETHER", together)
    arms: list[Any] = [(), ((LATE, 0.0),), ((MIDDLE, 0.5),), ((direction, 0.3),)]
    prompts = [IDS[:5], [*IDS[:3], 9, 8, 7, 6], IDS, IDS[:4]]
    edits = Edits(model, arms)
    found = prefill_prompts(model, prompts, edits, go_on, Header(header))
    assert found
    for ids, cache in zip(prompts, found, strict=True):
        plain = shared_prefill(model, ids, edits, go_on)
        assert plain
        for ours, theirs in zip(cache, plain, strict=True):
            assert ours.offset == theirs.offset == len(ids)
            for row in range(len(arms)):
                pairs = zip(_kept(ours, row), _kept(theirs, row), strict=True)
                for mine, other in pairs:
                    # a window keeps more of what was fed in one step
                    size = min(mine.shape[1], other.shape[1])
                    mine, other = mine[:, -size:], other[:, -size:]
                    error = mx.abs(mine - other).max().item()
                    assert error <= kind.tolerance * mx.abs(other).max().item()
    left = iter(range(1))
    stopped = prefill_prompts(model, prompts, edits, lambda: next(left, 9) == 9)
    assert stopped is None


def test_a_row_is_taken_without_a_copy_of_the_others() -> None:
    whole = KVCache()
    values = mx.random.normal((16, 2, 300, 32))
    whole.update_and_fetch(values, values)  # with room for more
    mx.eval(whole.state)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    rows = rows_of(whole, 16)
    mx.eval([row.state for row in rows])
    assert mx.get_peak_memory() - before < 1.1 * whole.nbytes
    for row, own in enumerate(rows):
        assert own.offset == 300
        assert mx.array_equal(own.keys_and_values()[1], values[row : row + 1])


def test_steering_of_the_callers_is_composed_with(llama: Any) -> None:
    arms: list[Any] = [(), ((LATE, 0.0),)]
    with steered(llama, MIDDLE, [0.5, 2.0]):
        cache = shared_prefill(llama, IDS, Edits(llama, arms), go_on)
    assert cache is not None
    for row, (outer, own) in enumerate(zip([0.5, 2.0], arms, strict=True)):
        alone = make_prompt_cache(llama)
        both = Edits(llama, ((MIDDLE, outer), *own))
        prefill(llama, IDS, alone, both, go_on)
        for mine, other in zip(_kept(cache[2], row), _kept(alone[2], 0), strict=True):
            assert mx.allclose(mine, other, atol=1e-5)


def test_a_stop_is_heeded_between_steps(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cna_mlx.steering.prefill._STEP", 3)
    for rows in ([()], [(), ((LATE, 0.0),)]):
        asked = iter([False, False, True])
        edits = Edits(llama, rows)
        assert shared_prefill(llama, IDS, edits, asked.__next__) is None
        assert next(asked, None) is None
    assert not shared_prefill(llama, [], Edits(llama, [(), ()]), go_on)[0].offset  # type: ignore[index]


def test_blocks_are_made_once(llama: Any) -> None:
    edits = Edits(llama, ((MIDDLE, 0.0),))
    layer = family_of(llama).layers(llama)[1]
    with edits.installed():
        first = layer.mlp
    with edits.installed():
        assert layer.mlp is first
    assert layer.mlp is not first


def test_a_block_of_other_weights_is_not_used_again(build: Any) -> None:
    model = build("llama")
    edits = Edits(model, ((MIDDLE, 0.0),))
    text = mx.array([IDS])
    with edits.installed():
        model(text)
    model.layers[1].mlp = build("llama", seed=1).layers[1].mlp
    with edits.installed():
        found = model(text)
    with Edits(model, ((MIDDLE, 0.0),)).installed():
        assert mx.array_equal(found, model(text))
