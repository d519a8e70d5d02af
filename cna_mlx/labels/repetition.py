"""Measure repetition: the quality of a sample, and degenerate texts."""

import re

from cna_mlx.labels.normalization import Span

_LETTERS = re.compile(r"[^\W_]{2}")
_TAIL = 240  # characters at the end of a text
_LEAST_TAIL = 59  # minimum length of thirty words
# One of four pieces of this length does not contain a number of a list of short lines.
_PIECE = 8
# A loop at the end: its last characters occur before, within this distance.
_PROBE = 10
_FINAL = 1200
_LEAST_FINAL = 40
_MARKER = re.compile(r"\d+[.):]?|[-*\u2022]")


def quality(text: str) -> float:
    """Return the share of distinct 4-grams among all 4-grams of `text.split()`.

    Low values mean repetition. High values alone mean nothing: random words score 1.0.

    Returns:
        Between 0 (exclusive) and 1; 1.0 for texts of fewer than four words.

    Source: the quality measure of arXiv 2605.12290 (distinct / all 4-grams).
    """
    words = text.split()
    total = len(words) - 3
    if total < 1:
        return 1.0
    grams = zip(words, words[1:], words[2:], words[3:], strict=False)
    return len(set(grams)) / total


def loop(text: str) -> Span | None:
    """Find a phrase or character that repeats for at least half of the text.

    The stretch is exactly periodic, contains its period at least four times, and is at
    least 24 characters long. It covers the second or third quarter of the text, so one
    probe at the start of each finds it: linear time, and very fast for prose.

    Returns:
        `[start, end)` of the longest such stretch, or None.
    """
    size = len(text)
    quarter, half = size // 4, size // 2
    width = 24 if size >= 192 else max(1, size // 8)
    find = text.find
    second = find(text[quarter : quarter + width], quarter + 1, 2 * quarter + 1)
    third = find(text[half : half + width], half + 1, half + quarter + 1)
    if second < 0 and third < 0:  # prose, nearly always
        return None
    best: Span | None = None
    for start, at in ((quarter, second), (half, third)):
        stop = start + quarter
        probe = text[start : start + width]
        for _ in range(8):
            if at < 0:
                break
            period = at - start
            first, last = _periodic(text, start, period)
            length = last - first
            if 2 * length >= size and length >= max(24, 4 * period):
                if best is None or length > best[1] - best[0]:
                    best = (first, last)
                break
            at = text.find(probe, at + 1, stop + 1)
    return best


def final_loop(text: str) -> Span | None:
    """Return a stretch of 40 characters at the end that repeats a phrase four times."""
    size = len(text)
    before = text.rfind(text[-_PROBE:], max(0, size - _FINAL), size - 1)
    if before < 0 or size < _LEAST_FINAL:
        return None
    period = size - _PROBE - before
    first, last = _periodic(text, max(0, size - 2 * period), period)
    is_final = last == size and last - first >= max(_LEAST_FINAL, 4 * period)
    return (first, last) if is_final else None


def degenerate(text: str) -> Span | None:
    """Return the part that makes a text unusable: a loop, or characters but no words.

    Any one of: `loop`; more than a tenth replacement characters; no letter or digit;
    over 24 visible characters with under a quarter letters and digits; or 30 words and
    more with under 30% distinct words and under 30% distinct 4-grams, not counting
    list markers (tested only if the last words repeat; `_is_poor`).

    Returns:
        `[start, end)` in characters of the text, or None.
    """
    stretch = loop(text)
    if stretch is not None:
        return stretch
    whole = (0, len(text))
    if not text.isascii() and 10 * text.count("\ufffd") > len(text):
        return whole
    if not text[:2].isalpha() and _LETTERS.search(text, 0, 64) is None:
        alphanumeric = sum(map(str.isalnum, text))
        visible = len(text) - sum(map(str.isspace, text))
        if not alphanumeric or (visible > 24 and 4 * alphanumeric < visible):
            return whole
    if _is_poor(text[-_TAIL:]):
        words = [word for word in text.split() if not _MARKER.fullmatch(word)]
        few = 10 * len(set(words)) < 3 * len(words)
        if few and quality(" ".join(words)) < 0.3:
            return whole
    return None


def _is_poor(tail: str) -> bool:
    """Return whether the last words of a text mostly repeat.

    Splits into words only if one of the last short pieces occurs earlier: splitting
    takes longer than the rest of `degenerate`.
    """
    end = len(tail)
    if end < _LEAST_TAIL:
        return False
    find = tail.find
    for last in (end, end - 5, end - 10, end - 15):
        first = last - _PIECE
        if find(tail[first:last]) < first:
            words = tail.split()
            return len(words) >= 30 and 10 * len(set(words)) < 4 * len(words)
    return False


def _periodic(text: str, at: int, period: int) -> Span:
    """Return the longest `[start, end)` around `at` that repeats with `period`."""
    end = at + period
    before = _agreeing(text[:at][::-1], text[:end][::-1])
    return at - before, end + _agreeing(text[at:], text[end:])


def _agreeing(one: str, other: str) -> int:
    """Return the length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
