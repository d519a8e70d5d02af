"""Answers folded to the plain text that the patterns read, with the way back.

Nearly every answer in English is ASCII, and there `bytes.translate` changes all of a
text's characters in one pass, at a tenth of the time of the same replacements one by
one. Other texts take the longer way to the same result.
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
    """Return a table for `bytes.translate`: each of some characters to one, or each."""
    table = bytearray(range(256))
    for old, new in changes:
        for number, character in enumerate(old):
            table[ord(character)] = ord(new[number] if len(new) > 1 else new)
    return bytes(table)


_FOLD = _table((_CAPITALS, _CAPITALS.lower()), (_MARKUP, " "), (_SPACES, " "))
_UNSIGNED = _table((_SIGNS, " "))
_STOPPED = _table((_STOPS, "."), (_PAUSES, " "))


class Folded:
    """A text as the patterns of `declining` expect it, with the way back.

    Attributes:
        raw: The text, without space at its ends and not empty.
        text: The folded text: lower case, straight quotes, no markdown and no code,
            single spaces, and a space in front.
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
        if plain.startswith(text[1:last]):  # nothing was folded so far
            return first - 1, last - 1
        # Folding keeps every character but spaces, so those before a place are counted.
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
    """Return the words of a folded text, without the signs that end them."""
    if folded.isascii():
        return folded.encode("ascii").translate(_UNSIGNED).decode("ascii").split()
    for sign in _SIGNS:
        folded = folded.replace(sign, " ")
    return folded.split()


def sentences_of(folded: str) -> list[str]:
    """Return the sentences of a folded text, without the signs within and behind them.

    A colon ends a sentence too. The first is what is left of one before the text.
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
    """Return where the first word begins that is said, or 0 if there is none."""
    found = _LEAD.match(plain)
    end = found.end() if found else 0
    return end if end < len(plain) else 0


def _single_spaced(plain: str) -> str:
    """Return a text with one space for each stretch of white space."""
    if plain.isascii():  # of its white space, line feeds and spaces are left
        if "\n" in plain:
            plain = " ".join(filter(None, plain.split("\n")))
        if "  " not in plain:
            return plain.strip(" ")
    return " ".join(plain.split())
