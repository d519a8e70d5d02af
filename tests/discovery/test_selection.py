"""The running top k of neurons."""

import numpy as np
import pytest

from cna_mlx.discovery.selection import SplitHalf, TopNeurons


@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_top_k_of_all_layers_with_ties_by_layer_and_index(k: int) -> None:
    random = np.random.default_rng(k)
    layers = [random.integers(0, 6, size).astype(np.float32) for size in (12, 5, 30)]
    top = TopNeurons(k)
    for number, scores in enumerate(layers):
        top.take(number, scores)
    ranked = sorted(
        (-float(score), layer, index)
        for layer, scores in enumerate(layers)
        for index, score in enumerate(scores)
    )
    assert top.best() == [(layer, index) for _, layer, index in ranked[:k]]
    assert list(top.scores().values()) == [-score for score, _, _ in ranked[:k]]


@pytest.mark.parametrize(
    ("jaccard", "chance", "is_low"),
    [(1.0, 1.0, False), (0.9, 0.9, True), (0.2, 0.001, True), (0.3, 0.001, False)],
)
def test_an_overlap_is_low_beside_chance(
    jaccard: float, chance: float, is_low: bool
) -> None:
    assert SplitHalf(jaccard, chance).is_low == is_low
