"""The paper's figures, and which of its models a run is of.

Source: Herring, Naviasky and Malhotra, "Targeted Neuron Modulation via Contrastive Pair
Search", arXiv 2605.12290v1, May 2026, tables 1 to 3, 7 and 8, sections 5.1 and 5.3. The
figures are the authors', with their labels: something to compare with, and nothing to
be matched.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cna_mlx.discovery.selection import jaccard
from cna_mlx.models import catalogue

ARXIV = "2605.12290"


@dataclass(frozen=True)
class PaperRow:
    """What the paper reports of a model: ablation at m = 0, and CAA at full strength.

    Attributes:
        model: its name there.
        is_instruct: or a base model.
        baseline, ablated: refusal rates over JBB-Behaviors (table 3), as shares; for a
            base model over table 2's prompts.
        relative: the change as a share of the baseline, as printed; None where the
            paper prints none.
        source: the table.
        methods: the same model in the comparison of methods.
    """

    model: str
    is_instruct: bool
    baseline: float
    ablated: float
    relative: float | None
    source: str
    methods: "Methods"


@dataclass(frozen=True)
class Methods:
    """CNA beside CAA at full strength (tables 1 and 2): 8 and 8 discovery prompts.

    Attributes:
        baseline: refusal rate, as a share.
        cna_refusal, cna_quality: with the circuit ablated.
        caa_refusal, caa_quality: with CAA at strength 1.
    """

    baseline: float
    cna_refusal: float
    cna_quality: float
    caa_refusal: float
    caa_quality: float


@dataclass(frozen=True)
class BaseAndInstruct:
    """A base model's refusal circuit beside its instruct model's (tables 7 and 8).

    Attributes:
        model: the pair's name.
        shared: neurons in both, of the 200 that each circuit has there.
        late_base, late_instruct: the share of each in its model's last three layers.
    """

    model: str
    shared: int
    late_base: float
    late_instruct: float
    size: int = 200

    @property
    def jaccard(self) -> float:
        """The overlap as `compare` prints it: shared over all in either circuit."""
        return jaccard(self.shared, self.size, self.size)


@dataclass(frozen=True)
class Statement:
    """Something that the paper says of all its models, in our words."""

    text: str
    source: str


@dataclass(frozen=True)
class PaperMatch:
    """The paper's row for a model, and how sure it is that they are the same.

    Attributes:
        row: the paper's figures.
        is_certain: whether the hub id says so; a shape alone does not.
        how: why this row, in a sentence.
    """

    row: PaperRow
    is_certain: bool
    how: str


# model: baseline, ablated, relative of table 3; then of table 1 the baseline, CNA's
# refusal and quality, CAA's refusal and quality. All but quality in percent.
_INSTRUCT = {
    "Llama-3.2-1B": (90, 34, -62.2, 43.4, 20.2, 0.975, 0.0, 0.554),
    "Llama-3.2-3B": (84, 47, -44.0, 57.6, 26.3, 0.977, 0.0, 0.431),
    "Llama-3.1-8B": (90, 34, -62.2, 88.9, 5.1, 0.969, 38.4, 0.493),
    "Llama-3.1-70B": (86, 18, -79.1, 72.7, 12.1, 0.981, 0.0, 0.569),
    "Qwen2.5-1.5B": (93, 12, -87.1, 97.0, 26.3, 0.982, 100, 0.888),
    "Qwen2.5-3B": (90, 58, -35.6, 92.9, 34.3, 0.984, 0.0, 0.844),
    "Qwen2.5-7B": (87, 2, -97.7, 82.8, 13.1, 0.980, 5.1, 0.414),
    "Qwen2.5-72B": (78, 8, -89.7, 65.7, 5.1, 0.983, 98.0, 0.406),
}
# model: as the last five of the above, of table 2.
_BASE = {
    "Llama-3.2-1B": (2.0, 0.0, 0.658, 3.0, 0.697),
    "Llama-3.2-3B": (4.0, 8.1, 0.758, 1.0, 0.669),
    "Llama-3.1-8B": (4.0, 2.0, 0.729, 0.0, 0.729),
    "Llama-3.1-70B": (12.1, 3.0, 0.818, 1.0, 0.656),
    "Qwen2.5-1.5B": (5.1, 3.0, 0.906, 4.0, 0.807),
    "Qwen2.5-3B": (14.1, 11.1, 0.865, 2.0, 0.812),
    "Qwen2.5-7B": (20.2, 16.2, 0.919, 2.0, 0.690),
    "Qwen2.5-72B": (35.4, 21.2, 0.962, 27.3, 0.890),
}

BASE_AND_INSTRUCT = (
    BaseAndInstruct("Llama-3.2-1B", 17, 0.820, 0.870),
    BaseAndInstruct("Qwen2.5-3B", 28, 0.725, 0.580),
)

STATEMENTS = (
    Statement(
        "ablation lowers the refusals of every instruct model, by more than half in "
        "six of the eight",
        "table 3",
    ),
    Statement(
        "with the circuit ablated the quality of the instruct models stays between "
        "0.969 and 0.984; CAA's falls below 0.60 in six of the eight at full strength",
        "table 1",
    ),
    Statement(
        "MMLU stays within a point of the baseline at every strength of CNA, and drops "
        "to near zero under CAA at full strength",
        "section 5.1, figure 2",
    ),
    Statement(
        "in base models steering shifts the content and does not change the behaviour",
        "section 5.3, tables 2 and 4",
    ),
)

_ORGANISATIONS = ("meta-llama", "qwen", "mlx-community")
# What a conversion appends to the name: its precision.
_CONVERTED = re.compile(r"-(\d+bit|bf16|fp16|mlx|dwq|awq|q\d+)$", re.IGNORECASE)
_MODEL_TYPES = {"Llama": "llama", "Qwen2.5": "qwen2"}


def rows() -> tuple[PaperRow, ...]:
    """The paper's sixteen models: the instruct ones in its order, then their bases."""
    return tuple(map(_instruct_row, _INSTRUCT)) + tuple(map(_base_row, _BASE))


