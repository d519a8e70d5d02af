"""Say in sentences how stable a circuit is."""

from collections.abc import Iterator

from cna_mlx.discovery.selection import SplitHalf
from cna_mlx.search.stability import MOSTLY, OFTEN, Overlaps, Stability
from cna_mlx.util.formatting import counted, decimal, decimal_range

# A change of an overlap that is worth a word.
_CHANGE = 0.02
# From here on unrelated contrasts share a part of the circuit that matters.
_SHARED = 0.1


def stability_lines(found: Stability) -> list[str]:
    """The findings, the most important first."""
    return list(_lines(found))


def a_side(prompts: tuple[int, int]) -> str:
    """``8``, or ``50/6`` if the sides differ."""
    return "/".join(map(str, dict.fromkeys(prompts)))


def overlap_text(one: Overlaps) -> str:
    """``0.62 (0.51 to 0.69)``."""
    return f"{decimal(one.mean)} ({decimal_range(one.low, one.high)})"


def _lines(found: Stability) -> Iterator[str]:
    yield (
        f"{found.chosen(OFTEN)} of {counted(len(found.neurons), 'neuron')} are chosen "
        f"in at least 9 of 10 resamples of the prompts, {found.chosen(MOSTLY)} in at "
        "least half."
    )
    halves = found.halves
    yield (
        f"The circuits of two random halves of the prompts overlap by "
        f"{overlap_text(halves)}; {decimal(halves.chance, 4)} is expected by chance."
    )
    if SplitHalf(halves.mean, halves.chance).is_low:
        yield "That is low: which neurons are found depends on the prompts."
    yield from _prompts(found)
    yield from _sizes(found)
    if raw := found.unfiltered:
        yield (
            f"Without the universal filter the halves overlap by "
            f"{decimal(raw.halves.mean)}."
        )
    if found.bank:
        yield _bank(found.bank)
    for one in found.others:
        yield f"The circuit of {one.name} overlaps by {decimal(one.jaccard)}."


def _prompts(found: Stability) -> Iterator[str]:
    if len(found.subsets) < 2:
        return
    first, *_, before, last = (found.subsets[0], *found.subsets)
    means = [decimal(one.disjoint.mean) for one in (first, before, last)]
    sizes = [a_side(one.prompts) for one in (first, before, last)]
    text = (
        f"From {sizes[0]} prompts a side two circuits overlap by {means[0]}, from "
        f"{sizes[2]} by {means[2]}"
    )
    if last.disjoint.mean - before.disjoint.mean < _CHANGE:
        yield f"{text}: more prompts change little."
    else:
        yield f"{text}. It still rises from {sizes[1]} ({means[1]}): add prompts."


def _sizes(found: Stability) -> Iterator[str]:
    several = found.fractions
    if len(several) < 2:
        return
    means = sorted(one.halves.mean for one in several)
    yield (
        f"Circuits of {several[0].k:,} to {several[-1].k:,} neurons from two halves "
        f"overlap by {decimal_range(means[0], means[-1])}."
    )


def _bank(one: Overlaps) -> str:
    text = (
        "Circuits of contrasts that have nothing to do with the behaviour overlap with "
        f"it by {overlap_text(one)}"
    )
    if one.mean < _SHARED:
        return f"{text}."
    return f"{text}: part of it responds to any difference between prompts."
