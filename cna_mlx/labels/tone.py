"""Measure how much of a text moralizes or talks about the conversation.

An answer that gives nothing consists of such words; in one that gives something they
are few, or come late.
"""

from collections.abc import Iterable

from cna_mlx.util.files import packaged_toml

_LISTS = packaged_toml("cna_mlx.labels", "tone.toml")
_FUNCTION = frozenset(_LISTS["function"].split())
_NUMBERS = frozenset(_LISTS["numbers"].split())
_LEAST_STEM = 3  # characters
_FEWEST = 8
_FEWEST_OF_ADVICE = 3
_FEWEST_OF_ALL = 2  # where they are most of the words


class Tone:
    """What the words of a text are about, without function words."""

    __slots__ = ("_count", "words")

    def __init__(self, words: Iterable[str]) -> None:
        """Count the words of a folded text."""
        kinds = bytes(map(_kind_of, words))
        self._count = kinds.count
        #: How many there are.
        self.words = len(kinds) - kinds.count(_SKIPPED)

    @property
    def moral(self) -> int:
        """Judgements, duties and referrals."""
        return self._count(_MORAL)

    @property
    def harm(self) -> int:
        """Harm, crime, people and feelings."""
        return self._count(_HARM) + self._count(_BOTH)

    @property
    def around(self) -> int:
        """What short advice is about."""
        return self._count(_AROUND)

    @property
    def talk(self) -> int:
        """The conversation."""
        return self._count(_TALK) + self._count(_BOTH)

    @property
    def said(self) -> int:
        """Moral, of harm, or of the conversation."""
        return self.moral + self.harm + self._count(_TALK)

    @property
    def numbers(self) -> int:
        """Numbers."""
        return self._count(_NUMBER)

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


# Kinds of words; those from 1 to 5 have a list.
_SUBJECT, _MORAL, _HARM, _AROUND, _TALK, _BOTH, _NUMBER, _SKIPPED = range(8)
_LISTED = ("moral", "harm", "around", "talk", "both")
_STEMS = tuple(_Stems(_LISTS[name]) for name in _LISTED)
_REMEMBERED = 20_000  # words


class _Kinds(dict[str, int]):
    """The kinds of the words met so far."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = kind = _kind(word)
        return kind


_kind_of = _Kinds().__getitem__


def _kind(word: str) -> int:
    if word in _FUNCTION:
        return _SKIPPED
    for number, stems in enumerate(_STEMS, 1):
        if word in stems:
            return number
    return _NUMBER if word[0].isdigit() or word in _NUMBERS else _SUBJECT
