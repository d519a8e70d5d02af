"""Check the laws of steering, which hold bit for bit on any device."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.results import Check, checked, passed, warning
from cna_mlx.discovery.activations import last_activations
from cna_mlx.models.families import family_of, installed, widths
from cna_mlx.steering.interventions import steered

_ARMS = [1.0, 0.0, 0.5, 2.0]


def law_items(
    label: str, model: Any, ids: Sequence[list[int]], circuit: Circuit, tolerance: float
) -> Iterator[Check]:
    """Check all laws on one model."""
    first = ids[0]
    yield checked(f"{label}: identity at m = 1", identity, model, first, circuit)
    yield checked(f"{label}: rows of a batch", rows, model, first, circuit)
    yield checked(f"{label}: padded prompts", padding, model, ids, tolerance)
    yield checked(f"{label}: steering twice", twice, model, first, circuit)


def identity(model: Any, ids: list[int], circuit: Circuit) -> Check:
    """Check that idle blocks change nothing, and that leaving a context removes them.

    The circuit must be large enough to change logits.
    """
    plain, again = logits(model, [ids]), logits(model, [ids])
    if not same(plain, again):
        return warning(
            f"two identical passes differ by {apart(plain, again)}: not checked",
            "upgrade MLX; if that does not help, please report this screen",
        )
    problems = []
    with steered(model, circuit, 1.0):
        problems += _unlike("m = 1", logits(model, [ids]), plain)
    with installed(model, list(range(len(widths(model))))):
        problems += _unlike("an idle block", logits(model, [ids]), plain)
    before = _blocks(model)
    with steered(model, circuit, 0.0):
        if same(logits(model, [ids]), plain):
            problems.append(f"scaling {len(circuit.neurons)} neurons by 0 does nothing")
    problems += _unlike("leaving a context", logits(model, [ids]), plain)
    if any(a is not b for a, b in zip(before, _blocks(model), strict=True)):
        problems.append("a block is left behind")
    good = "m = 1, idle blocks and leaving m = 0 give mlx-lm's logits bit for bit"
    return passed(not problems, "; ".join(problems) or good)


def rows(model: Any, ids: list[int], circuit: Circuit) -> Check:
    """Check that each row of a batch equals its arm in a batch of that shape."""
    batch = [ids] * len(_ARMS)
    with steered(model, circuit, _ARMS):
        mixed = logits(model, batch)
    problems = []
    for row, multiplier in enumerate(_ARMS):
        with steered(model, circuit, multiplier):
            alone = logits(model, batch)
        problems += _unlike(f"the row of m = {multiplier:g}", mixed[row], alone[row])
    # compare the same row: two rows of one batch may round differently
    if same(mixed[1], logits(model, batch)[1]):
        problems.append("the row of m = 0 equals the one without steering")
    good = f"{len(_ARMS)} arms in a batch equal each arm alone, bit for bit"
    return passed(not problems, "; ".join(problems) or good)


def padding(model: Any, ids: Sequence[list[int]], tolerance: float) -> Check:
    """Check that padded prompts have the same activations as single ones."""
    together = _walk(model, ids)
    alone = np.concatenate([_walk(model, [one]) for one in ids], axis=1)
    error = float(np.abs(together - alone).max() / np.abs(alone).max())
    detail = (
        f"{len(ids)} prompts in a batch: activations differ by {error:.1e} of the "
        f"largest, {tolerance:.0e} allowed"
    )
    return passed(error <= tolerance, detail)


def twice(model: Any, ids: list[int], circuit: Circuit) -> Check:
    """Check that nested contexts multiply."""
    with steered(model, circuit, 0.25), steered(model, circuit, 0.5):
        nested = logits(model, [ids])
    with steered(model, circuit, 0.125):
        problems = _unlike("0.5 within 0.25", nested, logits(model, [ids]))
    good = "0.5 within 0.25 equals 0.125, bit for bit"
    return passed(not problems, "; ".join(problems) or good)


def random_circuit(model: Any, fraction: float, seed: int = 0) -> Circuit:
    """Return a random share of every layer's neurons, at least one of each."""
    random = np.random.default_rng(seed)
    return Circuit.from_neurons(
        (layer, int(index))
        for layer, size in enumerate(widths(model))
        if size
        for index in random.choice(size, max(1, round(fraction * size)), replace=False)
    )


def logits(model: Any, batch: list[list[int]]) -> mx.array:
    """Compute logits [rows, length, vocabulary] of prompts of one length."""
    found = model(mx.array(batch))
    mx.eval(found)
    return found


def same(a: mx.array, b: mx.array) -> bool:
    """Return whether two arrays are equal bit for bit; NaN equals NaN."""
    return a.dtype == b.dtype and bool(mx.array_equal(a, b, equal_nan=True))


def apart(a: mx.array, b: mx.array) -> str:
    """Describe the largest difference of two arrays, or their types."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    gap = mx.abs(a.astype(mx.float32) - b.astype(mx.float32)).max()
    return f"{gap.item():.1e}"


def _unlike(what: str, found: mx.array, expected: mx.array) -> list[str]:
    if same(found, expected):
        return []
    return [f"{what}: logits differ by {apart(found, expected)}"]


def _walk(model: Any, ids: Sequence[list[int]]) -> np.ndarray:
    """Activations [layers, prompts, d_ff], cut to the narrowest layer."""
    found = [np.array(a) for _, a in last_activations(model, ids)]
    narrowest = min(a.shape[1] for a in found)
    return np.stack([a[:, :narrowest] for a in found])


def _blocks(model: Any) -> list[Any]:
    family = family_of(model)
    return [layer[family.mlp] for layer in family.layers(model)]
