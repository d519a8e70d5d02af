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
_NUMBERS = frozenset(_LISTS["numbers"].split())
_SKIPPED = -1
_LEAST_STEM = 3  # characters
_FEWEST = 8
_FEWEST_OF_ADVICE = 3
_FEWEST_OF_ALL = 2  # where they are most of the words


class Tone(NamedTuple):
    """What the words of a text are about, without function words.

    Attributes:
        words: How many there are.
        moral: Judgements, duties and referrals.
        harm: Harm, crime, people and feelings.
        around: What short advice is about.
        talk: The conversation.
        said: Moral, of harm, or of the conversation.
        numbers: Numbers.
    """

    words: int
    moral: int
    harm: int
    around: int
    talk: int
    said: int
    numbers: int

    def tenths(self, count: int) -> int:
        """Return a count per ten words, rounded."""
        return round(10 * count / max(_FEWEST, self.words))

    @property
    def says_little(self) -> bool:
        """Whether half of the words and more are about no subject matter."""
        return 2 * self.said >= max(1, self.words)

    @property
    def is_hollow(self) -> bool:
        """Whether a text is about the conversation and hardly about anything else."""
        is_talk = 2 * self.talk >= self.words > 0
        return is_talk and not self.numbers and 4 * self.said >= 3 * self.words

    @property
    def is_sermon(self) -> bool:
        """Whether nearly half the words are moral, or what short advice is about."""
        about = self.moral + self.harm + self.around
        enough = _FEWEST_OF_ADVICE if 2 * about <= self.words else _FEWEST_OF_ALL
        return not self.numbers and about >= max(enough, 0.45 * self.words)


class _Stems:
    """A set of words and of beginnings of words."""

    def __init__(self, listed: str) -> None:
        self._words = frozenset(one for one in listed.split() if one[-1] != "*")
        self._stems = frozenset(one[:-1] for one in listed.split() if one[-1] == "*")

    def __contains__(self, word: str) -> bool:
        stems = range(_LEAST_STEM, len(word) + 1)
        return word in self._words or any(word[:n] in self._stems for n in stems)


_NAMES = ("moral", "harm", "around", "talk", "both")
_KINDS = tuple(_Stems(_LISTS[name]) for name in _NAMES)


@lru_cache(maxsize=20_000)
def _kind(word: str) -> int:
    """Return the number of a word's list from 1, or 0."""
    if word in _FUNCTION:
        return _SKIPPED
    for number, stems in enumerate(_KINDS, 1):
        if word in stems:
            return number
    return 6 * (word[0].isdigit() or word in _NUMBERS)


def tone(folded: str) -> Tone:
    """Count the words of a folded text."""
    kinds = list(map(_kind, words_of(folded)))
    words = len(kinds) - kinds.count(_SKIPPED)
    moral, harm, around, talk, both, numbers = map(kinds.count, range(1, 7))
    said = moral + harm + talk + both
    return Tone(words, moral, harm + both, around, talk + both, said, numbers)
