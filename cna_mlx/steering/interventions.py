"""Steer a model inside a context manager."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import installed, widths
from cna_mlx.models.mlp import GatedMLP

Multipliers = float | Sequence[float]

# Scales are held in float32, where more than this is infinite.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)  # arrays have no equality of one bool
class MeanDifference:
    """The direction of contrastive activation addition (CAA).

    ``down_proj`` is linear: adding ``alpha * (mean+ - mean-)`` of the MLP outputs is
    the shift ``a' = a + alpha * delta`` of its inputs.

    Attributes:
        deltas: [d_ff] in float32 for each layer.
    """

    deltas: tuple[np.ndarray, ...]

    def check_shape(self, widths: Sequence[int]) -> None:
        """Check that the direction fits a model of these widths.

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
_Rows = list[tuple[tuple[Intervention, float], ...]]
# by the identity of the intervention and its multiplier: see _edited
_Changed = dict[tuple[int, float], dict[int, Any]]


def check_multiplier(value: float) -> float:
    """The multiplier as a float; InputError if it is NaN or infinite."""
    if not abs(value) <= _LARGEST:  # also NaN
        raise InputError(f"a multiplier must be a finite number, not {value}")
    return float(value)


@contextmanager
def steered(
    model: Any, circuit: Intervention, multiplier: Multipliers = 0.0
) -> Iterator[None]:
    """Scale a circuit's neurons for as long as the context is open.

    Works with anything that calls the model, such as mlx-lm's ``generate``. Do not use
    a KV cache that was made under another steering. Contexts nest: multipliers
    multiply. While the context is open, only this thread may call the model.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        circuit: what to scale; or a :class:`MeanDifference` to add.
        multiplier: ``a' = m * a``: 0 ablates, 1 changes nothing, 2 doubles; for a
            MeanDifference, alpha, where 0 changes nothing. Give a sequence for one
            multiplier for each row of the batch.

    Raises:
        CircuitError: the circuit names neurons that the model does not have.
        InputError: a multiplier is NaN or infinite; or the model is called with
            another number of rows than there are multipliers.
        ThreadError: another thread steers the model; or the model is called from
            another thread.
        UnsupportedModelError: the model's MLP blocks are of another kind.
    """
    if isinstance(multiplier, Sequence):
        edits = Edits(model, [((circuit, float(value)),) for value in multiplier])
    else:
        edits = Edits(model, ((circuit, float(multiplier)),))
    with edits.installed():
        yield


class Edits:
    """The scales and shifts of several circuits, computed once and installed often.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        arms: a tuple of (circuit, multiplier) pairs for all rows, or a list with one
            such tuple for each row of the batch.
    """

    def __init__(self, model: Any, arms: Any) -> None:
        self._model = model
        by_row = isinstance(arms, list)
        if by_row and not arms:
            raise InputError("give one multiplier, or one for each row; there is none")
        rows = arms if by_row else [arms]
        changed = {
            (id(intervention), multiplier): _edited(intervention, multiplier)
            for pairs in rows
            for intervention, multiplier in pairs
        }
        edits = _edits(rows, widths(model), changed)
        self.rows = len(rows)
        self._alike = {layer: _alike(rows, layer, changed) for layer in edits}
        # made once, so that a decoding step does not wait for Python
        self._blocks: dict[int, GatedMLP] = {}
        self._edits: dict[int, tuple[mx.array, mx.array | None]] = {}
        # [rows, 1, d_ff] if rows differ, [d_ff] for any number of rows
        which = (slice(None), None) if by_row else 0
        for layer, (scale, shift) in sorted(edits.items()):
            add = mx.array(shift[which]) if shift.any() else None
            self._edits[layer] = mx.array(scale[which]), add

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
        for layer, (scale, shift) in self._edits.items():
            held = mx.array(rows[layer])
            add = None if shift is None else shift[held]
            part._edits[layer] = scale[held], add
        return part

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Steer the model inside the block."""
        with installed(self._model, list(self._edits), self._blocks) as blocks:
            before = {layer: block.edit for layer, block in blocks.items()}
            try:
                for layer, edit in self._edits.items():
                    blocks[layer].set_edit(*_compose(before[layer], *edit))
                yield
            finally:
                for layer, block in blocks.items():
                    block.set_edit(*before[layer])


def _edits(
    rows: _Rows, sizes: Sequence[int], changed: _Changed
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The scale and the shift, [rows, d_ff], of each layer that changes."""
    scales: dict[int, np.ndarray] = {}
    shifts: dict[int, np.ndarray] = {}

    def layer_arrays(layer: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(rows), sizes[layer])
        scale = scales.setdefault(layer, np.ones(shape, np.float32))
        return scale, shifts.setdefault(layer, np.zeros(shape, np.float32))

    for row, pairs in enumerate(rows):
        for intervention, multiplier in pairs:
            check_multiplier(multiplier)
            intervention.check_shape(sizes)
            for layer, what in changed[id(intervention), multiplier].items():
                scale, shift = layer_arrays(layer)
                if isinstance(intervention, MeanDifference):
                    shift[row] += multiplier * what
                else:
                    scale[row, what] *= multiplier
                    shift[row, what] *= multiplier
    return {layer: (scales[layer], shifts[layer]) for layer in scales}


def _edited(intervention: Intervention, multiplier: float) -> dict[int, Any]:
    """For each layer that changes, the delta to add or the neurons to scale."""
    if isinstance(intervention, MeanDifference):
        return dict(enumerate(intervention.deltas)) if multiplier else {}
    by_layer = intervention.by_layer() if multiplier != 1.0 else {}
    return {layer: [one.index for one in found] for layer, found in by_layer.items()}


def _alike(rows: _Rows, layer: int, changed: _Changed) -> list[Any]:
    """A key of each row's edit of a layer: equal for rows with the same edit."""
    return [
        tuple(
            (id(intervention), multiplier)
            for intervention, multiplier in pairs
            if layer in changed[id(intervention), multiplier]
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
