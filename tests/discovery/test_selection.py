"""The running top k of neurons."""

import numpy as np
import pytest

from cna_mlx.discovery.selection import SplitHalf, TopNeurons, best_of


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


@pytest.mark.parametrize("k", [1, 3, 9, 20])
def test_the_best_of_several_rankings_at_once(k: int) -> None:
    """As a stable sort of each: of equal scores the first count, NaN comes last."""
    random = np.random.default_rng(k)
    scores = random.integers(0, 5, (6, 9)).astype(np.float32)
    scores[1] = -np.inf
    scores[2, 4:] = np.nan
    scores[3, [0, 8]] = np.nan, np.inf
    scores[4] = 7
    ordered = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert best_of(scores, k).tolist() == np.sort(ordered, axis=1).tolist()


def test_rankings_of_one_walk_are_kept_apart() -> None:
    random = np.random.default_rng(0)
    layers = [random.integers(0, 6, (3, size)).astype(np.float32) for size in (12, 30)]
    together = TopNeurons(7)
    alone = [TopNeurons(7) for _ in range(3)]
    for number, scores in enumerate(layers):
        together.take(number, scores)
        for one, own in zip(alone, scores, strict=True):
            one.take(number, own)
    assert [together.scores(n) for n in range(3)] == [one.scores() for one in alone]
    assert len({tuple(together.best(n)) for n in range(3)}) == 3


@pytest.mark.parametrize(
    ("jaccard", "chance", "is_low"),
    [(1.0, 1.0, False), (0.9, 0.9, True), (0.2, 0.001, True), (0.3, 0.001, False)],
)
def test_an_overlap_is_low_beside_chance(
    jaccard: float, chance: float, is_low: bool
) -> None:
    assert SplitHalf(jaccard, chance).is_low == is_low
