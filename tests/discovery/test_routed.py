"""A mixture's rows: the figures of whole arrays, from the experts that were routed."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tiny_models import make_model

from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.influence import gradients
from cna_mlx.discovery.rankings import Difference, take
from cna_mlx.discovery.reference import averages
from cna_mlx.discovery.routed import RoutedRows
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.family import text_of
from cna_mlx.models.memory.forecast import Shape, Workload, influence_bytes
from cna_mlx.prompts import load_contrast
from cna_mlx.steering.gauge_scale import Scale

COUNT, WIDTH, SHARED, N = 12, 5, 3, 9


@pytest.fixture(name="both", scope="module")
def fixture_both() -> tuple[RoutedRows, mx.array]:
    """Two experts a row and a shared one; the rows come in two parts."""
    random = np.random.default_rng(1)
    whole = np.zeros((N, COUNT * WIDTH + SHARED), np.float32)
    for row in whole:
        for expert in random.permutation(COUNT)[:2]:
            row[expert * WIDTH : (expert + 1) * WIDTH] = random.normal(size=WIDTH)
        row[COUNT * WIDTH :] = random.normal(size=SHARED)
    rows = RoutedRows.empty(N, COUNT, WIDTH, whole.shape[1])
    rows.put([0, 2, 4, 6, 8], whole[::2])
    rows.put([1, 3, 5, 7], whole[1::2])
    return rows, mx.array(whole)


def test_rows_are_what_they_were(both: tuple[RoutedRows, mx.array]) -> None:
    rows, whole = both
    assert rows.shape == whole.shape
    assert rows.ndim == 2
    assert len(rows) == N
    np.testing.assert_array_equal(np.array(rows), np.array(whole))
    for some in (slice(2, 7), slice(0, None, 2), np.array([8, 1, 5])):
        found, wanted = take(rows, some), take(whole, some)
        np.testing.assert_array_equal(np.array(found), np.array(wanted))
    columns = mx.array([0, 61, 7, 30])
    assert mx.array_equal(rows[:, columns], whole[:, columns])
    assert rows.nbytes < 0.5 * whole.nbytes


def test_figures_are_those_of_the_whole(both: tuple[RoutedRows, mx.array]) -> None:
    rows, whole = both
    sides = [(one[:4], one[4:]) for one in (rows, whole)]
    ours, theirs = (np.array(averages(*one)) for one in sides)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for rank in ("delta", "normalized"):
        score = Difference(None, rank).at(0)  # type: ignore[arg-type]
        for some in (slice(None), np.array([0, 2, 3])):
            ours, theirs = (np.array(score(*one, some, some)) for one in sides)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    wanted = (np.array(whole)[:, :-SHARED].reshape(N, COUNT, WIDTH) != 0).any(axis=2)
    np.testing.assert_array_equal(rows.routed(), wanted.mean(axis=0))


@pytest.mark.parametrize("family", ["qwen3_moe", "qwen2_moe", "gpt_oss", "mixtral"])
def test_a_walk_keeps_what_was_routed(family: str, ids: list[list[int]]) -> None:
    model = make_model(family)
    wanted = list(last_activations(model, ids))
    found = list(last_activations(model, ids, routed=True))
    kinds = set()
    for (layer, ours), (other, theirs) in zip(found, wanted, strict=True):
        assert layer == other
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))
        kinds.add(type(ours))
        if isinstance(ours, RoutedRows):
            assert ours.nbytes < 0.8 * theirs.nbytes
    assert RoutedRows in kinds


def test_gradients_are_0_where_a_prompt_does_not_go() -> None:
    """And take less memory than the plan says."""
    sizes = {"num_experts": 64, "moe_intermediate_size": 128, "mlp_only_layers": []}
    model = make_model("qwen3_moe", **sizes)
    random = np.random.default_rng(0)
    ids = [[5, 2, 9, *random.integers(5, 500, 13).tolist()] for _ in range(48)]
    work = Workload.of([16] * 48, 3, [range(48)])
    shape = Shape.of_config(vars(text_of(model).args), 4)
    gradients(model, ids[:1], [(388,)], range(3))  # what is made once
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    found = gradients(model, ids, [(388,)], range(3))
    held = sum(part.nbytes for part in found.values())
    taken = mx.get_peak_memory() - before + held
    assert 0.2 < taken / influence_bytes(shape, work) < 1
    assert taken < 0.6 * 8 * len(ids) * shape.all_neurons  # what all experts' take
    routed = dict(last_activations(model, ids, routed=True))
    for layer, part in found.items():
        if not isinstance(part, RoutedRows):
            continue
        for ours, theirs in zip(part.rows, routed[layer].rows, strict=True):
            assert ours
            assert theirs
            assert set(ours.experts) <= set(theirs.experts)
            assert len(ours.experts) == 2


def test_a_gauge_reads_what_was_routed(
    tokenizer: Any, ids: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from whole rows, which are never made."""
    model, contrast = make_model("qwen2_moe"), load_contrast("refusal-small")
    chosen = Selection(0.02, universal=False)
    circuit = run_discovery(model, tokenizer, contrast, chosen).circuit
    scale = Scale(circuit)
    wanted = sum(
        scale.part(layer, np.array(whole))
        for layer, whole in last_activations(model, ids)
    )
    monkeypatch.delattr(RoutedRows, "__array__")
    np.testing.assert_allclose(gauges(model, circuit, ids), wanted, rtol=1e-6)


def test_a_discovery_ranks_what_was_routed(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that keeps the zeros does."""
    model, contrast = make_model("qwen2_moe"), load_contrast("refusal-small")
    asked = model, tokenizer, contrast, Selection(0.02, universal=False)
    ours = run_discovery(*asked).circuit

    def dense(model: Any, ids: Any, *, routed: bool, **options: Any) -> Any:
        assert routed
        return last_activations(model, ids, **options)

    monkeypatch.setattr("cna_mlx.discovery.discover.last_activations", dense)
    theirs = run_discovery(*asked).circuit
    assert [(n.layer, n.index) for n in ours.neurons] == [
        (n.layer, n.index) for n in theirs.neurons
    ]
    for one, other in zip(ours.moments, theirs.moments, strict=True):
        assert one.positive_std == pytest.approx(other.positive_std, rel=1e-4)
        assert one.negative_mean == pytest.approx(other.negative_mean, rel=1e-4)
    assert ours.details == theirs.details
