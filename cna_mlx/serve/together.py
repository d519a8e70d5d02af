"""Give all ranks that hold a model the same work: rank 0 listens, the others follow."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.work import Ask, Command, Event, Lookup, ScorePrompt, Work
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.sampling import Greedy, Sampled
from cna_mlx.strength import from_intervention, to_intervention
from cna_mlx.util import ranks

_KINDS = {kind.__name__: kind for kind in (Ask, ScorePrompt, Lookup)}
# Marks of values that are not of JSON.
_ARM, _CIRCUIT, _SAMPLED, _GREEDY = "@arm", "@circuit", "@sampled", "@greedy"


def exchanging(arms: ServedArms) -> Callable[[list[Command]], list[Command]] | None:
    """Return what shares an engine's commands, once a turn; None on one machine."""
    if ranks.is_apart():
        return None

    def exchange(own: list[Command]) -> list[Command]:
        shared = ranks.share([[kind, _described(what, arms)] for kind, what in own])
        if ranks.is_first():
            return own
        return [(kind, _made(what, arms)) for kind, what in shared]

    return exchange


def _nobody(event: Event) -> None:
    """Events of another rank's client."""


def _described(what: Any, arms: ServedArms) -> Any:
    """A command's value for JSON."""
    if not isinstance(what, Work):
        return what
    values = {
        one.name: _encoded(getattr(what, one.name), arms)
        for one in fields(what)
        if one.name != "deliver"
    }
    return {"kind": type(what).__name__, "values": values}


def _made(what: Any, arms: ServedArms) -> Any:
    """The command's value that was described."""
    if not isinstance(what, dict):
        return what
    values = {name: _decoded(value, arms) for name, value in what["values"].items()}
    return _KINDS[what["kind"]](_nobody, **values)


def _encoded(value: Any, arms: ServedArms) -> Any:
    if isinstance(value, Arm):
        pairs = [
            [arms.name_of(circuit), to_intervention(strength)]
            for circuit, strength in value.steering
        ]
        return {_ARM: [value.label, pairs]}
    if isinstance(value, Circuit):
        return {_CIRCUIT: arms.name_of(value)}
    if isinstance(value, Sampled):
        return {_SAMPLED: asdict(value)}
    if isinstance(value, Greedy):
        return {_GREEDY: True}
    return list(value) if isinstance(value, tuple) else value


def _decoded(value: Any, arms: ServedArms) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((mark, found),) = value.items()
    if mark == _ARM:
        return _arm(found[0], found[1], arms)
    if mark == _CIRCUIT:
        return arms.circuits[found]
    if mark == _SAMPLED:
        return Sampled(**found)
    return Greedy() if mark == _GREEDY else value


def _arm(label: str, pairs: Sequence[Any], arms: ServedArms) -> Arm:
    steering = (
        (arms.circuits[name], from_intervention(strength)) for name, strength in pairs
    )
    return Arm(label, tuple(steering))
