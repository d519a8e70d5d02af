"""Neurons of a circuit, and the rows of its file."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cna_mlx.errors import CircuitError


class Neuron(NamedTuple):
    """Input ``index`` of layer ``layer``'s down-projection, and its delta."""

    layer: int
    index: int  # type: ignore[assignment]  # the field hides tuple.index
    delta: float


class Moments(NamedTuple):
    """A neuron's mean and standard deviation over the two sides of the contrast."""

    positive_mean: float
    positive_std: float
    negative_mean: float
    negative_std: float

    @property
    def effect_size(self) -> float | None:
        """Cohen's d: the difference of the means over the pooled standard deviation.

        Both sides count alike. None if the neuron does not vary.
        """
        # not squared: a file may have values whose squares are beyond floating point
        pooled = math.hypot(self.positive_std, self.negative_std) / math.sqrt(2)
        return (self.positive_mean - self.negative_mean) / pooled if pooled else None


class Details(NamedTuple):
    """What a circuit may say further of a neuron; None for what it does not say.

    Attributes:
        score: what it was ranked by, if not the size of its delta.
        expert: of a mixture, the expert that it belongs to; None in memory, where the
            index counts through the experts of the circuit's model.
        shift: the constant that it is pinned to; see :class:`cna_mlx.Pin`.
        positive_routed, negative_routed: of a mixture, the share of each side's prompts
            whose last token the router sent to its expert.
    """

    score: float | None = None
    expert: int | None = None
    shift: float | None = None
    positive_routed: float | None = None
    negative_routed: float | None = None


#: More layers, and more neurons in one, than any model has.
MOST_LAYERS, MOST_NEURONS = 10_000, 10_000_000

BASIC = [*Neuron._fields]
COLUMNS = [*BASIC, *Moments._fields]
FURTHER = [*Details._fields]


def known_columns(columns: Any, newest: int) -> bool:
    """Whether a file of this format may have these columns, in this order."""
    if newest < 2 or not isinstance(columns, list):
        return columns in (COLUMNS, BASIC)
    further = [name for name in FURTHER if name in columns]
    return columns in ([*COLUMNS, *further], [*BASIC, *further])


def used_columns(details: Sequence[Details]) -> list[str]:
    """The further columns that have a value in some row."""
    columns = zip(FURTHER, zip(*details, strict=True), strict=False)
    return [name for name, values in columns if any(v is not None for v in values)]


def read_neurons(
    rows: Iterable[Any], name: str, columns: Sequence[str] | None = None
) -> list[Neuron]:
    """Check rows and read their neurons; ``name`` is for the messages.

    Args:
        columns: of all rows; None for (layer, index) or (layer, index, delta).

    Raises:
        CircuitError: a row has another form, or is repeated.
    """
    length = None if columns is None else len(columns)
    optional = _places(columns or ())
    neurons = []
    seen = set()
    for number, row in enumerate(rows):
        where = f"{name}: neuron {number}"
        if not isinstance(row, list | tuple) or len(row) < 2:
            raise CircuitError(f"{where} is not [layer, index, delta]: {row!r:.80}")
        if len(row) not in ((2, 3) if length is None else (length,)):
            wanted = length or "2 or 3"
            raise CircuitError(f"{where} has {len(row)} columns instead of {wanted}")
        if any(not _is_number(value) for value in _given(row, optional)):
            raise CircuitError(f"{where} contains a value that is not a finite number")
        layer, index = row[:2]
        if layer != int(layer) or index != int(index) or min(layer, index) < 0:
            raise CircuitError(f"{where}: layer and index must be 0, 1, 2, ...")
        if layer >= MOST_LAYERS or index >= MOST_NEURONS:
            raise CircuitError(f"{where}: no model has neuron {index} of layer {layer}")
        expert = row[optional["expert"]] if "expert" in optional else None
        if expert is not None and (expert != int(expert) or expert < 0):
            raise CircuitError(f"{where}: expert must be 0, 1, 2, ... or null")
        shares = [row[at] for key, at in optional.items() if key.endswith("_routed")]
        if any(one is not None and not 0 <= one <= 1 for one in shares):
            raise CircuitError(f"{where}: the shares that are routed must be 0 to 1")
        if (key := (int(layer), int(index), expert)) in seen:
            raise CircuitError(f"{where}: {list(key[:2])} is repeated")
        seen.add(key)
        neurons.append(Neuron(*key[:2], float(row[2]) if len(row) > 2 else 0.0))
    return neurons


def _places(columns: Sequence[str]) -> dict[str, int]:
    return {name: columns.index(name) for name in FURTHER if name in columns}


def _given(row: Sequence[Any], optional: dict[str, int]) -> Sequence[Any]:
    """The cells that must be numbers: the further ones may be null."""
    if not optional:
        return row
    places = optional.values()
    return [v for at, v in enumerate(row) if v is not None or at not in places]


def read_details(rows: Iterable[Any], columns: Sequence[str]) -> tuple[Details, ...]:
    """The further columns of rows that :func:`read_neurons` has checked."""
    places = _places(columns)
    return tuple(_details(row, places) for row in rows) if places else ()


def _details(row: Sequence[Any], places: dict[str, int]) -> Details:
    known: dict[str, Any] = {
        name: (int if name == "expert" else float)(row[at])
        for name, at in places.items()
        if row[at] is not None
    }
    return Details(**known)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False
