"""Search patterns only in texts that contain the words they need."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class CuedPattern:
    """A pattern and the words that it needs to match.

    Attributes:
        cues: The text must contain one of these words.
        needs: It must also contain one of these, unless empty.
        source: The regular expression.
        is_opening: The pattern matches only at the beginning.
    """

    cues: frozenset[str]
    needs: frozenset[str]
    source: str
    is_opening: bool

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled pattern: all of them take longer than a few answers need."""
        return re.compile(self.source)

    def search(self, folded: str, end: int, start: int = 0) -> re.Match[str] | None:
        """Return the first match in `[start, end)`."""
        if self.is_opening:
            return self.pattern.match(folded, start, end)
        return self.pattern.search(folded, start, end)


def cued(cues: str, pattern: str, needs: str = "") -> CuedPattern:
    """Compile a pattern; its cues and needs are words between spaces."""
    both = frozenset(cues.split()), frozenset(needs.split())
    return CuedPattern(*both, pattern, pattern.startswith("\\A"))


class CueIndex:
    """Finds which patterns can match, from the words of a text.

    A set of patterns is an integer with one bit per pattern, so a few operations per
    cue word decide for all patterns.

    Attributes:
        words: All cues and needs.
    """

    def __init__(self, patterns: Sequence[CuedPattern]) -> None:
        """Index the patterns by their words."""
        # Each word has two sets: low bits where it is a cue, high bits where it is
        # needed. A pattern without needs has both bits at each of its cues.
        self._size = len(patterns)
        self._bits: dict[str, int] = {}
        for number, one in enumerate(patterns):
            cue, need = 1 << number, 1 << number + self._size
            for word in one.cues:
                alone = 0 if one.needs else need
                self._bits[word] = self._bits.get(word, 0) | cue | alone
            for word in one.needs:
                self._bits[word] = self._bits.get(word, 0) | need
        self.words = frozenset(self._bits)
        self._all = (1 << self._size) - 1

    def candidates(self, words: Iterable[str]) -> int:
        """Return the set of patterns that have the words they need."""
        there = 0
        bits = self._bits
        for word in words:
            there |= bits[word]
        return there & (there >> self._size) & self._all


def members(patterns: int) -> Iterator[int]:
    """Yield the numbers of the patterns in a set, in ascending order."""
    while patterns:
        lowest = patterns & -patterns
        yield lowest.bit_length() - 1
        patterns ^= lowest


def leftmost(
    patterns: Sequence[CuedPattern], some: int, folded: str, end: int, start: int = 0
) -> re.Match[str] | None:
    """Return the leftmost match in `[start, end)` of the patterns in the set `some`."""
    found: re.Match[str] | None = None
    for number in members(some):
        match = patterns[number].search(folded, end, start)
        if match is not None and (found is None or match.start() < found.start()):
            found = match
    return found
