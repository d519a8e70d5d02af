"""Model text is data: what would act, or hide what was written, is spelled out."""

import unicodedata

# Control, format (direction, zero width), half a surrogate pair, line and paragraph.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def visible(text: str, *, ascii_only: bool = False) -> str:
    """Text with every control character spelled out.

    Model text is data: terminal escapes would act, a carriage return or a change of
    direction would hide what was written. Newlines and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character, ascii_only) for character in text)


def _visible(character: str, ascii_only: bool) -> str:
    if character in "\n\t":
        return character
    if unicodedata.category(character) in _HIDDEN and character != "\u200d":
        return ascii(character)[1:-1]
    if ascii_only and not character.isascii():
        return character.encode("ascii", "backslashreplace").decode()
    return character
