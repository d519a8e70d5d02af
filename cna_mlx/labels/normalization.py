"""Fold answers to plain text for the patterns, and map spans back."""

import re

Span = tuple[int, int]

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,300}`", re.DOTALL)
# Signs, symbols and a speaker's name or a heading before the first word.
_LEAD = re.compile(
    r"[^\w\"']*(?:(?:assistant|response|answer|note|ai|bot|model)(?::|[ \t]*\n)"
    r"[^\w\"']*)?"
)
_WORD = re.compile(r"\S+")
# Words that a damaged model wrote without spaces: "butican'thelpwiththat".
_GLUED = re.compile(r"(?<=[ ,.])(but)?i ?(can't|cannot|won't|'m)(?=[ a-z])")


class _Replacing:
    """Replace single characters by single characters, so that offsets stay.

    For ASCII, which most answers are, ten times faster than `str.translate`.
    """

    def __init__(self, *changes: tuple[str, str]) -> None:
        """Replace each character of some strings by one character."""
        of = {old: new for several, new in changes for old in several}
        self._table = str.maketrans(of)
        self._ascii = bytes(ord(of.get(chr(n), chr(n))) for n in range(128)) * 2

    def __call__(self, text: str) -> str:
        if text.isascii():
            return text.encode("ascii").translate(self._ascii).decode("ascii")
        return text.translate(self._table)


_plain = _Replacing(
    ("\u2019\u2018\u02bc\uff07", "'"),
    ("\u201c\u201d", '"'),
    ("\u2026\u2014\u200b\ufeff*_#>~|()[", " "),
    ("\u0130", "i"),  # its lower case is two characters
)
_without_signs = _Replacing(('.,;:!?/"', " "))
_with_stops = _Replacing(("!?:", "."), (',;"/', " "))


class Folded:
    """A text folded for the patterns, with a map back to its characters.

    Attributes:
        raw: The text, without space at its ends and not empty.
        text: The folded text: lower case, straight quotes, without markdown and code,
            with single spaces and a leading space.
    """

    __slots__ = ("_plain", "raw", "text")

    def __init__(self, raw: str) -> None:
        """Fold a text that is not empty and has no space at its ends."""
        self.raw = plain = raw
        if "`" in plain:
            plain = _FENCE.sub(lambda code: " " * len(code[0]), plain)
        plain = _plain(plain).lower()
        if plain[0] == '"' and plain.find('"', 1) in (-1, len(plain) - 1):
            plain = " " + plain[1:]  # wholly quoted: the speaker's own words
        if ":" in plain[:12] or not plain[0].isalpha():
            lead = _lead(plain)
            plain = " " * lead + plain[lead:]
        self._plain = plain
        self.text = " " + " ".join(plain.split())
        if any(cue in self.text for cue in ("ican", "iwon't", "buti")):
            # spaces do not count in `original`
            parted = _GLUED.sub(r" \1 i \2 ", self.text).replace(" i 'm", " i'm")
            self.text = " " + " ".join(parted.split())

    def original(self, span: Span) -> Span:
        """Return the place in the unfolded text of a span of the folded text."""
        first, last = span
        text, plain = self.text, self._plain
        first += text[first] == " "
        last -= text[last - 1] == " "
        if plain.startswith(text[1:last]):  # folding changed nothing up to here
            return first - 1, last - 1
        # Folding keeps every character except spaces, so count the others.
        left = first - text.count(" ", 0, first)
        right = last - text.count(" ", 0, last)
        start = seen = 0
        for word in _WORD.finditer(plain):
            end = word.end()
            before, seen = seen, seen + end - word.start()
            if before <= left < seen:
                start = end - (seen - left)
            if seen >= right:
                return start, end - (seen - right)
        return start, len(plain)


def words_of(folded: str) -> list[str]:
    """Return the words of a folded text, without punctuation."""
    return _without_signs(folded).split()


def sentences_of(folded: str) -> list[str]:
    """Return the sentences of a folded text, without punctuation.

    A colon ends a sentence too. The first is the rest of one that began earlier.
    """
    return [one.rstrip(".") for one in _with_stops(folded).split(". ")]


def _lead(plain: str) -> int:
    """Return where the first spoken word begins, or 0 without one."""
    found = _LEAD.match(plain)
    end = found.end() if found else 0
    return end if end < len(plain) else 0
