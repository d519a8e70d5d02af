"""Cut an answer where it leaks a turn marker, or after its first round of a loop."""

import re

from cna_mlx.labels.normalization import Span

_SPECIAL = (
    r"<\|[a-z_]{2,24}\|>|</?s>|<(?:start|end)_of_turn>|<eos>|\[/?inst\]|<</?sys>>"
)
_LEAD = re.compile(
    rf"\s*(?:(?:{_SPECIAL})\s*)+(?:(?:assistant|model)\b:?\s*(?:(?:{_SPECIAL})\s*)*)?",
    re.IGNORECASE,
)
_MARKER = re.compile(_SPECIAL, re.IGNORECASE)
_END = r"(?<=[.!?\"')\]*\u2019\u201d])"
# A token that ends a sentence or a line; within a sentence it is spoken of.
_END_TOKEN = re.compile(
    rf"(?:{_END}[ ]?|\n)(?:{_SPECIAL})|(?:{_SPECIAL})(?=\s*\Z|\n|<)",
    re.IGNORECASE,
)
# The next turn: glued to the end of a sentence, on a line of its own, or a heading.
_GLUED = re.compile(rf"{_END}[ ]?assistant(?=\s*\n|\s*\Z|[A-Z])")
_HEADING = re.compile(
    r"\n[ \t]*(?:#{1,6}[ ]?(?:human|user|assistant|instruction|response|question|"
    r"input)|human|user):(?=\s)",
    re.IGNORECASE,
)
_BARE = re.compile(rf"(?:{_END}[ ]?|\n)(?:user|model)(?=[ \t]*\n)")
_OTHER = re.compile(r"(?:assistant|model)[ \t]*\n")
_STOP = re.compile(r"[.!?\u3002][\"')\]*\u2019\u201d]*(?=\s|\Z)")
_ROUND = 24  # characters that tell one round of a loop from the next
_SENTENCE = 12  # characters of the shortest sentence that says something


def lead(text: str) -> int:
    """Return where a text begins after special tokens and the assistant's name."""
    found = _LEAD.match(text) if text.lstrip()[:1] in ("<", "[") else None
    return found.end() if found else 0


def leak(text: str) -> tuple[int, bool] | None:
    """Find the first turn marker after a complete sentence.

    Returns:
        Where the answer ends, and whether another turn follows; None without a marker.
    """
    ends = []
    if ("<" in text or "[" in text) and (found := _END_TOKEN.search(text)):
        rest = text[found.start() :]
        ends.append((found.start(), _MARKER.sub("", rest).strip() != ""))
    if "assistant" in text and (found := _GLUED.search(text)):
        ends.append((found.start(), True))
    if ":" in text and "\n" in text and (found := _heading(text)):
        ends.append((found.start(), True))
    if ("user" in text or "model" in text) and (found := _bare(text)):
        ends.append((found.start(), True))
    return min(ends, default=None)


def _bare(text: str) -> re.Match[str] | None:
    """Return the first role on a line of its own if another role follows."""
    found = _BARE.search(text)
    return found if found and _OTHER.search(text, found.end()) else None


def _heading(text: str) -> re.Match[str] | None:
    """Return the first heading of a turn if it follows the end of a sentence."""
    found = _HEADING.search(text)
    before = text[: found.start()].rstrip() if found else ""
    return found if _STOP.search(before, max(0, len(before) - 2)) else None


def first_round(text: str, repeated: Span) -> tuple[int, bool]:
    """Return where the first round of a loop ends, at the end of a sentence.

    Also whether that sentence belongs to the loop. The end is 0 if there is none.
    """
    start, end = repeated
    width = min(_ROUND, (end - start) // 4)
    middle = text.find(text[start : start + width], start + 1)
    inner = _STOP.search(text, max(0, middle - 2), min(end, 2 * middle - start))
    if inner is not None:
        return inner.end(), True
    return last_stop(text[:middle]), False


def last_stop(text: str) -> int:
    """Return the end of the last whole sentence, or 0."""
    end = 0
    for found in _STOP.finditer(text):
        end = found.end()
    return end


def first_stop(text: str) -> int:
    """Return the end of the first sentence that says something, or 0."""
    found = _STOP.search(text, _SENTENCE)
    return found.end() if found else 0
