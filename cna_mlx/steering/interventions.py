"""Steer a model inside a context manager."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import experts_of, installed, widths
from cna_mlx.models.mlp import Edit, MLPBlock
from cna_mlx.provenance import Experts
from cna_mlx.strength import Pin, Strength, check_multiplier, check_strength

Strengths = Strength | Sequence[Strength]


@dataclass(frozen=True, eq=False)  # arrays have no equality of one bool
class MeanDifference:
    """The direction of contrastive activation addition (CAA).

    ``down_proj`` is linear: adding ``alpha * (mean+ - mean-)`` of the MLP outputs is
    the shift ``a' = a + alpha * delta`` of its inputs.

    Attributes:
        deltas: [d_ff] in float32 for each layer.
    """

    deltas: tuple[np.ndarray, ...]

    def check_shape(
        self, widths: Sequence[int], experts: Experts | None = None
    ) -> None:
        """Check that the direction fits a model of these widths, whatever its experts.

        Raises:
            CircuitError: it was made on another shape.
        """
        found = [np.shape(delta) for delta in self.deltas]
        if found != [(width,) for width in widths]:
            raise CircuitError(
                f"the direction has {len(found)} layers, of {sorted(set(found))}; this "
                f"model has {len(widths)} layers, of {sorted(set(widths))} neurons"
            )


Intervention = Circuit | MeanDifference
_Pairs = tuple[tuple[Intervention, Strength], ...]
_Edit = tuple[mx.array, mx.array | None, mx.array | None]
# by the identity of the intervention and its strength: see _edited
_Changed = dict[tuple[int, Strength], dict[int, Any]]


@contextmanager
def steered(
    model: Any, circuit: Intervention, multiplier: Strengths = 0.0
) -> Iterator[None]:
    """Scale or pin a circuit's neurons for as long as the context is open.

    Works with anything that calls the model, such as mlx-lm's ``generate``. Do not use
    a KV cache that was made under another steering. Contexts nest: multipliers
    multiply, and a pinned neuron stays pinned. While the context is open, only this
    thread may call the model.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        circuit: what to scale; or a :class:`MeanDifference` to add.
        multiplier: ``a' = m * a``: 0 ablates, 1 changes nothing, 2 doubles; for a
            MeanDifference, alpha, where 0 changes nothing; or a :class:`Pin`. Give a
            sequence for one multiplier for each row of the batch.

    Raises:
        CircuitError: the circuit names neurons that the model does not have, or lacks
            the means or constants to pin them to.
        InputError: a multiplier is NaN or infinite; a neuron is pinned to two
            different constants; or the model is called with another number of rows
            than there are multipliers.
        ThreadError: another thread steers the model; or the model is called from
            another thread.
        UnsupportedModelError: the model's MLP blocks are of another kind.
    """
    if isinstance(multiplier, Sequence) and not isinstance(multiplier, str | bytes):
        edits = Edits(model, [((circuit, value),) for value in multiplier])
    else:
        edits = Edits(model, ((circuit, multiplier),))
    with edits.installed():
        yield


class Edits:
    """The scales and shifts of several circuits, computed once and installed often.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        arms: a tuple of (circuit, multiplier or pin) pairs for all rows, or a list with
            one such tuple for each row of the batch. Pins apply after multipliers.
    """

    def __init__(self, model: Any, arms: Any) -> None:
        self._model = model
        by_row = isinstance(arms, list)
        if by_row and not arms:
            raise InputError("give one multiplier, or one for each row; there is none")
        rows = [_checked(pairs) for pairs in (arms if by_row else [arms])]
        changed = {
            (id(intervention), strength): _edited(intervention, strength)
            for pairs in rows
            for intervention, strength in pairs
        }
        self.rows = len(rows)
        self._pairs = rows
        self._alike: dict[int, list[Any]] = {}
        # made once, so that a decoding step does not wait for Python
        self._blocks: dict[int, MLPBlock] = {}
        self._edits: dict[int, _Edit] = {}
        # [rows, 1, d_ff] if rows differ, [d_ff] for any number of rows
        which = (slice(None), None) if by_row else 0
        sizes, experts = widths(model), experts_of(model)
        for intervention, _ in chain.from_iterable(rows):
            intervention.check_shape(sizes, experts)
        for layer, edit in _edits(rows, sizes, changed):
            scale, shift, pinned = edit
            self._alike[layer] = _alike(rows, layer, changed)
            self._edits[layer] = (
                mx.array(scale[which]),
                mx.array(shift[which]) if shift.any() else None,
                mx.array(pinned[which]) if pinned.any() else None,
            )

    def is_like(self, other: "Edits") -> bool:
        """Whether the rows have the same interventions and strengths."""
        own, others = (
            [[(id(what), strength) for what, strength in pairs] for pairs in rows]
            for rows in (self._pairs, other._pairs)
        )
        return own == others

    def groups(self, n_layers: int) -> list[list[int]]:
        """The rows that are equal up to each layer.

        Returns:
            [n_layers][rows]: a row's group after that layer, numbered from 0 in the
            order of the rows. Groups only split.
        """
        found, now = [], [0] * self.rows
        for layer in range(n_layers):
            if layer in self._alike:
                numbers: dict[tuple[int, Any], int] = {}
                pairs = zip(now, self._alike[layer], strict=True)
                now = [numbers.setdefault(pair, len(numbers)) for pair in pairs]
            found.append(now)
        return found

    def of_rows(self, rows: dict[int, list[int]]) -> "Edits":
        """The same edits for a batch with only these rows at each layer."""
        part = copy(self)
        part._edits = {}
        for layer, (scale, shift, pinned) in self._edits.items():
            held = mx.array(rows[layer])
            part._edits[layer] = (
                scale[held],
                None if shift is None else shift[held],
                None if pinned is None else pinned[held],
            )
        return part

    def part(self, rows: Sequence[int]) -> "Edits":
        """The edits of these rows alone; of edits that were made for each row."""
        found = self.of_rows({layer: list(rows) for layer in self._edits})
        found.rows = len(rows)
        found._pairs = [self._pairs[row] for row in rows]
        found._alike = {
            layer: [keys[row] for row in rows] for layer, keys in self._alike.items()
        }
        return found

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Steer the model inside the block."""
        with installed(self._model, list(self._edits), self._blocks) as blocks:
            before = {layer: block.edit for layer, block in blocks.items()}
            try:
                for layer, edit in self._edits.items():
                    both = _compose(before[layer][:2], *edit[:2])
                    blocks[layer].set_edit(*_keep_pins(before[layer], edit, *both))
                yield
            finally:
                for layer, block in blocks.items():
                    block.set_edit(*before[layer])


