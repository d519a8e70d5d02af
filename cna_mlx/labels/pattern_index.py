"""Patterns that are looked for only where a word stands without which they fail."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signal:
    """A pattern, and words without which it cannot match.

    To look for words in a set costs next to nothing, and most answers hold none.

    Attributes:
        cues: One of them is needed.
        needs: One of them is needed as well, unless there are none.
    """

    cues: frozenset[str]
    needs: frozenset[str]
    pattern: re.Pattern[str]
    is_opening: bool  # the pattern matches nowhere but at the beginning

    def search(self, folded: str, end: int, start: int = 0) -> re.Match[str] | None:
        """Return the first match in `[start, end)`."""
        if self.is_opening:
            return self.pattern.match(folded, start, end)
        return self.pattern.search(folded, start, end)


def signal(cues: str, pattern: str, needs: str = "") -> Signal:
    """Return the signal of a pattern with cues written as words between spaces."""
    opens = pattern.startswith("\\A")
    both = frozenset(cues.split()), frozenset(needs.split())
    return Signal(*both, re.compile(pattern), opens)


class Cues:
    """Which of several signals the words of a text allow.

    Sets of signals are whole numbers with a bit for each, so that a few operations
    over an answer's telling words decide for all of them.

    Attributes:
        words: All words that say something about it.
    """

    def __init__(self, signals: Sequence[Signal]) -> None:
        """Turn the signals' cues around."""
        # Below, bits of those that have a cue there; above, of those that have what
        # they need as well.
        self._size = len(signals)
        self._bits: dict[str, int] = {}
        for number, one in enumerate(signals):
            cue, need = 1 << number, 1 << number + self._size
            for word in one.cues:
                alone = 0 if one.needs else need
                self._bits[word] = self._bits.get(word, 0) | cue | alone
            for word in one.needs:
                self._bits[word] = self._bits.get(word, 0) | need
        self.words = frozenset(self._bits)
        self._all = (1 << self._size) - 1

    def allowed(self, words: Iterable[str]) -> int:
        """Return the set of those that have what they need.

        Args:
            words: Some of those of the attribute; others raise KeyError.
        """
        there = 0
        bits = self._bits
        for word in words:
            there |= bits[word]
        return there & (there >> self._size) & self._all


def members(signals: int) -> Iterator[int]:
    """Yield the numbers of the signals of a set, in their order."""
    while signals:
        lowest = signals & -signals
        yield lowest.bit_length() - 1
        signals ^= lowest


def search_all(
    signals: Sequence[Signal], some: int, folded: str, end: int, start: int = 0
) -> re.Match[str] | None:
    """Return the leftmost match of a set `some` of the signals in `[start, end)`."""
    found: re.Match[str] | None = None
    for number in members(some):
        match = signals[number].search(folded, end, start)
        if match is not None and (found is None or match.start() < found.start()):
            found = match
    return found
