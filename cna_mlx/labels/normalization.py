"""Fold answers to the plain text that the patterns read, and map spans back.

Nearly every English answer is ASCII, where `bytes.translate` replaces all characters in
one pass, ten times faster than one by one. Other texts get the same result slowly.
"""

import re

Span = tuple[int, int]

_FENCE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,300}`", re.DOTALL)
# Signs, symbols and a speaker's name or a heading before the first word.
_LEAD = re.compile(
    r"[^\w\"']*(?:(?:assistant|response|answer|note|ai|bot|model)(?::|[ \t]*\n)"
    r"[^\w\"']*)?"
)
_WORD = re.compile(r"\S+")

_MARKUP = "*_#>~|()["
# One character for one character, so that offsets stay.
_PLAIN = (
    ("\u2019", "'"),
    ("\u2018", "'"),
    ("\u02bc", "'"),
    ("\uff07", "'"),
    ("\u201c", '"'),
    ("\u201d", '"'),
    ("\u0130", "i"),  # the one character whose lower case is two
    ("\u2026", " "),
    ("\u2014", " "),
    ("\u200b", " "),
    ("\ufeff", " "),
)
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACES = "\t\r\v\f\x1c\x1d\x1e\x1f"
_SIGNS = '.,;:!?/"'
_STOPS = "!?:"
_PAUSES = ',;"/'


def _table(*changes: tuple[str, str]) -> bytes:
    """Return a table for `bytes.translate` that maps characters to one, or to each."""
    table = bytearray(range(256))
    for old, new in changes:
        for number, character in enumerate(old):
            table[ord(character)] = ord(new[number] if len(new) > 1 else new)
    return bytes(table)


_FOLD = _table((_CAPITALS, _CAPITALS.lower()), (_MARKUP, " "), (_SPACES, " "))
_UNSIGNED = _table((_SIGNS, " "))
_STOPPED = _table((_STOPS, "."), (_PAUSES, " "))


class Folded:
    """A text as the patterns expect it, and the way back to its characters.

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
        if not plain.isascii():
            for mark, straight in _PLAIN:
                plain = plain.replace(mark, straight)
        if plain.isascii():
            plain = plain.encode("ascii").translate(_FOLD).decode("ascii")
        else:
            for mark in _MARKUP:
                plain = plain.replace(mark, " ")
            plain = plain.lower()
        if plain[0] == '"' and plain.find('"', 1) in (-1, len(plain) - 1):
            plain = " " + plain[1:]  # wholly quoted: the speaker's own words
        if ":" in plain[:12] or not plain[0].isalpha():
            lead = _lead(plain)
            plain = " " * lead + plain[lead:]
        self._plain = plain
        self.text = " " + _single_spaced(plain)

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
    if folded.isascii():
        return folded.encode("ascii").translate(_UNSIGNED).decode("ascii").split()
    for sign in _SIGNS:
        folded = folded.replace(sign, " ")
    return folded.split()


def sentences_of(folded: str) -> list[str]:
    """Return the sentences of a folded text, without punctuation.

    A colon ends a sentence too. The first is the rest of one that began earlier.
    """
    if folded.isascii():
        folded = folded.encode("ascii").translate(_STOPPED).decode("ascii")
    else:
        for sign in _STOPS:
            folded = folded.replace(sign, ".")
        for sign in _PAUSES:
            folded = folded.replace(sign, " ")
    return [one.rstrip(".") for one in folded.split(". ")]


def _lead(plain: str) -> int:
    """Return where the first spoken word begins, or 0 without one."""
    found = _LEAD.match(plain)
    end = found.end() if found else 0
    return end if end < len(plain) else 0


def _single_spaced(plain: str) -> str:
    """Return a text with each stretch of white space replaced by a space."""
    if plain.isascii():  # folding left only line feeds and spaces
        if "\n" in plain:
            plain = " ".join(filter(None, plain.split("\n")))
        if "  " not in plain:
            return plain.strip(" ")
    return " ".join(plain.split())
