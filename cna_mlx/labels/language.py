"""Tell whether a text is English, by its script and its commonest words."""

import re

from cna_mlx.util.files import packaged_toml

_LISTS = {
    name: frozenset(words.split())
    for name, words in packaged_toml("cna_mlx.labels", "languages.toml").items()
}
_ENGLISH = _LISTS.pop("english")
_FOREIGN = frozenset().union(*_LISTS.values()) - _ENGLISH
_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_QUOTED = re.compile(
    r"[\"\u201c\u201e\u00ab][^\"\u201c\u201d\u00bb]*[\"\u201d\u201c\u00bb]"
)
_SENTENCE = re.compile(r"[^.!?\n:;\u3002\uff01\uff1f\u0964\u061f]+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_MARKED = re.compile(r"[\u00c0-\u024f\u1e00-\u1eff]")  # Latin letters with marks
_BEYOND = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1eff]")  # letters of other scripts

_READ = 1200  # characters
_ENOUGH = 0.25  # of the words in English
_SHORT = 3  # fewer words tell no language
_LONG = 8  # in more, one common word of another language tells nothing


def is_english(text: str) -> bool:
    """Return whether a text is English, or too short or wordless to tell.

    A text is not English if it has sentences of another language and less than a
    quarter of its letters are in English sentences.
    """
    if _is_plainly_english(text):
        return True
    text = _FENCE.sub(" ", text[:_READ])
    unquoted = _QUOTED.sub(" ", text)
    if len(_WORD.findall(unquoted)) > _SHORT:
        text = unquoted
    english = foreign = 0
    for sentence in _SENTENCE.findall(text):
        side = _language(sentence)
        if side > 0:
            english += len(sentence)
        elif side < 0:
            foreign += len(sentence)
    return english >= _ENOUGH * (english + foreign)


def _is_plainly_english(text: str) -> bool:
    """Return whether the first words settle it, for speed."""
    if not text.isascii():
        return False
    words = text[:160].lower().split()
    return 4 * sum(map(_ENGLISH.__contains__, words)) > len(words)


def _language(sentence: str) -> int:
    """Return 1 for English, -1 for another language, 0 where it cannot be told."""
    words = _WORD.findall(sentence)
    letters = sum(map(len, words))
    if 2 * len(_BEYOND.findall(sentence)) > letters:
        return -1
    lower = [word.lower().replace("\u2019", "'") for word in words]
    known = len(_ENGLISH.intersection(lower))
    others = len(_FOREIGN.intersection(lower))
    if len(words) < _SHORT or 5 * sum(map(str.islower, words)) < 2 * len(words):
        return 0  # a word, names, an address
    if known > others:
        return 1
    marked = sum(_MARKED.search(word) is not None for word in words)
    is_marked = not known and marked >= 2 and 5 * marked >= len(words)
    is_likely = others == 1 and not known and _SHORT < len(words) <= _LONG
    return -1 if others >= 2 or is_marked or is_likely else 0
