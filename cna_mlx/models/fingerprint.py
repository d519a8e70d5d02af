"""Identify weights by their content, whatever the directory is called."""

import hashlib
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.families import family_of, projections, widths
from cna_mlx.models.offload.streaming import arrays_of, disk_of, turns


def fingerprint(model: Any) -> str:
    """A hash that is equal for a hub id, its snapshot and a copy of it.

    It covers the name, shape, dtype, first row and first column of every matrix in
    every layer and expert (so a value of each neuron's row in ``gate_proj`` and
    ``up_proj`` and of its column in ``down_proj``), the quantization of each
    projection, and the first row of the embedding and the unembedding.

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    disk = disk_of(model)
    if disk is None:
        whole = getattr(model, "_cna_fingerprint", None)  # of a model that is cut
        return _fingerprint(model) if whole is None else str(whole)
    if disk.fingerprint is None:  # reads all weights: once
        disk.fingerprint = _fingerprint(model)
    return disk.fingerprint


def _fingerprint(model: Any) -> str:
    digest, heads = hashlib.sha256(), bytearray()
    with turns(model) as weights:
        for index, layer in weights.layers():
            digest.update(_description(layer, index))
            heads += _bits(_rows_and_columns(layer))
        for said, first in _ends(model, weights):
            digest.update(said)
            heads += _bits([first])
    digest.update(heads)
    return digest.hexdigest()


class Heads:
    """What a fingerprint takes of a lazily loaded model, before its weights are cut.

    Nothing is read at first. The arrays of a layer are to be evaluated, then taken.
    """

    def __init__(self, model: Any) -> None:
        self._digest, self._taken = hashlib.sha256(), bytearray()
        layers = family_of(model).layers(model)
        self._layers = [_rows_and_columns(layer) for layer in layers]
        for index, layer in enumerate(layers):
            self._digest.update(_description(layer, index))
        self._ends: list[mx.array] = []
        with turns(model) as weights:
            for said, first in _ends(model, weights):
                self._digest.update(said)
                self._ends.append(first)

    def of_layer(self, index: int) -> list[mx.array]:
        """The arrays of a layer."""
        return self._layers[index]

    def take(self, index: int) -> None:
        """Take a layer's arrays, and let go of them."""
        self._taken += _bits(self._layers[index])
        self._layers[index] = []

    def fingerprint(self) -> str:
        """The fingerprint, once every layer is taken."""
        self._digest.update(self._taken + _bits(self._ends))
        return self._digest.hexdigest()


def _description(layer: Any, index: int) -> bytes:
    lines = [
        f"{index} {name} {array.shape} {array.dtype}\n"
        for name, array in arrays_of(layer)
    ]
    for name, module in sorted(layer.named_modules(), key=lambda item: item[0]):
        if hasattr(module, "bits"):
            lines.append(f"{name} {module.bits} {module.group_size}\n")
    return "".join(lines).encode()


def _rows_and_columns(layer: Any) -> list[mx.array]:
    """The first row and column of each matrix, of each expert's too; whole vectors."""
    heads: list[mx.array] = []
    for _, array in arrays_of(layer):
        rows = array[..., 0, :] if array.ndim > 1 else array
        heads += [rows, array[..., 0]] if array.ndim > 1 else [rows]
    return heads


def _bits(heads: list[mx.array]) -> bytes:
    # numpy has no bfloat16: hash the bits, not the values
    bits = [mx.contiguous(head).view(mx.uint8) for head in heads]
    mx.eval(bits)
    return b"".join(np.array(head).tobytes() for head in bits)


def _ends(model: Any, weights: Any) -> Iterator[tuple[bytes, mx.array]]:
    """The arrays before the first layer and after the last: a description, a head."""
    names = (name for name, _ in arrays_of(model) if ".layers." not in name)
    for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
        with weights.heads(path) as firsts:
            for name, array, first in firsts:
                yield f"{path}.{name} {array.shape} {array.dtype}\n".encode(), first


def quantization(model: Any) -> str:
    """How the MLP projections are stored, e.g. ``float32`` or ``4-bit g64``."""
    kinds = set()
    for layer in range(len(widths(model))):
        for projection in projections(model, layer):
            if hasattr(projection, "bits"):
                mode = "" if projection.mode == "affine" else f" {projection.mode}"
                kinds.add(f"{projection.bits}-bit g{projection.group_size}{mode}")
            else:
                kinds.add(str(projection.weight.dtype).removeprefix("mlx.core."))
    return " + ".join(sorted(kinds))
