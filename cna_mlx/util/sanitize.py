"""Sanitize text for display: escape control characters or shorten it."""

import unicodedata

# Control, format (direction, zero width), half a surrogate pair, line and paragraph.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Enough words to recognize an answer whose text is hidden.
FIRST_WORDS = 4
_FIRST_CHARACTERS = 60


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Escape every control character; keep newlines and tabs.

    Model text is data: terminal escapes would act, and a carriage return or a change of
    direction would hide text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, ascii_only) for character in text)


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """Put a token in quotes on one line, so that its spaces are seen."""
    shown = visible(text, ascii_only=ascii_only)
    shown = shown.replace("\n", "\\n").replace("\t", "\\t")
    return f'"{shown}"'


def first_words(text: str, count: int = FIRST_WORDS) -> str:
    """Return the first words of a text on one line, with three dots if more follows."""
    words = text.split(maxsplit=count)
    head = " ".join(words[:count])
    # not every language has spaces between words
    short = head[:_FIRST_CHARACTERS]
    return f"{short} ..." if len(words) > count or short != head else head


def _visible(character: str, ascii_only: bool) -> str:
    if character in "\n\t":
        return character
    if unicodedata.category(character) in _HIDDEN and character != "\u200d":
        return ascii(character)[1:-1]
    if ascii_only and not character.isascii():
        return character.encode("ascii", "backslashreplace").decode()
    return character
