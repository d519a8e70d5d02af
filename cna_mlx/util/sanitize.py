"""What is shown of a text: controls spelled out, or no more than its first words."""

import unicodedata

# Control, format (direction, zero width), half a surrogate pair, line and paragraph.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# What a text is hidden behind, before people: enough to tell an answer by.
FIRST_WORDS = 4
_FIRST_CHARACTERS = 60


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Text with every control character spelled out.

    Model text is data: terminal escapes would act, a carriage return or a change of
    direction would hide what was written. Newlines and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, ascii_only) for character in text)


def first_words(text: str, count: int = FIRST_WORDS) -> str:
    """How a text begins, on one line, with three dots where more follows."""
    words = text.split(maxsplit=count)
    head = " ".join(words[:count])
    # not every language puts spaces between words
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
