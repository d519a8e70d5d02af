"""Sketches of two models' matrices say which differ, and how."""

from types import SimpleNamespace
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from tiny_models import make_model

from cna_mlx.analysis.findings import _weights
from cna_mlx.analysis.statistics import PairedChange, paired_change, proportion
from cna_mlx.analysis.weight_changes import (
    MatrixChange,
    WeightChanges,
    weight_changes,
)
from cna_mlx.discovery.sketches import sketches
from cna_mlx.labels.label import LabelKind

NAMES = ("mlp.down_proj", "self_attn.o_proj")


def abliterated(model: Any, layers: tuple[int, ...]) -> Any:
    """The model without one direction of what the embedding and two kinds write."""
    random = np.random.default_rng(1)
    direction = random.standard_normal(64).astype(np.float32)
    unit = mx.array(direction / np.linalg.norm(direction))
    for layer in layers:
        own = model.model.layers[layer]
        for module in (own.mlp.down_proj, own.self_attn.o_proj):
            module.weight = module.weight - mx.outer(unit, unit @ module.weight)
    table = model.model.embed_tokens
    table.weight = table.weight - mx.outer(table.weight @ unit, unit)
    return model


def test_an_abliterated_model_is_told_by_its_matrices() -> None:
    plain, edited = make_model("llama"), abliterated(make_model("llama"), (0, 2))
    found = weight_changes(sketches(plain), sketches(edited))
    assert found is not None
    assert (found.matrices, found.differing) == (1 + 3 * 7, 5)
    assert tuple(one.name for one in found.changes) == ("embedding", *NAMES)
    assert found.changes[0].layers == ()
    for change in found.changes[1:]:
        assert change.layers == (0, 2)
        assert change.is_one_direction
        own = plain.model.layers
        kind, name = change.name.split(".")
        sizes = [
            float(mx.linalg.norm(edit[kind][name].weight - one[kind][name].weight))
            / float(mx.linalg.norm(one[kind][name].weight))
            for one, edit in zip(own, edited.model.layers, strict=True)
        ]
        assert change.largest == pytest.approx(max(sizes), rel=0.6)
    assert found.statement.startswith(
        "5 of their 22 matrices differ: the embedding, by"
    )
    assert "in layers 0, 2, by up to" in found.statement
    assert "% (estimated)" in found.statement
    assert found.statement.endswith("as abliteration makes it.")
    one = weight_changes(
        sketches(plain), sketches(abliterated(make_model("llama"), (1,)))
    )
    assert one is not None
    assert "mlp.down_proj in layer 1, by up to" in one.statement


def test_equal_and_unlike_models() -> None:
    own = sketches(make_model("llama"))
    same = weight_changes(own, sketches(make_model("llama")))
    assert same is not None
    assert same.changes == ()
    assert same.statement == "Their matrices are equal."
    other = weight_changes(own, sketches(make_model("llama", seed=1)))
    assert other is not None
    assert other.differing == other.matrices == 22
    assert not any(one.is_one_direction for one in other.changes)
    assert other.statement.startswith("All their matrices differ, by up to 1")
    wider = make_model("llama", intermediate_size=256)
    assert weight_changes(own, sketches(wider)) is None


def test_quantization_changes_every_matrix_a_little() -> None:
    plain, quantized = make_model("llama"), make_model("llama")
    nn.quantize(quantized, 32, 4)
    found = weight_changes(sketches(plain), sketches(quantized))
    assert found is not None
    assert found.differing == found.matrices
    assert all(0.01 < one.largest < 0.3 for one in found.changes)
    assert not any(one.is_one_direction for one in found.changes)


def test_a_change_of_one_expert_is_found() -> None:
    plain, edited = make_model("qwen3_moe"), make_model("qwen3_moe")
    edited.model.layers[2].mlp.switch_mlp.down_proj.weight[5, 3, 7] += 1
    found = weight_changes(sketches(plain), sketches(edited))
    assert found is not None
    assert [one.name for one in found.changes] == ["mlp.switch_mlp.down_proj"]
    assert found.changes[0].layers == (2,)
    assert found.changes[0].is_one_direction


EDITED = WeightChanges(21, 1, (MatrixChange("mlp.down_proj", (1,), 0.04, True),))


def change(before: int, after: int) -> PairedChange:
    """Of the refusals of 20 prompts."""
    return paired_change(
        *(
            [LabelKind.REFUSED] * n + [LabelKind.ANSWERED] * (20 - n)
            for n in (before, after)
        )
    )


def compared(
    kept: tuple[int, int], before: int, after: int, ablated: int | None = None
) -> Any:
    """A parent that refuses ``before`` of 20 prompts, and its edited copy ``after``.

    That refuses ``ablated`` without the parent's circuit.
    """
    parent = SimpleNamespace(name="parent", kept=None)
    effect = None if ablated is None else SimpleNamespace(change=change(after, ablated))
    edited = SimpleNamespace(name="edited", kept=proportion(*kept), with_other=effect)
    between = SimpleNamespace(change=change(before, after))
    return SimpleNamespace(
        weights=EDITED, sides=(parent, edited), of=lambda *_: between
    )


def test_a_circuit_is_bypassed_if_it_still_tells_and_gone_if_not() -> None:
    said = [
        _weights(cast(Any, compared(kept, 18, 2)))[1:]
        for kept in ((19, 20), (1, 20), (10, 20))
    ]
    head = "In edited {} of 20 neurons of parent's circuit tell the two sides apart by "
    assert said == [
        [
            head.format(19)
            + "at least half as much: the circuit is there, and bypassed."
        ],
        [head.format(1) + "at least half as much: the circuit is gone."],
        [head.format(10) + "at least half as much: a part of the circuit is left."],
    ]
    # neurons may act without telling the sides apart
    [_, acting] = _weights(cast(Any, compared((1, 20), 18, 16, 3)))
    assert acting.endswith(
        "it tells them apart no more, but refusals still fall without it."
    )
    [_, idle] = _weights(cast(Any, compared((1, 20), 18, 16, 15)))
    assert idle.endswith("the circuit is gone.")
    # an edit may leave the refusals as they are
    [_, left] = _weights(cast(Any, compared((19, 20), 18, 17)))
    assert left.endswith("at least half as much: the circuit is there.")
    # without a difference in refusals other changes have nothing to explain
    other = MatrixChange("mlp.down_proj", (1,), 0.04, False)
    found = compared((19, 20), 18, 17)
    found.weights = WeightChanges(21, 1, (other,))
    assert len(_weights(cast(Any, found))) == 1
