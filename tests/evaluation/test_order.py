"""The order of a run's prompts: kinds mixed in proportion, each set spread."""

from collections import Counter

import pytest

from cna_mlx.evaluation.order import in_sequence, interleaved
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt, Kind, load_benchmark


def a_set(name: str, size: int, kind: Kind, categories: int = 10) -> Benchmark:
    """A set that is ordered by category, as published ones are."""
    return Benchmark(
        name,
        tuple(
            EvalPrompt(f"{name}-{n}", f"{name} {n}?", str(n * categories // size), kind)
            for n in range(size)
        ),
        "here",
    )


def test_every_prompt_is_asked_once_in_the_same_order() -> None:
    sets = [a_set("harm", 37, "harmful"), a_set("good", 11, "benign")]
    found = interleaved(sets)
    assert found == interleaved(sets)
    assert len(found) == len({prompt.id for _, prompt in found}) == 48
    assert sorted(found, key=lambda one: one[1].id) == sorted(
        in_sequence(sets), key=lambda one: one[1].id
    )


@pytest.mark.parametrize("sizes", [(100, 100), (100, 50), (30, 7), (5, 200)])
def test_any_first_part_has_both_kinds_in_proportion(sizes: tuple[int, int]) -> None:
    sets = [a_set("harm", sizes[0], "harmful"), a_set("good", sizes[1], "benign")]
    found = interleaved(sets)
    for count in range(1, len(found) + 1):
        kinds = Counter(prompt.kind for _, prompt in found[:count])
        for kind, size in (("harmful", sizes[0]), ("benign", sizes[1])):
            assert abs(kinds[kind] - count * size / sum(sizes)) <= 1


def test_any_first_part_is_spread_over_the_categories() -> None:
    found = [prompt for _, prompt in interleaved([a_set("harm", 100, "harmful")])]
    for count in range(1, 101):
        seen = Counter(prompt.category for prompt in found[:count])
        assert max(seen.values()) <= count / 10 + 2
        assert len(seen) >= min(10, count * 2 // 3)


def test_the_halves_of_one_set_are_mixed_too() -> None:
    kinds = [prompt.kind for _, prompt in interleaved([load_benchmark("demo")])]
    assert kinds == ["harmful", "benign"] * (len(kinds) // 2)
