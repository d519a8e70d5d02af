"""The order in which a run answers its prompts."""

from collections.abc import Callable, Sequence

from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt

INTERLEAVED, GROUPED = "interleaved", "grouped"
_GOLDEN = (5**0.5 - 1) / 2
# Groups of prompts among which those of similar length are put together.
_WINDOW = 8

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


def grouped(
    sets: Sequence[Benchmark], length: Callable[[Named], int], size: int
) -> list[Named]:
    """As :func:`interleaved`, with prompts of similar length next to each other.

    Windows of eight groups follow each other as they are interleaved. In a window each
    set's prompts of a kind are sorted by length, then mixed with the others.

    Args:
        length: of a prompt, in tokens.
        size: prompts of a group.
    """
    if size < 2:
        return interleaved(sets)
    mixed, window = interleaved(sets), _WINDOW * size
    found: list[Named] = []
    for start in range(0, len(mixed), window):
        parts: dict[tuple[str, str], list[Named]] = {}
        for name, prompt in mixed[start : start + window]:
            parts.setdefault((name, prompt.kind), []).append((name, prompt))
        placed = [
            ((position + 0.5) / len(part), which, one)
            for which, part in enumerate(parts.values())
            for position, one in enumerate(sorted(part, key=length))
        ]
        found += [one for *_, one in sorted(placed, key=lambda place: place[:2])]
    return found


def _spread(count: int) -> list[int]:
    """Where each of ``count`` prompts goes: neighbours far apart (golden ratio)."""
    return sorted(range(count), key=lambda position: position * _GOLDEN % 1)