def paper_row(
    name: str, config: Mapping[str, Any] | None = None, *, is_local: bool = False
) -> PaperMatch | None:
    """The paper's row for a model.

    Args:
        name: a hub id, or what the user calls the model.
        config: its config.json, to compare the shape where the name says nothing.
        is_local: the model came from a directory: then its name proves nothing.

    Returns:
        The row, certain by the hub id of a model, or of a conversion of it by
        mlx-community; uncertain by the same architecture and shape; else None.
    """
    known = {row.model.casefold(): row for row in rows()}
    if not is_local and (own := _plain_name(name)) in known:
        row = known[own]
        return PaperMatch(row, True, f"{name} is {row.model} by its hub id")
    twin = _same_shape(config or {})
    if twin is None:
        return None
    is_base = "base" in re.split(r"[-_/ .]", name.casefold())
    row = _base_row(twin) if is_base else _instruct_row(twin)
    how = (
        f"{name} has the architecture and the shape of {row.model}; it is not known to "
        "be the same model"
    )
    return PaperMatch(row, False, how)


def _instruct_row(name: str) -> PaperRow:
    baseline, ablated, relative, *methods = _INSTRUCT[name]
    return PaperRow(
        f"{name}-Instruct",
        True,
        baseline / 100,
        ablated / 100,
        relative / 100,
        "table 3",
        _methods(*methods),
    )


def _base_row(name: str) -> PaperRow:
    methods = _methods(*_BASE[name])
    return PaperRow(
        name, False, methods.baseline, methods.cna_refusal, None, "table 2", methods
    )


def _methods(
    baseline: float,
    cna_refusal: float,
    cna_quality: float,
    caa_refusal: float,
    caa_quality: float,
) -> Methods:
    return Methods(
        baseline / 100, cna_refusal / 100, cna_quality, caa_refusal / 100, caa_quality
    )


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
