"""Union, intersection, difference and first neurons, against Python's sets."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.circuit_sets import intersect, minus, top, union
from cna_mlx.errors import CircuitError, InputError, TransferError
from cna_mlx.provenance import Auc, ContrastEntry, ModelEntry, Provenance
from cna_mlx.strength import Pin

MODEL = ModelEntry("org/m", None, "f" * 64, "llama", "float32", (50, 50))
WHOLE = {
    "fraction": 0.2,
    "layers": (0, 1),
    "universal": True,
    "universal_dropped": ((0, 1),),
    "split_half": 0.5,
    "split_half_chance": 0.1,
    "held_out": Auc(0.9, 0.8, 1.0),
    "algorithm": 1,
    "expectation": {"prompts": 1},
    "causal_correlation": 0.9,
    "search": {"tried": 3},
}


def make(seed: int, contrast: str = "refusal", rank: str = "delta") -> Circuit:
    random = np.random.default_rng(seed)
    places = random.choice(100, 20, replace=False)
    deltas = sorted(random.normal(size=20), key=abs, reverse=True)
    neurons = tuple(
        Neuron(int(place) // 50, int(place) % 50, float(delta))
        for place, delta in zip(places, deltas, strict=True)
    )
    moments = tuple(Moments(*random.random(4).tolist()) for _ in neurons)
    origin = Provenance(contrast=ContrastEntry(contrast), rank=rank, **WHOLE)
    return Circuit(neurons, moments, MODEL, origin)


def rows(circuit: Circuit) -> dict[tuple[int, int], Moments]:
    places = (neuron[:2] for neuron in circuit.neurons)
    return dict(zip(places, circuit.moments, strict=True))


A, B, C = (make(seed) for seed in range(3))


def test_they_are_what_sets_say() -> None:
    a, b, c = (rows(one).keys() for one in (A, B, C))
    assert a & b
    assert rows(union([A, B, C])).keys() == a | b | c
    assert rows(intersect([A, B])).keys() == a & b
    assert rows(minus([A, B, C])).keys() == a - b - c
    assert list(rows(top(A, 4))) == list(rows(A))[:4]
    assert union([A, A]).neurons == A.neurons


@pytest.mark.parametrize("combine", [union, intersect, minus])
def test_a_row_is_the_first_files(combine: object) -> None:
    made = combine([A, B])  # type: ignore[operator]
    expected = {**rows(B), **rows(A)}
    assert rows(made) == {place: expected[place] for place in rows(made)}
    deltas = {n[:2]: n.delta for one in (B, A) for n in one.neurons}
    assert all(neuron.delta == deltas[neuron[:2]] for neuron in made.neurons)


def test_the_order_is_the_scores_or_the_first_files() -> None:
    sizes = [abs(neuron.delta) for neuron in union([A, B]).neurons]
    assert sizes == sorted(sizes, reverse=True)
    for other in (make(1, "flattery"), make(1, rank="normalized")):
        neurons = union([A, other]).neurons
        assert neurons[:20] == A.neurons
        assert [n for n in other.neurons if n in neurons[20:]] == list(neurons[20:])
    scored = [
        replace(
            make(seed, rank="influence"),
            details=tuple(Details(score=float(n - seed)) for n in range(20)),
        )
        for seed in (0, 1)
    ]
    scores = [one.score for one in union(scored).details]
    assert scores == sorted(scores, reverse=True)
    assert intersect([A, B]).neurons == tuple(n for n in A.neurons if n[:2] in rows(B))


@pytest.mark.parametrize("combine", [union, intersect, minus])
def test_nothing_is_claimed_that_was_the_whole_circuits(combine: object) -> None:
    made = combine([A, B])  # type: ignore[operator]
    assert made.model == MODEL
    assert (made.provenance.rank, made.provenance.contrast.name) == ("delta", "refusal")
    assert all(getattr(made.provenance, name) is None for name in WHOLE)
    assert made.k == len(made.neurons)


def test_it_says_what_it_was_made_of() -> None:
    made = minus([A, replace(B, file="/home/me/b.json")])
    origin = made.provenance.made_from
    assert origin["operation"] == "minus"
    first, second = origin["circuits"]
    assert (first["file"], second["file"]) == (None, "b.json")
    assert second["sha256"] == hashlib.sha256(B.to_text().encode()).hexdigest()
    assert (second["neurons"], second["k"], second["fraction"]) == (20, 21, 0.2)
    again = Circuit.from_text(made.to_text(), "it")
    assert again == made
    assert again.to_text() == made.to_text()
    history = top(made, 1).provenance.made_from["circuits"][0]["made_from"]
    assert history == origin


def test_a_union_claims_only_what_all_have() -> None:
    made = union([A, make(1, "flattery", "normalized")])
    assert made.provenance.contrast is None
    assert made.provenance.rank is None
    kept = minus([A, make(1, "flattery", "normalized")])
    assert kept.provenance.contrast.name == "refusal"
    pinned = replace(A, intervention=Pin(0.5))
    assert union([pinned, B]).intervention is None
    assert union([pinned, replace(B, intervention=Pin(0.5))]).intervention == Pin(0.5)
    assert top(pinned, 2).intervention == Pin(0.5)


def test_rows_without_moments_or_details_can_be_combined() -> None:
    hand = Circuit.from_neurons([(0, 3, 1.0), (1, 3, 1.0)])
    made = union([hand, A])
    assert (made.moments, made.model) == ((), MODEL)
    assert made.neurons[:2] == hand.neurons
    assert top(hand, 1).moments == ()
    scored = replace(A, details=tuple(Details(score=1.0) for _ in A.neurons))
    details = union([scored, B]).details
    assert details[:20] == scored.details
    assert set(details[20:]) == {Details()}


def test_experts_are_neurons_of_their_own() -> None:
    def of(expert: int) -> Circuit:
        return Circuit((Neuron(0, 1, 1.0),), details=(Details(expert=expert),))

    assert len(union([of(0), of(1)]).neurons) == 2
    with pytest.raises(CircuitError):
        intersect([of(0), of(1)])


def test_other_shapes_and_weights_are_refused() -> None:
    shape = replace(B, model=replace(MODEL, d_ff=(50, 50, 50)))
    weights = replace(B, model=replace(MODEL, fingerprint="0" * 64))
    far = Circuit.from_neurons([(0, 50)])
    for combine in (union, intersect, minus):
        for other in (shape, far):
            with pytest.raises(CircuitError, match="different shapes"):
                combine([A, other], allow_transfer=True)
        with pytest.raises(TransferError, match="--allow-transfer"):
            combine([A, weights])
        with pytest.raises(TransferError, match="--allow-transfer"):
            combine([far.__class__.from_neurons([(0, 4)]), A, weights])
    made = union([A, weights], allow_transfer=True)
    assert rows(made).keys() == rows(A).keys() | rows(B).keys()
    prints = [one["fingerprint"] for one in made.provenance.made_from["circuits"]]
    assert prints == ["f" * 64, "0" * 64]


def test_an_empty_result_is_an_error() -> None:
    with pytest.raises(CircuitError, match="no neuron is left"):
        minus([A, A])
    for count in (0, 21):
        with pytest.raises(InputError, match="1 to 20"):
            top(A, count)
