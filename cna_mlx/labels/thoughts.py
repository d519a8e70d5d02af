"""Separate a model's thought from its answer, and find thoughts that never end."""

import re

from cna_mlx.labels import patterns
from cna_mlx.labels.normalization import Span
from cna_mlx.util.formatting import counted

_WORDS = r"(?:seed:)?(?:think|thinking|thought|reasoning|analysis)\|?[>\]\u25b7]"
_CLOSING = re.compile(
    rf"(?<!`)(?:[<\[\u25c1]\|?/\|?{_WORDS}|<\|end_(?:of_thought|think|thinking)\|>|"
    r"<channel\|>|<\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    rf"[<\[\u25c1]\|?{_WORDS}|<\|(?:begin_of_thought|start_thinking)\|>|"
    r"<\|channel>thought|<\|channel\|>analysis<\|message\|>",
    re.IGNORECASE,
)
_AT_END = re.compile(rf"(?:{_OPENING.pattern})\s*\Z", re.IGNORECASE)
_TAG = 64  # characters of a tag and space, at most
# Harmony, decoded without its special tokens: "analysisThe user ...assistantfinalNo."
_BARE_OPENING = re.compile(r"\s*(?:assistant)?analysis(?=[A-Z\"'])")
_BARE_CLOSING = re.compile(r"assistant\s?final(?=\S)")

# A thought without tags, cut before it ends: see `_deliberates`.
_LOOK = 400  # characters; deliberation shows early
_YOU = 2  # more of them speak to the user
_READ = 4000
_ENOUGH = 3  # signs of deliberation
_ENOUGH_WHOLE = 5  # if the text ends with a sentence
_QUOTED = re.compile(r"[\"\u201c][^\"\u201d\n]*(?:[\"\u201d]|\Z)")
_TO_USER = re.compile(r"\b(?:you|your|you're|yours|yourself)\b")
_FIRST_PERSON = re.compile(r"\b(?:i|me|we|hmm+|wait)\b")
_END = re.compile(r"[.!?:)\]}\"'\u201d\u2019`*\u3002\U0001f300-\U0001faff]\s*\Z")


def opens_thought(prompt: str) -> bool:
    """Return whether a rendered prompt ends with an opening tag."""
    return _AT_END.search(prompt[-_TAG:]) is not None


def cut_thoughts(count: int) -> str:
    """Return a warning about answers that end inside a thought."""
    return (
        f"{counted(count, 'answer')} cut inside the thought: raise --max-tokens or use "
        "--thinking off"
    )


def after_thought(text: str, is_begun: bool) -> tuple[int, Span | None]:
    """Return the start of the answer, and the span of a thought that does not end.

    An opening tag counts only at the beginning of a line; elsewhere it is quoted.

    Args:
        text: The generated text.
        is_begun: The prompt ended with an opening tag.
    """
    whole = (0, len(text))
    if bare := _BARE_OPENING.match(text):
        start = _last(_BARE_CLOSING, text)
        return (start, None) if start else (0, (bare.start(), len(text)))
    start = 0
    if "<" in text or "[" in text or "\u25c1" in text:
        start = _last(_CLOSING, text)
        for tag in _OPENING.finditer(text, start):
            line = max(text.rfind("\n", start, tag.start()) + 1, start)
            if not text[line : tag.start()].strip():
                return start, (tag.start(), len(text))
    if not start and text.strip() and (is_begun or _deliberates(text)):
        return 0, whole
    return start, None


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Return the end of the last match, or 0."""
    end = 0
    for found in pattern.finditer(text):
        end = found.end()
    return end


def _deliberates(text: str) -> bool:
    """Return whether a text only deliberates about a user to whom it never turns.

    It speaks of the user or the request, hesitates, and hardly says "you" outside
    quotes. A text that ends within a sentence needs less of it.
    """
    if not patterns.ABOUT_USER.search(text[:_LOOK].lower()):
        return False
    own = _QUOTED.sub(" ", text[:_READ].lower().replace("\u2019", "'"))
    if own.count("you", 0, _LOOK) > _YOU or _FIRST_PERSON.search(own) is None:
        return False
    about = len(patterns.ABOUT_USER.findall(own))
    signs = about + len(patterns.HESITATES.findall(own))
    is_cut = _END.search(text[-20:]) is None
    if len(_TO_USER.findall(own)) > (signs if is_cut else about) // 3:
        return False
    return signs >= (_ENOUGH if is_cut else _ENOUGH_WHOLE)