def _checked(pairs: _Pairs) -> _Pairs:
    """The pairs with their strengths checked; pins last."""
    checked = tuple((what, check_strength(strength)) for what, strength in pairs)
    return tuple(sorted(checked, key=lambda pair: isinstance(pair[1], Pin)))


def _edits(
    rows: Sequence[_Pairs], sizes: Sequence[int], changed: _Changed
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """The scale, the shift and the pins, [rows, d_ff], of each layer that changes."""
    for layer in sorted(set(chain.from_iterable(changed.values()))):
        shape = (len(rows), sizes[layer])
        scale, shift = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        pinned = np.zeros(shape, bool)
        for row, pairs in enumerate(rows):
            for intervention, strength in pairs:
                what = changed[id(intervention), strength].get(layer)
                if what is None:
                    continue
                if isinstance(strength, Pin):
                    _pin(layer, scale[row], shift[row], pinned[row], *what)
                elif isinstance(intervention, MeanDifference):
                    shift[row] += strength * what
                else:
                    scale[row, what] *= strength
                    shift[row, what] *= strength
        yield layer, (scale, shift, pinned)


def _pin(
    layer: int,
    scale: np.ndarray,
    shift: np.ndarray,
    pinned: np.ndarray,
    members: list[int],
    constants: np.ndarray,
) -> None:
    """Pin a layer's neurons in these arrays, [d_ff]."""
    differs = pinned[members] & (shift[members] != constants)
    if differs.any():
        place = int(differs.argmax())
        raise InputError(
            f"neuron {members[place]} of layer {layer} is pinned to "
            f"{shift[members[place]]:g} and to {constants[place]:g}: pin it once"
        )
    scale[members], shift[members], pinned[members] = 0, constants, True


def _edited(intervention: Intervention, strength: Strength) -> dict[int, Any]:
    """For each layer that changes: the delta to add, or the neurons to scale or pin."""
    if isinstance(intervention, MeanDifference):
        if isinstance(strength, Pin):
            raise InputError("a mean difference is added: give a number, not a pin")
        parts = enumerate(intervention.deltas)
        return {layer: one for layer, one in parts if one.size} if strength else {}
    if isinstance(strength, Pin):
        return _pinned(intervention, strength)
    by_layer = intervention.by_layer() if strength != 1.0 else {}
    return {layer: [one.index for one in found] for layer, found in by_layer.items()}


def _pinned(circuit: Circuit, pin: Pin) -> dict[int, Any]:
    """The neurons to pin in each layer, and their constants in float32."""
    found: dict[int, tuple[list[int], list[float]]] = {}
    for neuron, constant in zip(circuit.neurons, circuit.constants(pin), strict=True):
        members, constants = found.setdefault(neuron.layer, ([], []))
        members.append(neuron.index)
        constants.append(check_multiplier(constant))
    return {
        layer: (members, np.array(constants, np.float32))
        for layer, (members, constants) in sorted(found.items())
    }


def _alike(rows: Sequence[_Pairs], layer: int, changed: _Changed) -> list[Any]:
    """A key of each row's edit of a layer: equal for rows with the same edit."""
    return [
        tuple(
            (id(intervention), strength)
            for intervention, strength in pairs
            if layer in changed[id(intervention), strength]
        )
        for pairs in rows
    ]


def _compose(
    outer: tuple[mx.array | None, mx.array | None],
    scale: mx.array,
    shift: mx.array | None,
) -> tuple[mx.array, mx.array | None]:
    """An inner edit after an outer one: ``scale * (outer of a) + shift``."""
    outer_scale, outer_shift = outer
    if outer_scale is None:
        return scale, shift
    if scale.ndim == outer_scale.ndim == 3 and len(scale) != len(outer_scale):
        raise InputError(
            f"steering for {len(scale)} rows inside steering for {len(outer_scale)} "
            "rows: give one multiplier, or one for each row"
        )
    carried = None if outer_shift is None else scale * outer_shift
    if shift is not None:
        carried = shift if carried is None else carried + shift
    return scale * outer_scale, carried


def _keep_pins(
    outer: Edit, inner: _Edit, scale: mx.array, shift: mx.array | None
) -> _Edit:
    """The composed scale and shift, without what an inner edit does to pinned neurons.

    Raises:
        InputError: both pin a neuron, to different constants.
    """
    _, constants, fixed = outer
    _, inner_constants, pinned = inner
    if fixed is None:
        return scale, shift, pinned
    kept = 0.0 if constants is None else constants
    if pinned is not None:
        other = 0.0 if inner_constants is None else inner_constants
        if mx.any(fixed & pinned & mx.not_equal(kept, other)).item():
            raise InputError(
                "a neuron is pinned to another constant inside the context that pins "
                "it: pin it once"
            )
    if shift is not None:
        shift = mx.where(fixed, kept, shift)
    return scale, shift, fixed if pinned is None else fixed | pinned
