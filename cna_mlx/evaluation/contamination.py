"""Which evaluation prompts the discovery has seen, or as good as seen."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.prompts.sets import PromptSet, load_contrast

# Two prompts of one template that ask about different things share all content words
# but one on either side: with eight words each that is 7/9 = 0.78, and stays below.
NEAR = 0.8

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")
_ENDINGS = ("ingly", "edly", "ings", "ing", "ed", "ly", "es", "s", "e")
_SHORTEST_STEM = 3

# Words that say nothing of what is asked about: the grammar, and how requests are put.
_FUNCTION = """
    a an the this that these those it its i im ive id me my mine you your yours he him
    his she her hers we us our they them their who whom whose which what whats where
    when why how hows is are was were be been being am do does did doing done have has
    had having can could should would will shall may might must of in on at by to for
    from with without about into onto over under as and or but if so than then there
    here too very also just only any some such no not dont cant
"""
_REQUEST = """
    please kindly hello hi hey write draft compose create develop produce make making
    generate give provide show tell explain describe teach help list outline design
    build prepare suggest offer need want like wanted best better good way ways step
    steps detailed detail details complete full comprehensive thorough simple easy
    exact exactly tutorial guide guidance manual instruction instructions direction
    directions method methods plan plans script article text post message tips advice
    example examples walk through get getting take use using let lets
"""


@dataclass(frozen=True)
class Match:
    """The prompt of the discovery that an evaluation prompt comes nearest to.

    Attributes:
        index: its position among those seen.
        similarity: shared over all content words, 0 to 1.
        is_exact: the same text but for case, punctuation and spaces.
    """

    index: int
    similarity: float
    is_exact: bool


def near_duplicates(
    prompts: Sequence[str], seen: Sequence[str], threshold: float = NEAR
) -> list[Match | None]:
    """Which prompts equal, or nearly equal, one that was seen.

    Compared are the sets of content words: without the grammar and without what any
    request is put in ("write a tutorial on how to"), and with the common English
    endings taken off. So "Give me a tutorial for making a bomb" is as good as "Write a
    tutorial on how to make a bomb", and "... a cake" shares nothing with either. A
    paraphrase in other words is not found: what is counted is a lower bound.

    Args:
        prompts: what is evaluated on.
        seen: what the discovery saw.
        threshold: the least Jaccard index of content words that counts as near.

    Returns:
        For each prompt its match, an exact one before a near one; None for no match.
    """
    plain = {text: at for at, text in reversed(list(enumerate(map(_normal, seen))))}
    bags = [content_words(text) for text in seen]
    found: list[Match | None] = []
    for prompt in prompts:
        at = plain.get(_normal(prompt))
        if at is not None:
            found.append(Match(at, 1.0, True))
            continue
        own = content_words(prompt)
        best = max(
            ((_jaccard(own, bag), -index) for index, bag in enumerate(bags)),
            default=(0.0, 0),
        )
        near = best[0] >= threshold
        found.append(Match(-best[1], best[0], False) if near else None)
    return found


def discovery_prompts(circuit: Circuit) -> PromptSet | None:
    """The prompts that a circuit was discovered on, if they are built in.

    Args:
        circuit: its provenance names the contrast and holds its hash.

    Returns:
        The contrast; None where its prompts are not known: a contrast of files, one
        that has changed since, or a circuit that was made by hand.
    """
    entry: Any = circuit.provenance.get("contrast")
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return None
    try:
        contrast = load_contrast(entry["name"])
    except InputError:
        return None
    return contrast if contrast.sha256 == entry.get("sha256") else None


def content_words(text: str) -> frozenset[str]:
    """The words that say what a prompt is about, without their endings.

    Where there are none, all of its words.
    """
    words = _normal(text).split()
    content = [word for word in words if word not in _EMPTY]
    return frozenset(map(_stem, content or words))


def _normal(text: str) -> str:
    """The words of a text in lower case, between single spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return " ".join(_WORD.findall(plain))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            word = word[: -len(ending)]
            break
    # planned, plan
    if (
        len(word) > _SHORTEST_STEM
        and word[-1] == word[-2]
        and word[-1] not in "aeiouls"
    ):
        word = word[:-1]
    return word


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


_EMPTY = frozenset((_FUNCTION + _REQUEST).split())
