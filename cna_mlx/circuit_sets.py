"""Combine circuits of one model: union, intersection, difference, the first neurons.

A result keeps each neuron's row from the first circuit that has it. Of the provenance
it keeps what describes rows; a fraction, a split half, a gauge's AUC or a trial
describe the whole circuit and are dropped. ``made_from`` names the circuits.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from cna_mlx.circuit import Circuit, Details, Moments, Neuron
from cna_mlx.errors import CircuitError, InputError, TransferError
from cna_mlx.provenance import ModelEntry, Provenance

# Layer, index, expert.
_Key = tuple[int, int, int | None]
_Rows = dict[_Key, tuple[Neuron, Moments | None, Details]]

# What describes each row, and so holds for any of them.
_OF_ROWS = ("contrast", "rendering", "rank", "positions", "openings")
_OF_SOURCE = ("contrast", "fraction", "rank", "layers", "control", "seed", "made_from")


def union(circuits: Sequence[Circuit], *, allow_transfer: bool = False) -> Circuit:
    """Return the neurons that are in any of the circuits.

    The largest score comes first if all were ranked by one score on one contrast; else
    the first circuit's neurons come first.

    Args:
        circuits: of one model. If one has no moments, neither has the result.
        allow_transfer: accept circuits of other weights of the same shape.

    Raises:
        CircuitError: the circuits are of other shapes, or empty.
        TransferError: they are of other weights, and allow_transfer is off.
    """
    rows: _Rows = {}
    for one in circuits:
        rows |= {key: row for key, row in _rows(one).items() if key not in rows}
    if _are_comparable(circuits, rows):
        rows = dict(sorted(rows.items(), key=lambda item: -_score(*item[1])))
    return _made("union", circuits, circuits, rows, allow_transfer)


def intersect(circuits: Sequence[Circuit], *, allow_transfer: bool = False) -> Circuit:
    """Return the neurons that are in all of the circuits, as the first one has them.

    Arguments and errors as for :func:`union`.
    """
    first, *others = circuits
    rows, kept = _rows(first), [_rows(one).keys() for one in others]
    both = {key: row for key, row in rows.items() if all(key in one for one in kept)}
    return _made("intersect", circuits, [first], both, allow_transfer)


def minus(circuits: Sequence[Circuit], *, allow_transfer: bool = False) -> Circuit:
    """Return the first circuit's neurons that are in none of the others.

    Arguments and errors as for :func:`union`.
    """
    first, *others = circuits
    gone = set().union(*(_rows(one) for one in others))
    rest = {key: row for key, row in _rows(first).items() if key not in gone}
    return _made("minus", circuits, [first], rest, allow_transfer)


def top(circuit: Circuit, count: int) -> Circuit:
    """Return a circuit's first ``count`` neurons.

    Raises:
        InputError: it has fewer.
    """
    has = len(circuit.neurons)
    if not 1 <= count <= has:
        raise InputError(f"{_name(circuit)} has {has} neurons: give 1 to {has}")
    rows = _rows(circuit.strongest(count))
    return _made("top", [circuit], [circuit], rows, allow_transfer=False)


def shrunk(circuit: Circuit, places: Sequence[int], **how: Any) -> Circuit:
    """Return the part of a circuit that a shrink found.

    Args:
        places: of its neurons in the circuit, from 0.
        how: what ``made_from`` says of the choice.
    """
    part = circuit.part(places)
    made = _made("shrink", [circuit], [circuit], _rows(part), allow_transfer=False)
    origin = made.provenance
    said = {**(origin.made_from or {}), **how}
    return replace(made, provenance=replace(origin, made_from=said))


def check_one_model(circuits: Sequence[Circuit], allow_transfer: bool = False) -> None:
    """Check that circuits can be of one model; one made by hand must fit its shape.

    Raises:
        CircuitError: they are of other shapes.
        TransferError: they are of other weights, and allow_transfer is off.
    """
    known = [one for one in circuits if one.model.d_ff is not None]
    for first, one in product(known[:1], circuits):
        if not _fits(one, first.model):
            raise CircuitError(
                f"{_name(one)} and {_name(first)} are of models of different shapes: "
                "give circuits of one model"
            )
        prints = {one.model.fingerprint, first.model.fingerprint} - {None}
        if len(prints) > 1 and not allow_transfer:
            raise TransferError(
                f"{_name(one)} was found on other weights than {_name(first)}; to "
                "combine them anyway, add --allow-transfer"
            )


def _fits(circuit: Circuit, model: ModelEntry) -> bool:
    if (own := circuit.model.shape) is not None:
        return own == model.shape
    widths = model.d_ff or ()
    return all(
        layer < len(widths) and index < widths[layer]
        for layer, index, _ in circuit.neurons
    )


def _rows(circuit: Circuit) -> _Rows:
    count = len(circuit.neurons)
    moments = circuit.moments or [None] * count
    details = circuit.details or [Details()] * count
    return {
        (neuron.layer, neuron.index, detail.expert): (neuron, moment, detail)
        for neuron, moment, detail in zip(
            circuit.neurons, moments, details, strict=True
        )
    }


def _made(
    operation: str,
    circuits: Sequence[Circuit],
    owners: Sequence[Circuit],
    rows: _Rows,
    allow_transfer: bool,
) -> Circuit:
    """The circuit of these rows, which come from the ``owners`` among the circuits."""
    check_one_model(circuits, allow_transfer)
    if not rows:
        raise CircuitError(
            f"{operation} of {', '.join(map(_name, circuits))}: no neuron is left"
        )
    neurons, moments, details = zip(*rows.values(), strict=True)
    kept = {name: _common(owners, name) for name in _OF_ROWS}
    usual = {one.intervention for one in owners}
    return Circuit(
        neurons,
        () if None in moments else moments,
        next((one.model for one in owners if one.model.fingerprint), owners[0].model),
        Provenance(
            **kept,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            made_from={
                "operation": operation,
                "circuits": [_source(one) for one in circuits],
            },
        ),
        details if any(one != Details() for one in details) else (),
        usual.pop() if len(usual) == 1 else None,
    )


def _common(owners: Sequence[Circuit], name: str) -> Any:
    """An entry of the provenance, if all have the same."""
    first, *others = (getattr(one.provenance, name) for one in owners)
    return first if all(one == first for one in others) else None


def _source(circuit: Circuit) -> dict[str, Any]:
    return {
        "file": circuit.file and Path(circuit.file).name,
        "sha256": hashlib.sha256(circuit.to_text().encode()).hexdigest(),
        **circuit.entry(*_OF_SOURCE),
    }


def _are_comparable(circuits: Sequence[Circuit], rows: _Rows) -> bool:
    """Whether the rows have scores of one rank on one contrast."""
    if None in (_common(circuits, "contrast"), _common(circuits, "rank")):
        return False
    has_score = {details.score is not None for *_, details in rows.values()}
    return has_score == {True} or (
        has_score == {False} and circuits[0].provenance.rank == "delta"
    )


def _score(neuron: Neuron, moments: Moments | None, details: Details) -> float:
    return abs(neuron.delta) if details.score is None else details.score


def _name(circuit: Circuit) -> str:
    return circuit.file or "a circuit"
