"""The order in which a run answers its prompts."""

from collections.abc import Sequence

from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt

INTERLEAVED = "interleaved"
_GOLDEN = (5**0.5 - 1) / 2

#: A prompt with the name of its set.
Named = tuple[str, EvalPrompt]


def in_sequence(sets: Sequence[Benchmark]) -> list[Named]:
    """One set after the other, each in its own order."""
    return [(one.name, prompt) for one in sets for prompt in one.prompts]


def interleaved(sets: Sequence[Benchmark]) -> list[Named]:
    """Mix the sets, and their harmful and benign prompts, in proportion.

    Any first part of the result is spread over each set, which may be ordered by
    category.
    """
    parts: dict[tuple[str, str], list[Named]] = {}
    for name, prompt in in_sequence(sets):
        parts.setdefault((name, prompt.kind), []).append((name, prompt))
    placed = [
        ((position + 0.5) / len(part), which, one)
        for which, part in enumerate(parts.values())
        for position, one in zip(_spread(len(part)), part, strict=True)
    ]
    return [one for *_, one in sorted(placed, key=lambda place: place[:2])]


def _spread(count: int) -> list[int]:
    """Where each of ``count`` prompts goes: neighbours far apart (golden ratio)."""
    return sorted(range(count), key=lambda position: position * _GOLDEN % 1)
