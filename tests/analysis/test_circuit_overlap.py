"""Laws of what two circuits have in common."""

import json
from collections.abc import Iterable

import numpy as np
import pytest
from scipy import stats

from cna_mlx.analysis.circuit_overlap import (
    by_tenths,
    compare_circuits,
    layer_profile,
)
from cna_mlx.circuit import Circuit, Neuron
from cna_mlx.discovery.selection import expected_overlap, jaccard
from cna_mlx.provenance import ModelEntry

WIDTHS = (200, 300, 200, 100)


def circuit(
    neurons: Iterable[tuple[int, int, float]], widths: tuple[int, ...] | None = WIDTHS
) -> Circuit:
    model = ModelEntry(d_ff=None if widths is None else tuple(widths))
    return Circuit(tuple(Neuron(*one) for one in neurons), model=model)


def random_circuit(
    seed: int, counts: tuple[int, ...], widths: tuple[int, ...] = WIDTHS
) -> Circuit:
    """A circuit with as many random neurons in each layer."""
    rng = np.random.default_rng(seed)
    return circuit(
        (
            (layer, int(index), float(rng.standard_normal()))
            for layer, count in enumerate(counts)
            for index in rng.choice(widths[layer], count, replace=False)
        ),
        widths,
    )


def test_a_circuit_is_all_of_itself() -> None:
    one = random_circuit(0, (3, 5, 8, 20))
    found = compare_circuits(one, one)
    assert found.sizes == (36, 36)
    assert found.shared is not None
    assert (found.shared.shared, found.shared.jaccard) == (36, 1.0)
    assert found.shared.rank_correlation == pytest.approx(1.0)
    assert found.shared.same_sign.value == 1.0
    assert found.profile_overlap == pytest.approx(1.0)
    assert found.profiles[0] == pytest.approx((3 / 36, 5 / 36, 8 / 36, 20 / 36))


def test_disjoint_circuits_share_nothing() -> None:
    first = circuit((0, index, 1.0) for index in range(10))
    second = circuit((3, index, 1.0) for index in range(10))
    found = compare_circuits(first, second)
    assert found.shared is not None
    assert (found.shared.shared, found.shared.jaccard) == (0, 0.0)
    assert found.shared.chance_by_layer == 0.0
    assert found.shared.chance > 0
    assert found.shared.rank_correlation is None
    assert found.shared.same_sign.n == 0
    assert found.profile_overlap == 0.0


def test_it_does_not_matter_which_comes_first() -> None:
    for seed in range(20):
        one = random_circuit(seed, (10, 20, 30, 40))
        two = random_circuit(seed + 100, (40, 30, 5, 25))
        there, back = compare_circuits(one, two), compare_circuits(two, one)
        assert there.shared == back.shared
        assert there.profile_overlap == pytest.approx(back.profile_overlap)
        assert there.profiles == back.profiles[::-1]
        assert there.sizes == back.sizes[::-1]


def test_the_order_is_scipys_over_the_shared_neurons() -> None:
    rng = np.random.default_rng(0)
    deltas = rng.standard_normal((40, 2)) + rng.standard_normal((40, 1))
    one = circuit([(1, n, x) for n, (x, _) in enumerate(deltas)] + [(0, 1, 9.0)])
    two = circuit([(1, n, y) for n, (_, y) in enumerate(deltas)] + [(2, 1, -9.0)])
    found = compare_circuits(one, two).shared
    assert found is not None
    assert found.shared == 40
    theirs = stats.spearmanr(*np.abs(deltas).T).statistic
    assert found.rank_correlation == pytest.approx(theirs)
    agree = int((np.sign(deltas[:, 0]) == np.sign(deltas[:, 1])).sum())
    assert (found.same_sign.successes, found.same_sign.n) == (agree, 40)


def test_random_circuits_overlap_by_chance() -> None:
    """Uniform ones by the one chance, those of a profile by the other."""
    counts = (2, 3, 5, 30)
    found = [
        compare_circuits(random_circuit(n, counts), random_circuit(n + 500, counts))
        for n in range(300)
    ]
    shared = [one.shared for one in found if one.shared is not None]
    assert len(shared) == 300
    mean = np.mean([one.jaccard for one in shared])
    assert mean == pytest.approx(shared[0].chance_by_layer, rel=0.08)
    assert shared[0].chance < shared[0].chance_by_layer / 3  # crowded in one layer


