"""A prompt as a strip of words with gauges: the values and their wording, no MLX."""

from collections.abc import Sequence
from typing import NamedTuple

from cna_mlx.util.formatting import decimal

#: Shades of a word: from 0, at the mean of the answered prompts, to 4, of the refused.
SHADES = 5
#: First tokens that are rarer in every arm are not shown.
LEAST_CHANCE = 0.01


class Word(NamedTuple):
    """A word with the space before it, and the gauge of the prompt up to it."""

    text: str
    gauge: float


def largest_rise(words: Sequence[Word]) -> tuple[int, float] | None:
    """The position of the word that raises the gauge most, and by how much.

    The first word counts from 0, the mean of the answered prompts. None if no word
    raises the gauge.
    """
    before = [0.0, *(word.gauge for word in words)]
    rises = [word.gauge - old for word, old in zip(words, before, strict=False)]
    most = max(rises, default=0.0)
    return (rises.index(most), most) if most > 0 else None


def rise_text(words: Sequence[Word]) -> str:
    """Name the word that raises the gauge most."""
    rise = largest_rise(words)
    if rise is None:
        return "no word raises the gauge"
    word = " ".join(words[rise[0]].text.split())
    return f'"{word}" raises the gauge most, by {decimal(rise[1])}'


def shade(gauge: float) -> int:
    """How strongly to colour a word, from 0 to 4."""
    return min(SHADES - 1, int(max(0.0, gauge) * (SHADES - 1)))
