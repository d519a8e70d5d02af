"""What must hold to the bit on any device: idle blocks, rows of a batch, products."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.results import Check, guarded
from cna_mlx.discovery.activations import last_activations
from cna_mlx.models.families import family_of, installed, widths
from cna_mlx.steering.interventions import steered

_ARMS = [1.0, 0.0, 0.5, 2.0]


def law_items(
    label: str, model: Any, ids: Sequence[list[int]], circuit: Circuit, tolerance: float
) -> Iterator[Check]:
    """All of the laws on one model.

    Args:
        label: what the names of the checks begin with.
        model: as :func:`cna_mlx.load` returns it.
        ids: prompts of different lengths.
        circuit: what is scaled.
        tolerance: what rounding may do, relative to the largest value.
    """
    first = ids[0]
    laws = {
        "identity at m = 1": partial(identity, model, first, circuit),
        "rows of a batch": partial(rows, model, first, circuit),
        "padded prompts": partial(padding, model, ids, tolerance),
        "steering twice": partial(twice, model, first, circuit),
    }
    for law, check in laws.items():
        name = f"{label}: {law}"
        yield guarded(name, partial(check, name))


def identity(model: Any, ids: list[int], circuit: Circuit, name: str) -> Check:
    """Blocks that are asked nothing change nothing, and are gone afterwards.

    Args:
        model: as :func:`cna_mlx.load` returns it.
        ids: a prompt.
        circuit: what is scaled; it must be large enough to be seen.
        name: of the check.
    """
    plain, again = logits(model, [ids]), logits(model, [ids])
    if not same(plain, again):
        return Check(
            name,
            "warning",
            f"two equal passes differ by {apart(plain, again)}: nothing can be told",
            "upgrade MLX; please report this screen if it stays",
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
        problems.append("a block of ours was left behind")
    good = "m = 1, idle blocks and leaving m = 0 give mlx-lm's logits to the bit"
    return Check.of(name, not problems, "; ".join(problems) or good)


def rows(model: Any, ids: list[int], circuit: Circuit, name: str) -> Check:
    """Every row of a batch of arms is what that arm gives in a batch of that shape."""
    batch = [ids] * len(_ARMS)
    with steered(model, circuit, _ARMS):
        mixed = logits(model, batch)
    problems = []
    for row, multiplier in enumerate(_ARMS):
        with steered(model, circuit, multiplier):
            alone = logits(model, batch)
        problems += _unlike(f"the row of m = {multiplier:g}", mixed[row], alone[row])
    # the same row of the same shape: two rows of one batch may round differently
    if same(mixed[1], logits(model, batch)[1]):
        problems.append("the row of m = 0 is the same as without steering")
    good = f"{len(_ARMS)} arms in a batch give what each gives alone, to the bit"
    return Check.of(name, not problems, "; ".join(problems) or good)


def padding(model: Any, ids: Sequence[list[int]], tolerance: float, name: str) -> Check:
    """Prompts padded in a batch have the activations that each has alone."""
    together = _walk(model, ids)
    alone = np.concatenate([_walk(model, [one]) for one in ids], axis=1)
    largest = np.abs(alone).max()
    error = float(np.abs(together - alone).max() / largest)
    detail = (
        f"{len(ids)} prompts in a batch: activations differ by {error:.1e} of the "
        f"largest, {tolerance:.0e} allowed"
    )
    return Check.of(name, error <= tolerance, detail)


def twice(model: Any, ids: list[int], circuit: Circuit, name: str) -> Check:
    """Two contexts multiply."""
    with steered(model, circuit, 0.25), steered(model, circuit, 0.5):
        nested = logits(model, [ids])
    with steered(model, circuit, 0.125):
        problems = _unlike("0.5 within 0.25", nested, logits(model, [ids]))
    good = "0.5 within 0.25 is 0.125, to the bit"
    return Check.of(name, not problems, "; ".join(problems) or good)


def random_circuit(model: Any, fraction: float, seed: int = 0) -> Circuit:
    """A share of every layer's neurons, at least one, the same for the same seed."""
    random = np.random.default_rng(seed)
    return Circuit.from_neurons(
        (layer, int(index))
        for layer, size in enumerate(widths(model))
        for index in random.choice(size, max(1, round(fraction * size)), replace=False)
    )


def logits(model: Any, batch: list[list[int]]) -> mx.array:
    """Logits [rows, length, vocabulary] of prompts of one length, computed."""
    found = model(mx.array(batch))
    mx.eval(found)
    return found


def same(a: mx.array, b: mx.array) -> bool:
    """Whether two arrays are equal to the bit (NaN is like NaN)."""
    return a.dtype == b.dtype and bool(mx.array_equal(a, b, equal_nan=True))


def apart(a: mx.array, b: mx.array) -> str:
    """By how much two arrays differ at most."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    gap = mx.abs(a.astype(mx.float32) - b.astype(mx.float32)).max()
    return f"{gap.item():.1e}"


def _unlike(what: str, found: mx.array, expected: mx.array) -> list[str]:
    if same(found, expected):
        return []
    return [f"{what}: logits differ by {apart(found, expected)}"]


def _walk(model: Any, ids: Sequence[list[int]]) -> np.ndarray:
    """[layers, prompts, d_ff]; layers of unequal width are cut to the narrowest."""
    found = [np.array(a) for _, a in last_activations(model, ids)]
    narrowest = min(a.shape[1] for a in found)
    return np.stack([a[:, :narrowest] for a in found])


def _blocks(model: Any) -> list[Any]:
    return [layer.mlp for layer in family_of(model).layers(model)]
