"""The order in which a run answers its prompts."""

from collections.abc import Callable, Sequence
from functools import partial

from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt

INTERLEAVED, GROUPED = "interleaved", "grouped"
_GOLDEN = (5**0.5 - 1) / 2
# Groups of prompts among which those of similar length are put together.
_WINDOW = 8

# Prompts of a group: where one batch has fewer, several batches are a group.
_GROUP = 8

#: A prompt with the name of its set.
Named = tuple[str, EvalPrompt]


def sizes(rows: int, arms: int) -> tuple[int, int]:
    """Prompts of a batch of so many rows, and of a group of batches.

    With 0 rows or one each prompt is answered by itself.
    """
    batch = max(1, rows // arms)
    return batch, batch * -(-_GROUP // batch) if rows > 1 else batch


def in_sequence(sets: Sequence[Benchmark]) -> list[Named]:
    """One set after the other, each in its own order."""
    return [(one.name, prompt) for one in sets for prompt in one.prompts]


def interleaved(sets: Sequence[Benchmark]) -> list[Named]:
    """Mix the sets, and their harmful and benign prompts, in proportion.

    Any first part of the result is spread over each set, which may be ordered by
    category.
    """
    return _mixed(in_sequence(sets), _spread)


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
        found += _mixed(mixed[start : start + window], partial(sorted, key=length))
    return found


def _mixed(
    named: Sequence[Named], arranged: Callable[[list[Named]], list[Named]]
) -> list[Named]:
    """Each set's prompts of a kind in their arranged order, mixed in proportion."""
    parts: dict[tuple[str, str], list[Named]] = {}
    for name, prompt in named:
        parts.setdefault((name, prompt.kind), []).append((name, prompt))
    placed = [
        ((position + 0.5) / len(part), which, one)
        for which, part in enumerate(parts.values())
        for position, one in enumerate(arranged(part))
    ]
    return [one for *_, one in sorted(placed, key=lambda place: place[:2])]


def _spread(part: list[Named]) -> list[Named]:
    """Neighbours far apart (golden ratio)."""
    places = sorted(range(len(part)), key=lambda position: position * _GOLDEN % 1)
    placed = sorted(zip(places, part, strict=True), key=lambda pair: pair[0])
    return [one for _, one in placed]
