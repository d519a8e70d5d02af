"""The paper's figures, and which of its models a run is of.

Source: Herring, Naviasky and Malhotra, "Targeted Neuron Modulation via Contrastive Pair
Search", arXiv 2605.12290v1, May 2026, tables 1 to 3 and 7. The figures are the
authors', with their labels: to compare with, not to match.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cna_mlx.models import catalogue
from cna_mlx.util.files import packaged_toml

ARXIV = "2605.12290"


@dataclass(frozen=True)
class PaperRow:
    """What the paper reports of a model with its circuit ablated (m = 0).

    Attributes:
        baseline, ablated: refusal rates as shares, over JBB-Behaviors (table 3), or for
            a base model over table 2's prompts.
        relative: the change as a share of the baseline; None if not printed.
        quality: of the ablated model (tables 1 and 2).
    """

    model: str
    is_instruct: bool
    baseline: float
    ablated: float
    relative: float | None
    source: str
    quality: float

    @property
    def printed(self) -> tuple[str, str, str]:
        """Baseline, ablated and relative change, as the paper prints them."""
        digits = 0 if self.is_instruct else 1
        rates = (self.baseline, self.ablated)
        before, after = (f"{100 * one:.{digits}f}%" for one in rates)
        relative = "-" if self.relative is None else f"{100 * self.relative:+.1f}%"
        return before, after, relative


@dataclass(frozen=True)
class BaseAndInstruct:
    """How many neurons the circuits of a base and its instruct model share."""

    model: str
    shared: int
    size: int  # of each circuit


@dataclass(frozen=True)
class PaperMatch:
    """The paper's row for a model, and how certain the match is."""

    row: PaperRow
    is_certain: bool  # by the hub id; a shape proves nothing
    how: str


_FIGURES = packaged_toml("cna_mlx.analysis", "paper.toml")
BASE_AND_INSTRUCT = tuple(
    BaseAndInstruct(model, *figures) for model, figures in _FIGURES["shared"].items()
)

_ORGANISATIONS = ("meta-llama", "qwen", "mlx-community")
# What a conversion appends to the name: its precision.
_CONVERTED = re.compile(r"-(\d+bit|bf16|fp16|mlx|dwq|awq|q\d+)$", re.IGNORECASE)
_MODEL_TYPES = {"Llama": "llama", "Qwen2.5": "qwen2"}


def paper_rows() -> tuple[PaperRow, ...]:
    """Return the paper's sixteen models: the instruct ones, then their bases."""
    return (
        *map(_instruct_row, _FIGURES["instruct"]),
        *map(_base_row, _FIGURES["base"]),
    )


def paper_row(
    name: str, config: Mapping[str, Any] | None = None, *, is_local: bool = False
) -> PaperMatch | None:
    """Return the paper's row for a model, or None.

    It is certain by the hub id of a model or of its conversion by mlx-community, and
    uncertain by the same architecture and shape.
    """
    known = {row.model.casefold(): row for row in paper_rows()}
    if not is_local and (own := _plain_name(name)) in known:
        row = known[own]
        return PaperMatch(row, True, f"{name} is {row.model} by its hub id")
    twin = _same_shape(config or {})
    if twin is None:
        return None
    is_base = "base" in re.split(r"[-_/ .]", name.casefold())
    row = _base_row(twin) if is_base else _instruct_row(twin)
    how = (
        f"{name} has the architecture and the shape of {row.model}; it may be "
        "another model"
    )
    return PaperMatch(row, False, how)


def _instruct_row(name: str) -> PaperRow:
    baseline, ablated, relative, quality = _FIGURES["instruct"][name]
    rates = baseline / 100, ablated / 100, relative / 100
    return PaperRow(f"{name}-Instruct", True, *rates, "table 3", quality)


def _base_row(name: str) -> PaperRow:
    baseline, ablated, quality = _FIGURES["base"][name]
    rates = baseline / 100, ablated / 100, None
    return PaperRow(name, False, *rates, "table 2", quality)


def _plain_name(hub_id: str) -> str | None:
    """The model's name in a hub id of its makers, or of mlx-community's conversions."""
    organisation, mark, name = hub_id.casefold().partition("/")
    if not mark or organisation not in _ORGANISATIONS:
        return None
    if organisation == "mlx-community":
        while (shorter := _CONVERTED.sub("", name)) != name:
            name = shorter
    return name.removeprefix("meta-")


def _same_shape(config: Mapping[str, Any]) -> str | None:
    """The model of the catalogue with this architecture and shape."""
    shape = {key: config.get(theirs) for key, theirs in catalogue.SHAPE.items()}
    for entry in catalogue.entries():
        family = entry.name.partition("-")[0]
        if config.get("model_type") == _MODEL_TYPES.get(family) and all(
            entry.shape[key] == value for key, value in shape.items()
        ):
            return entry.name
    return None
