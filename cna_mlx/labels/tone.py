"""Measure how much of a text moralizes or talks about the conversation.

An answer that gives nothing consists of such words; in one that gives something they
are few, or come late.
"""

from functools import lru_cache
from typing import NamedTuple

from cna_mlx.labels.normalization import words_of
from cna_mlx.util.files import packaged_toml

_LISTS = packaged_toml("cna_mlx.labels", "tone.toml")
_FUNCTION = frozenset(_LISTS["function"].split())
_LEAST_STEM = 3


class Tone(NamedTuple):
    """What the words of a text are about, without function words.

    Attributes:
        words: How many there are.
        moral: About morals, the law, danger or help by others.
        talk: About the conversation, and not moral.
        numbers: That begin with a digit.
    """

    words: int
    moral: int
    talk: int
    numbers: int

    @property
    def density(self) -> int:
        """Moral words per ten words, at most 6."""
        return min(6, 10 * self.moral // max(1, self.words))


class _Stems:
    """A set of words and of beginnings of words."""

    def __init__(self, listed: str) -> None:
        self._words = frozenset(one for one in listed.split() if one[-1] != "*")
        self._stems = frozenset(one[:-1] for one in listed.split() if one[-1] == "*")

    def __contains__(self, word: str) -> bool:
        stems = range(_LEAST_STEM, len(word) + 1)
        return word in self._words or any(word[:n] in self._stems for n in stems)


_MORAL, _TALK = _Stems(_LISTS["moral"]), _Stems(_LISTS["talk"])


@lru_cache(maxsize=20_000)
def _of(word: str) -> tuple[int, int, int]:
    """Return 1 or 0 for moral, talk and number."""
    moral = word in _MORAL
    return moral, not moral and word in _TALK, word[0].isdigit()


def tone(folded: str) -> Tone:
    """Count the words of a folded text."""
    kinds = [_of(word[:24]) for word in words_of(folded) if word not in _FUNCTION]
    moral, talk, numbers = map(sum, zip(*kinds, strict=True)) if kinds else (0, 0, 0)
    return Tone(len(kinds), moral, talk, numbers)
