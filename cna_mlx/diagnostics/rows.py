"""Check a model's products with a few rows, as arms need them, and time its rows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics import device
from cna_mlx.diagnostics.results import Check, Fact, Item, checked, ok, passed, warning
from cna_mlx.discovery import weight_norms
from cna_mlx.models.families import family_of, projections
from cna_mlx.models.fingerprint import quantization
from cna_mlx.models.loading import source_of
from cna_mlx.models.memory.loaded import parameter_bytes
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.models.memory.rates import disk_rate
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.steering.prefill import copy_of, take_rows
from cna_mlx.util.environment import attempt

_OUTPUTS = slice(256)  # enough to find a wrong kernel, few enough for float64
_TIMED = (1, 2, 4, 8, 12, 16, 32)
_SECONDS = 1.0
# macOS ends a command of the GPU that takes about this long.
_WATCHDOG = 5.0


def check_products(model: Any) -> Check:
    """Check the products of the first MLP as they are stored, at 1 to 64 rows."""
    layers = range(len(family_of(model).layers(model)))
    first = next(filter(None, (projections(model, layer) for layer in layers)))
    dtype = family_of(model).embedding(model)(mx.array([[0]])).dtype
    is_quantized = hasattr(first[0], "bits")
    allowed = device.ALLOWED_QUANTIZED if is_quantized else device.ALLOWED[dtype]
    error = max(_error(one, dtype) for one in first)
    detail = (
        f"{quantization(model)}, {device.ROWS[0]} to {device.ROWS[-1]} rows: relative "
        f"error {error:.1e}, {allowed:.0e} allowed"
    )
    return passed(error <= allowed, detail)


def _error(projection: Any, dtype: mx.Dtype) -> float:
    weights = weight_norms.dequantized(projection, _OUTPUTS)
    inner = weights.shape[1]
    left = np.random.default_rng(0).standard_normal((device.ROWS[-1], inner))
    multiply = partial(_multiply, projection)
    known = _unpacked(projection) if hasattr(projection, "bits") else None
    known = device.as_float64(weights) if known is None else known
    return device.products_error(multiply, mx.array(left).astype(dtype), known)


def _multiply(projection: Any, rows: mx.array) -> mx.array:
    if not hasattr(projection, "bits"):
        return rows @ projection.weight[_OUTPUTS].T
    biases = projection.get("biases")
    return mx.quantized_matmul(
        rows,
        projection.weight[_OUTPUTS],
        projection.scales[_OUTPUTS],
        None if biases is None else biases[_OUTPUTS],
        group_size=projection.group_size,
        bits=projection.bits,
        mode=projection.mode,
    )


def _unpacked(projection: Any) -> Any:
    """The weights from their bits, independently of MLX; None in MLX's other modes."""
    if projection.mode != "affine":
        return None
    stored = (projection.weight, projection.scales, projection.biases)
    packed, scales, biases = (part[_OUTPUTS] for part in stored)
    return device.dequantized(
        packed, scales, biases, projection.group_size, projection.bits
    )


def time_items(model: Any, ids: list[int]) -> Iterator[Fact]:
    """Report what more rows in a batch cost: how long a step of each number takes."""
    single = None
    cache = attempt(partial(prefilled, model, ids))
    for rows in _TIMED:
        work = partial(_seconds, model, cache or [], ids[-1], rows)
        seconds = attempt(work) if cache else None
        single = single or seconds
        remark = f"{seconds / single:.2f}x one row" if seconds and single else ""
        name = "step of a row" if rows == 1 else f"step of {rows} rows"
        yield Fact(name, seconds and 1000 * seconds, "ms", remark if rows > 1 else "")


def _seconds(model: Any, cache: list[Any], token: int, rows: int) -> float:
    return device.median_seconds(step(model, cache, token, rows), _SECONDS)


def prefilled(model: Any, ids: Sequence[int]) -> list[Any]:
    """Return the KV caches of a prompt, in one row."""
    cache = make_prompt_cache(model)
    model(mx.array([list(ids)]), cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


def step(
    model: Any, cache: Sequence[Any], token: int, rows: int
) -> Callable[[], list[mx.array]]:
    """Return a decoding step of equal rows, each after the cache's prompt."""
    caches = [copy_of(layer) for layer in cache]
    for layer in caches:
        take_rows(layer, mx.zeros(rows, mx.int32))
    tokens = mx.full((rows, 1), token, mx.int32)
    return lambda: [model(tokens, cache=caches)]


def disk_items(model: Any) -> Iterator[Item]:
    """Report how fast the model's files are read, and check that --stream can wait."""
    source = source_of(model)
    if source is None:
        return
    files = source.path.glob("model*.safetensors")
    largest = max(files, key=lambda file: file.stat().st_size)
    rate = disk_rate(largest)
    yield Fact("disk", rate / 1e9, "GB/s", "reading the model's files")
    layers = family_of(model).layers(model)
    layer = max(map(parameter_bytes, layers))
    yield checked("reading a layer", check_reading, layer, rate)


def check_reading(layer: int, rate: float) -> Check:
    """Check that a layer is read before a GPU's watchdog would end a command."""
    seconds = layer / rate
    detail = f"a layer of {gigabytes(layer)} is read in {seconds:.2g} s"
    if seconds < _WATCHDOG:
        return ok(detail)
    return warning(
        f"{detail}: --stream is slow here, and macOS ends work of the GPU that waits "
        f"for {_WATCHDOG:.0f} s",
        "copy the model to a faster disk, such as the internal one",
    )
