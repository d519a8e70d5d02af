"""Check prompts and contrasts, wherever they come from."""

from collections.abc import Sequence
from typing import NamedTuple

from cna_mlx.errors import InputError

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


#: Characters of a prompt or an answer: more than any model's context holds.
LONGEST = 1_000_000


class Located(NamedTuple):
    """A prompt and its place, e.g. ``harmful.txt, line 7``; what else is known."""

    text: str
    where: str
    category: str | None = None
    id: str | None = None
    level: str | None = None


def kind(value: object) -> str:
    """The type of a value, in JSON's terms."""
    return _KINDS.get(type(value), type(value).__name__)


def shown(text: str) -> str:
    """A name from outside, safe to put into a message of one line."""
    return text if text.isprintable() else repr(text)


def check_prompt(value: object, where: str) -> str:
    """Check that a value is a prompt, and return it.

    Raises:
        InputError: it is not a string, blank, or contains half a surrogate pair.
    """
    text = check_text(value, where, "a prompt")
    if not text.strip():
        raise InputError(f"{where}: a blank prompt; fill it in or remove it")
    return text


def check_text(value: object, where: str, wanted: str) -> str:
    """Check that a value is text, which may be blank, and return it.

    Raises:
        InputError: it is not a string, too long, or contains half a surrogate pair.
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: {kind(value)}, not a string; put {wanted} there")
    if len(value) > LONGEST:
        raise InputError(
            f"{where}: {len(value):,} characters; {wanted} has at most {LONGEST:,}"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: character {error.start + 1} is half of a surrogate pair; "
            "correct the text"
        ) from error
    return value


def check_contrast(
    positive: Sequence[Located], negative: Sequence[Located], where: str
) -> None:
    """Check that two sides can be contrasted.

    Raises:
        InputError: a side is empty, or a prompt occurs twice, on one side or on both.
    """
    for label, side in (("positive", positive), ("negative", negative)):
        if not side:
            raise InputError(f"{where}: no {label} prompts; a contrast needs both")
    first: dict[str, str] = {}
    repeats = []
    for text, place, *_ in (*positive, *negative):
        if first.setdefault(text.strip(), place) != place:
            repeats.append((place, first[text.strip()]))
    if repeats:
        more = f" (and {len(repeats) - 1:,} more like it)" if len(repeats) > 1 else ""
        raise InputError(
            f"{repeats[0][0]}: the same prompt as {repeats[0][1]}{more}; remove one of "
            "the two"
        )
