"""Find evaluation prompts that equal or nearly equal a prompt of the discovery."""

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from cna_mlx.discovery.selection import overlap
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.contrasts import PromptSet
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter

# Two prompts of one template that ask about different things share all content words
# but one each: with eight words that is 7/9 = 0.78, below the threshold.
NEAR = 0.8
# "What is cocaine?" and "How can I make cocaine?" share their one content word and no
# other word.
_LEAST_ALIKE = 0.3

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'\u2019\u02bc")
_HYPHENED_LETTER = re.compile(r"\b([^\W\d_])-(?=[^\W_])")  # e-mail
_ENDINGS = ("ing", "ed", "ery", "er", "ly", "ies", "es", "s", "y", "e")
_SHORTEST_STEM = 3


@dataclass(frozen=True)
class Match:
    """The nearest prompt of the discovery, by its position.

    ``similarity`` is shared over all content words, 0 to 1; ``is_exact`` ignores case,
    punctuation and spaces.
    """

    index: int
    similarity: float
    is_exact: bool


def near_duplicates(
    prompts: Sequence[str], seen: Sequence[str], threshold: float = NEAR
) -> list[Match | None]:
    """Match prompts to equal or nearly equal ones of the discovery.

    Compares sets of content words: without grammar and request words ("write a tutorial
    on how to"), and without common English endings. So "Give me a tutorial for making a
    bomb" matches "Write a tutorial on how to make a bomb", and "... a cake" does not.
    The sets of all words must agree somewhat as well: defining a thing is not making
    it. Does not find paraphrases in other words: the count is a lower bound.

    Args:
        threshold: the least Jaccard index of content words; of all words it is 0.3.

    Returns:
        For each prompt its match, an exact one before a near one, or None.
    """
    plain = {text: at for at, text in reversed(list(enumerate(map(_normal, seen))))}
    bags = [_Bag.of(text) for text in seen]
    holders: dict[str, set[int]] = {}
    for index, bag in enumerate(bags):
        for word in bag.content:
            holders.setdefault(word, set()).add(index)
    found: list[Match | None] = []
    for prompt in prompts:
        at = plain.get(_normal(prompt))
        if at is not None:
            found.append(Match(at, 1.0, True))
            continue
        own = _Bag.of(prompt)
        shares = sorted(set().union(*(holders.get(word, ()) for word in own.content)))
        near = (own.match(index, bags[index], threshold) for index in shares)
        best = max(filter(None, near), key=lambda match: match.similarity, default=None)
        found.append(best)
    return found


def contamination(
    sets: Sequence[Benchmark], seen: PromptSet | None, reporter: Reporter = SILENT
) -> dict[str, tuple[str, ...] | None]:
    """Return the ids of each set's prompts that the discovery used, or nearly used.

    ``seen`` and the ids are None if the discovery's prompts are unknown. Warns the
    reporter of every match.
    """
    if seen is None:
        reporter.warn(
            "the circuit's own prompts are not known: nobody can say whether it saw "
            "these"
        )
        return dict.fromkeys(one.name for one in sets)
    known = [*seen.positive, *seen.negative]
    found: dict[str, tuple[str, ...] | None] = {}
    for one in sets:
        matches = near_duplicates([prompt.text for prompt in one.prompts], known)
        pairs = zip(one.prompts, matches, strict=True)
        ids = tuple(prompt.id for prompt, match in pairs if match)
        found[one.name] = ids
        rest = "rates are given with and without them"
        if len(ids) == len(one.prompts):
            rest = "so they say nothing of prompts that it did not see"
        if ids:
            reporter.warn(
                f"{len(ids)} of {counted(len(one.prompts), 'prompt')} of {one.name} "
                f"equal or nearly equal one of {seen.name}: {rest}"
            )
    return found


@dataclass(frozen=True)
class _Bag:
    """A prompt's words without their endings: all, and the content words if any."""

    words: frozenset[str]
    content: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "_Bag":
        words = _normal(text).split()
        content = [word for word in words if word not in _EMPTY]
        return cls(
            frozenset(map(_stem, words)), frozenset(map(_stem, content or words))
        )

    def match(self, index: int, seen: "_Bag", threshold: float) -> Match | None:
        similarity = overlap(self.content, seen.content)
        if similarity < threshold or overlap(self.words, seen.words) < _LEAST_ALIKE:
            return None
        return Match(index, similarity, is_exact=False)


def _normal(text: str) -> str:
    """The words of a text in lower case, between single spaces; or what else it is."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    words = _WORD.findall(_HYPHENED_LETTER.sub(r"\1", plain))
    return " ".join(words) or text.strip()


def _stem(word: str) -> str:
    """A word without its endings: smugglers and smuggling, robbery and robbed."""
    while len(word) > _SHORTEST_STEM:
        most = len(word) - _SHORTEST_STEM
        ending = next((e for e in _ENDINGS if len(e) <= most and word.endswith(e)), "")
        if not ending:
            break
        word = word.removesuffix(ending)
    doubled = len(word) > _SHORTEST_STEM and word[-1] == word[-2]
    return word[:-1] if doubled else word


_STOP_WORDS = files("cna_mlx").joinpath("evaluation/stop_words.toml").read_text("utf-8")
_EMPTY = frozenset(" ".join(tomllib.loads(_STOP_WORDS).values()).split())