def test_circuits_of_different_sizes_have_their_own_chance() -> None:
    assert expected_overlap(10, 100, 10) == expected_overlap(10, 100)
    assert expected_overlap(10, 100, 20) == pytest.approx(2 / 28)
    assert expected_overlap(5, 5, 5) == 1.0
    assert jaccard(0, 0, 0) == 1.0
    one, two = random_circuit(1, (0, 10, 0, 0)), random_circuit(2, (0, 30, 0, 0))
    found = compare_circuits(one, two).shared
    assert found is not None
    assert found.chance == expected_overlap(10, 800, 30)
    assert found.chance_by_layer == expected_overlap(10, 300, 30)


def test_other_shapes_are_compared_by_depth() -> None:
    shallow = circuit(((3, n, 1.0) for n in range(10)), (20,) * 4)
    deep = circuit(((7, n, 1.0) for n in range(10)), (50,) * 8)
    found = compare_circuits(shallow, deep)
    assert found.shared is None
    assert found.by_depth
    assert found.profiles[0] == (0, 0, 0, 1)
    assert found.profiles[1] == (0,) * 7 + (1,)
    # the last layer of four spreads over .2, .4 and .4 of the last three tenths, and
    # that of eight over .2 and .8 of the last two
    assert found.profile_overlap == pytest.approx(0.2 + 0.4)
    early = circuit(((0, n, 1.0) for n in range(10)), (50,) * 8)
    assert compare_circuits(shallow, early).profile_overlap == 0
    wider = circuit(((3, n, 1.0) for n in range(10)), (30,) * 4)
    found = compare_circuits(shallow, wider)
    assert (found.shared, found.by_depth, found.profile_overlap) == (None, False, 1.0)


@pytest.mark.parametrize("n_layers", [1, 3, 10, 16, 80])
def test_tenths_keep_all_of_a_profile(n_layers: int) -> None:
    profile = np.random.default_rng(n_layers).dirichlet(np.ones(n_layers))
    tenths = by_tenths(profile.tolist())
    assert len(tenths) == 10
    assert sum(tenths) == pytest.approx(1)
    assert min(tenths) >= 0
    even = by_tenths([1 / n_layers] * n_layers)
    assert even == pytest.approx([0.1] * 10)
    if n_layers == 10:
        assert tenths == pytest.approx(profile)


def test_one_made_by_hand_is_of_the_others_shape_if_it_fits() -> None:
    known = random_circuit(0, (5, 5, 5, 5))
    by_hand = Circuit.from_neurons([n[:2] for n in known.neurons])
    found = compare_circuits(known, by_hand)
    assert found.shared is not None
    assert found.shared.jaccard == 1.0
    assert found.shared.rank_correlation is None  # it has no deltas
    assert found.shared.same_sign.n == 0
    outside = Circuit.from_neurons([(0, 0), (9, 0)])
    assert compare_circuits(known, outside).shared is None
    two = compare_circuits(by_hand, Circuit.from_neurons([(0, 1)]))
    assert two.shared is None
    assert not two.by_depth
    assert two.profile_overlap is not None


def test_an_empty_circuit_has_no_profile() -> None:
    found = compare_circuits(circuit([]), random_circuit(0, (1, 1, 1, 1)))
    assert found.profile_overlap is None
    assert found.shared is not None
    assert found.shared.jaccard == 0.0
    assert layer_profile(circuit([]), 4) == (0, 0, 0, 0)
    assert compare_circuits(circuit([], None), circuit([], None)).shared is None


def test_it_is_plain_data() -> None:
    one, two = random_circuit(0, (1, 2, 3, 4)), random_circuit(1, (4, 3, 2, 1))
    for other in (two, circuit([(0, 0, 1.0)], (10, 10)), circuit([])):
        data = json.loads(
            json.dumps(compare_circuits(one, other).to_dict(), allow_nan=False)
        )
        assert data["sizes"][0] == 10
