"""What is done to a circuit's neurons: a multiplier, or a pin to a constant."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, Literal

from cna_mlx.errors import InputError
from cna_mlx.util.records import Record

#: Scales and shifts are held in float32, where more than this is infinite.
LARGEST = 3.4028234663852886e38


@dataclass(frozen=True)
class Pin(Record):
    """Replace each neuron by a constant, in the place of a multiplier.

    ``Pin(0.5)`` pins all neurons of a circuit to 0.5, ``Pin(kind="mean")`` each to its
    mean over the negative prompts, and ``Pin()`` each to the ``shift`` of its circuit.
    """

    WRITES_NULL: ClassVar[bool] = False

    kind: Literal["pin", "mean"] = field(default="pin", kw_only=True)
    value: float | None = None

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}={self.value:.15g}"

    def to_dict(self) -> dict[str, Any]:
        """The pin for JSON."""
        return {"kind": self.kind, **super().to_dict()}


Strength = float | Pin
MEAN = Pin(kind="mean")


def check_multiplier(value: float) -> float:
    """The multiplier as a float; InputError if it is not a finite number."""
    if not _fits(value):  # also NaN
        raise InputError(f"a multiplier must be a finite number, not {value!r:.80}")
    return float(value)


def check_strength(value: Strength) -> Strength:
    """The multiplier as a float, or the pin; InputError if it cannot be used."""
    if not isinstance(value, Pin):
        return check_multiplier(value)
    if value.kind not in ("pin", "mean"):
        raise InputError(f"the intervention {value.kind!r} is unknown")
    if value.value is not None and (value.kind == "mean" or not _fits(value.value)):
        raise InputError("a neuron is pinned to a finite number, or to its mean")
    return value


def _fits(value: float) -> bool:
    return isinstance(value, Real) and abs(value) <= LARGEST


def parse_strength(text: str) -> Strength:
    """Read ``0.5``, ``mean``, ``pin=0.5`` or ``pin``.

    Raises:
        InputError: it is none of these.
    """
    kind, equals, number = text.strip().partition("=")
    if not equals and kind in ("mean", "pin"):
        return MEAN if kind == "mean" else Pin()
    try:
        value = float(number if equals else kind)
    except ValueError:
        value = math.nan
    if not _fits(value) or (equals and kind != "pin"):
        raise InputError(f"{text!r} is not a finite multiplier, mean or pin=C")
    return Pin(value) if equals else value


def as_typed(value: Strength) -> str:
    """The strength as a user types it: ``0.5``, ``mean``, ``pin=0.5``."""
    return str(value) if isinstance(value, Pin) else f"{value:g}"


def strength_text(value: Strength) -> str:
    """The strength as a label: ``m=0.5``, ``mean``, ``pin=0.5``."""
    return str(value) if isinstance(value, Pin) else f"m={value:.15g}"


def arm_label(value: Strength) -> str:
    """The name of an arm that is steered so: ``ablated``, ``m=0.5``, ``mean``."""
    return "ablated" if value == 0.0 else strength_text(value)


def effect_text(value: Strength) -> str:
    """What the strength does to neurons, as the end of a sentence."""
    if not isinstance(value, Pin):
        return f"scaled by {value:g}"
    if value.kind == "mean":
        return "pinned to the mean over the negative prompts"
    return (
        f"pinned to {'stored constants' if value.value is None else f'{value.value:g}'}"
    )


def to_intervention(value: Strength, kind: str = "scale") -> dict[str, Any]:
    """The strength for JSON, with its kind; ``kind`` is what a number does."""
    return value.to_dict() if isinstance(value, Pin) else {"kind": kind, "value": value}


def from_intervention(data: Any) -> Strength:
    """Read what :func:`to_intervention` wrote of a circuit's strength.

    Raises:
        InputError: it is not a strength.
    """
    known = data if isinstance(data, Mapping) else {}
    kind, value = known.get("kind"), known.get("value")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "scale" and is_number:
        return check_multiplier(known["value"])
    if kind in ("pin", "mean") and (is_number or value is None):
        return check_strength(Pin(value, kind=kind))
    raise InputError(f"the intervention {data!r:.80} is unknown")
