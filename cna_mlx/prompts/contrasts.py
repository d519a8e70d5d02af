"""Contrasts as values, and the built-in ones, which are data files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from cna_mlx.errors import InputError
from cna_mlx.prompts.validation import (
    Located,
    check_contrast,
    check_prompt,
    kind,
    shown,
)
from cna_mlx.util.reading import parse_json

Item = TypeVar("Item")

FORMAT = 1
_SIDES = ("positive", "negative")
# The halves of a contrast, as the end of its name.
_HALVES = ("odd", "even")


@dataclass(frozen=True)
class PromptSet:
    """Two sets of prompts that differ in one behaviour.

    Attributes:
        name: short and fit for a file name.
        description: one sentence on how the sides differ.
        positive: prompts that show the behaviour, e.g. that a model refuses.
        negative: prompts that do not, matched to them in form.
        positive_label, negative_label: the names of the sides in tables.

    Raises:
        InputError: an empty side, a blank prompt, or a prompt that occurs twice.
    """

    name: str
    description: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    positive_label: str = "positive"
    negative_label: str = "negative"

    def __post_init__(self) -> None:
        where = shown(self.name)
        check_contrast(
            _located(self.positive, f"{where}, positive prompt"),
            _located(self.negative, f"{where}, negative prompt"),
            where,
        )

    @classmethod
    def from_prompts(
        cls,
        positive: Sequence[str],
        negative: Sequence[str],
        name: str = "custom",
        description: str = "",
    ) -> "PromptSet":
        """A contrast from sequences of prompts, without exact repeats on one side.

        Raises:
            InputError: an empty side, a blank prompt, or one that is on both sides.
        """
        return cls(name, description, _distinct(positive), _distinct(negative))

    def half(self, number: int) -> "PromptSet":
        """The prompts 1, 3, 5, ... of each side for 0, the others for 1.

        Raises:
            InputError: a side has a single prompt.
        """
        name = f"{self.name}:{_HALVES[number]}"
        if min(self.sizes) < 2:
            raise InputError(f"{name}: a side with one prompt has no halves; add more")
        sides = self.positive[number::2], self.negative[number::2]
        return replace(self, name=name, positive=sides[0], negative=sides[1])

    def limited(self, count: int | None) -> "PromptSet":
        """At most ``count`` prompts of each side, spread evenly; None for all."""
        sides = spread(self.positive, count), spread(self.negative, count)
        if sides == (self.positive, self.negative):
            return self
        return replace(self, positive=sides[0], negative=sides[1])

    @property
    def sizes(self) -> tuple[int, int]:
        """How many prompts are positive and negative."""
        return len(self.positive), len(self.negative)

    @property
    def sha256(self) -> str:
        """A hash of both sides in their order, without names and labels."""
        content = json.dumps([self.positive, self.negative], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()


def contrast_names() -> list[str]:
    """The names of the built-in contrasts, sorted."""
    return sorted(path.name.removesuffix(".json") for path in _data("contrasts"))


def load_contrast(name: str) -> PromptSet:
    """A built-in contrast by its name, one of :func:`contrast_names`.

    ``NAME:odd`` and ``NAME:even`` are its halves; see :meth:`PromptSet.half`.

    Raises:
        InputError: no contrast has this name; the message lists the names.
    """
    whole, colon, half = name.rpartition(":")
    if colon and half in _HALVES:
        return load_contrast(whole).half(_HALVES.index(half))
    for path in _data("contrasts"):
        if path.name == f"{name}.json":
            return parse_contrast(path.read_text(encoding="utf-8"), path.name)
    known = contrast_names()
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"no contrast {name!r}: {hint}there are {', '.join(known)}")


def load_bank() -> list[PromptSet]:
    """The contrasts that define universal neurons, sorted by name.

    They have nothing to do with refusal, and little with each other: a neuron that
    responds to nearly all of them responds to any difference between prompts.
    """
    paths = sorted(_data("bank"), key=lambda path: path.name)
    return [
        parse_contrast(path.read_text(encoding="utf-8"), path.name) for path in paths
    ]


def parse_contrast(text: str, where: str) -> PromptSet:
    """A contrast from the text of its file.

    Args:
        text: a JSON object with ``format``, ``name``, ``description`` and the sides
            ``positive`` and ``negative``; a side has a ``label`` and ``prompts``: a
            list of strings, or an object of such lists by category.

    Raises:
        InputError: it is not such an object, or a prompt or the contrast is unfit.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); correct the file") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{where}: not a contrast of format {FORMAT}")
    name, description = (_string(data, key, where) for key in ("name", "description"))
    labels, sides = zip(*(_side(data, key, where) for key in _SIDES), strict=True)
    return PromptSet(name, description, *sides, *labels)


def spread(items: tuple[Item, ...], count: int | None) -> tuple[Item, ...]:
    """``count`` of the items, spread evenly; all of them if None or too many.

    Sets are ordered by category: the first would all be of one category.
    """
    total = len(items)
    if count is None or count >= total:
        return items
    return tuple(items[n * total // count] for n in range(count))


def _distinct(prompts: Sequence[str]) -> tuple[str, ...]:
    found: dict[object, str] = {}
    for one in prompts:  # what is not a string is refused later
        found.setdefault(one.strip() if isinstance(one, str) else one, one)
    return tuple(found.values())


def _located(prompts: Sequence[str], where: str) -> list[Located]:
    places = (f"{where} {number}" for number in range(1, len(prompts) + 1))
    return [
        Located(check_prompt(prompt, place), place)
        for prompt, place in zip(prompts, places, strict=True)
    ]


def _side(data: dict[str, Any], key: str, where: str) -> tuple[str, tuple[str, ...]]:
    """A side's label and prompts."""
    side, where = data.get(key), f"{where}, {key}"
    if not isinstance(side, dict):
        raise InputError(f"{where}: an object with label and prompts is expected")
    label = _string(side, "label", where)
    groups = side.get("prompts")
    if isinstance(groups, list):
        return label, tuple(groups)
    if not isinstance(groups, dict):
        raise InputError(f"{where}: prompts are {kind(groups)}, not a list or object")
    for category, prompts in groups.items():
        if not isinstance(prompts, list):
            raise InputError(
                f"{where}: category {category!r} is {kind(prompts)}, not a list"
            )
    return label, tuple(prompt for prompts in groups.values() for prompt in prompts)


def _string(data: dict[str, Any], key: str, where: str) -> str:
    return check_prompt(data.get(key), f"{where}, {key}")


def _data(folder: str) -> list[Traversable]:
    root = files("cna_mlx.prompts") / "data" / folder
    return [path for path in root.iterdir() if path.name.endswith(".json")]
