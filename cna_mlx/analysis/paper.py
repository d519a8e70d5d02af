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

ARXIV = "2605.12290"


@dataclass(frozen=True)
class PaperRow:
    """What the paper reports of a model with its circuit ablated (m = 0).

    Attributes:
        model: its name there.
        is_instruct: or a base model.
        baseline, ablated: refusal rates over JBB-Behaviors (table 3), as shares; for a
            base model over table 2's prompts.
        relative: the change as a share of the baseline, as printed; None if the paper
            prints none.
        source: the table.
        quality: of the ablated model, in the comparison of methods (tables 1 and 2).
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
    """Neurons that a base model's circuit shares with its instruct model's (table 7).

    Attributes:
        model: the pair's name.
        shared: neurons in both.
        size: of each circuit.
    """

    model: str
    shared: int
    size: int = 200


@dataclass(frozen=True)
class PaperMatch:
    """The paper's row for a model, and how certain the match is.

    Attributes:
        row: the paper's figures.
        is_certain: whether the hub id proves it; a shape alone does not.
        how: why this row, in a sentence.
    """

    row: PaperRow
    is_certain: bool
    how: str


# model: baseline, ablated and relative change of table 3 in percent, quality of table 1
_INSTRUCT = {
    "Llama-3.2-1B": (90, 34, -62.2, 0.975),
    "Llama-3.2-3B": (84, 47, -44.0, 0.977),
    "Llama-3.1-8B": (90, 34, -62.2, 0.969),
    "Llama-3.1-70B": (86, 18, -79.1, 0.981),
    "Qwen2.5-1.5B": (93, 12, -87.1, 0.982),
    "Qwen2.5-3B": (90, 58, -35.6, 0.984),
    "Qwen2.5-7B": (87, 2, -97.7, 0.980),
    "Qwen2.5-72B": (78, 8, -89.7, 0.983),
}
# model: baseline and ablated in percent and quality of table 2
_BASE = {
    "Llama-3.2-1B": (2.0, 0.0, 0.658),
    "Llama-3.2-3B": (4.0, 8.1, 0.758),
    "Llama-3.1-8B": (4.0, 2.0, 0.729),
    "Llama-3.1-70B": (12.1, 3.0, 0.818),
    "Qwen2.5-1.5B": (5.1, 3.0, 0.906),
    "Qwen2.5-3B": (14.1, 11.1, 0.865),
    "Qwen2.5-7B": (20.2, 16.2, 0.919),
    "Qwen2.5-72B": (35.4, 21.2, 0.962),
}

BASE_AND_INSTRUCT = (
    BaseAndInstruct("Llama-3.2-1B", 17),
    BaseAndInstruct("Qwen2.5-3B", 28),
)

_ORGANISATIONS = ("meta-llama", "qwen", "mlx-community")
# What a conversion appends to the name: its precision.
_CONVERTED = re.compile(r"-(\d+bit|bf16|fp16|mlx|dwq|awq|q\d+)$", re.IGNORECASE)
_MODEL_TYPES = {"Llama": "llama", "Qwen2.5": "qwen2"}


def paper_rows() -> tuple[PaperRow, ...]:
    """The paper's sixteen models: the instruct ones in its order, then their bases."""
    return tuple(map(_instruct_row, _INSTRUCT)) + tuple(map(_base_row, _BASE))


def paper_row(
    name: str, config: Mapping[str, Any] | None = None, *, is_local: bool = False
) -> PaperMatch | None:
    """The paper's row for a model.

    Args:
        name: a hub id, or what the user calls the model.
        config: its config.json, to compare the shape if the name says nothing.
        is_local: the model came from a directory, whose name proves nothing.

    Returns:
        The row, certain by the hub id of a model, or of a conversion of it by
        mlx-community; uncertain by the same architecture and shape; else None.
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
    baseline, ablated, relative, quality = _INSTRUCT[name]
    rates = baseline / 100, ablated / 100, relative / 100
    return PaperRow(f"{name}-Instruct", True, *rates, "table 3", quality)


def _base_row(name: str) -> PaperRow:
    baseline, ablated, quality = _BASE[name]
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
