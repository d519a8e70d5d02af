"""Check the device's arithmetic against numpy, and measure its memory bandwidth."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics.results import Check, Fact, checked, passed
from cna_mlx.models.memory.machine import machine
from cna_mlx.util.environment import attempt

# Rows of the left operand: one row, a few rows (arms) and many run different kernels.
ROWS = (1, 2, 3, 5, 6, 12, 13, 32, 64)
_INNER, _OUTER = 512, 256
# Sizes of a head, and queries: one and nine run different kernels.
_HEADS, _QUERIES = (64, 128), (1, 9)
_KEYS, _QUERY_HEADS, _KEY_HEADS = 77, 8, 2
# Relative errors (Frobenius) of a product. bf16 rounds its result by 2^-9 and fp16 by
# 2^-12. float32 errs by 1e-6, or by 3e-4 to 8e-4 in TF32 (10 bits of mantissa: MLX's
# default on NVIDIA's tensor cores and from the M5 on).
ALLOWED = {mx.float32: 3e-3, mx.bfloat16: 1e-2, mx.float16: 2e-3}
# MLX's CPU backend adds up products with quantized weights in bf16: 2.6e-2.
ALLOWED_QUANTIZED = 5e-2
_FULL_FLOAT32 = 1e-5
# Allowed for a whole model, relative to its largest result. On the demo models,
# simulated TF32 (truncated) changed logits by 1e-3 and deltas by 6e-4.
_TOLERANCE_FULL, _TOLERANCE_REDUCED = 1e-4, 4e-3

_BIG_MODEL = 4_500_000_000  # the weights of an 8B model in 4 bits
_LARGEST_BUFFER = 256 << 20  # larger than a last-level cache
_SHARE_OF_MEMORY = 64
_REPETITIONS = 5
# Shorter work is repeated: a GPU has a latency per call.
_SHORT = 0.01  # seconds
_READS = 8


def matmul_items() -> Iterator[Check]:
    """Check products of random matrices in every dtype of models."""
    for dtype in ALLOWED:
        yield checked(f"{dtype_name(dtype)} matmul", _check_matmul, dtype)
    for group in (64, 32):
        yield checked(f"4-bit g{group} matmul", _check_quantized, group)
    for size in _HEADS:
        yield checked(f"attention, heads of {size}", _check_attention, size)


def float32_tolerance() -> float:
    """Return the allowed float32 rounding here, relative to the largest result."""
    is_full = matmul_error(mx.float32) <= _FULL_FLOAT32
    return _TOLERANCE_FULL if is_full else _TOLERANCE_REDUCED


def _check_matmul(dtype: mx.Dtype) -> Check:
    error, allowed = matmul_error(dtype), ALLOWED[dtype]
    note = ""
    if dtype == mx.float32 and _FULL_FLOAT32 < error <= allowed:
        note = "; reduced precision (TF32), which MLX_ENABLE_TF32=0 turns off"
    return _within(error, allowed, note)


def _check_quantized(group: int) -> Check:
    return _within(quantized_error(group), ALLOWED_QUANTIZED)


def _check_attention(size: int) -> Check:
    errors = {dtype: attention_error(size, dtype) for dtype in ALLOWED}
    worst = max(errors, key=lambda dtype: float(errors[dtype] / ALLOWED[dtype]))
    broken = [dtype for dtype, error in errors.items() if not np.isfinite(error)]
    dtype = broken[0] if broken else worst
    return _within(errors[dtype], ALLOWED[dtype], f" in {dtype_name(dtype)}")


def attention_error(size: int, dtype: mx.Dtype) -> float:
    """Return the relative error of causal attention with heads of this size."""
    random = np.random.default_rng(0)
    errors = []
    for count in _QUERIES:
        shapes = ((_QUERY_HEADS, count), (_KEY_HEADS, _KEYS), (_KEY_HEADS, _KEYS))
        parts = [
            mx.array(random.standard_normal((1, *shape, size))).astype(dtype)
            for shape in shapes
        ]
        mask = "causal" if count > 1 else None  # as mlx-lm calls it
        found = mx.fast.scaled_dot_product_attention(
            *parts, scale=size**-0.5, mask=mask
        )
        errors.append(_relative(found, _attended(*map(as_float64, parts))))
    return float(np.max(errors))


def _attended(queries: Any, keys: Any, values: Any) -> np.ndarray:
    """Causal attention in float64; each key head serves several query heads."""
    shared = queries.shape[1] // keys.shape[1]
    keys, values = (part.repeat(shared, axis=1) for part in (keys, values))
    scores = queries @ keys.swapaxes(-1, -2) / np.sqrt(queries.shape[-1])
    count, length = scores.shape[-2:]
    unseen = np.arange(length) > np.arange(length - count, length)[:, None]
    scores = np.where(unseen, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights @ values / weights.sum(axis=-1, keepdims=True))


def dtype_name(dtype: mx.Dtype) -> str:
    """Return a dtype's name, such as ``bfloat16``."""
    return str(dtype).removeprefix("mlx.core.")


def _within(error: float, allowed: float, note: str = "") -> Check:
    detail = f"relative error {error:.1e}, {allowed:.0e} allowed{note}"
    return passed(error <= allowed, detail)


def matmul_error(dtype: mx.Dtype) -> float:
    """Return a product's relative error in a dtype; NaN or infinity stay visible."""
    left, right = (mx.array(part).astype(dtype) for part in _operands())
    return products_error(lambda rows: rows @ right.T, left, as_float64(right))


def products_error(
    multiply: Callable[[mx.array], mx.array], left: mx.array, weights: np.ndarray
) -> float:
    """Return the largest relative error of products with 1 to 64 rows.

    Args:
        multiply: from some rows of ``left`` to their products.
        left: [64, inner].
        weights: what it multiplies by, [outer, inner] in float64.
    """
    errors = [
        _relative(multiply(left[:rows]), as_float64(left[:rows]) @ weights.T)
        for rows in ROWS
    ]
    return float(np.max(errors))  # keeps a NaN


def quantized_error(group: int) -> float:
    """Return the relative error of bf16 activations times 4-bit weights.

    numpy dequantizes the weights from their bits, independently of the device.
    """
    left, right = (mx.array(part).astype(mx.bfloat16) for part in _operands())
    packed, scales, biases = mx.quantize(right, group_size=group, bits=4)
    weights = dequantized(packed, scales, biases, group)
    if not np.abs(weights - as_float64(right)).max() < 4:  # not 4-bit values at all
        return float("inf")
    multiply = partial(_quantized, packed, scales, biases, group)
    return products_error(multiply, left, weights)


def _quantized(
    packed: mx.array, scales: mx.array, biases: mx.array, group: int, rows: mx.array
) -> mx.array:
    return mx.quantized_matmul(rows, packed, scales, biases, group_size=group, bits=4)


def dequantized(
    packed: mx.array, scales: mx.array, biases: Any, group: int, bits: int = 4
) -> Any:
    """Unpack quantized weights to float64: a stream of bits, the lowest first.

    Args:
        packed: [rows, columns * bits / 32] of uint32.
        scales, biases: [rows, columns / group].
    """
    octets = np.ascontiguousarray(np.array(packed)).view(np.uint8)
    stream = np.unpackbits(octets, axis=1, bitorder="little")
    stream = stream.reshape(len(octets), -1, bits)
    levels = (stream @ (1 << np.arange(bits))).astype(np.float64)
    scale, bias = (as_float64(part).repeat(group, axis=1) for part in (scales, biases))
    return levels * scale + bias


def _operands() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = ((ROWS[-1], _INNER), (_OUTER, _INNER))
    left, right = (random.standard_normal(shape) for shape in shapes)
    return left.astype(np.float32), right.astype(np.float32)


def as_float64(array: mx.array) -> np.ndarray:
    """Return an array of any dtype as numpy's float64."""
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _relative(found: mx.array, expected: np.ndarray) -> float:
    error = np.linalg.norm(as_float64(found) - expected)
    return float(error / np.linalg.norm(expected))


# ------------------------------------------------------------------ bandwidth


def bandwidth_fact(rate: float | None) -> Fact:
    """Report the bandwidth in GB/s and the decoding speed that it allows."""
    if not rate:
        return Fact("bandwidth", rate, "GB/s")
    bound = rate * 1e9 / _BIG_MODEL
    rounded = f"{bound:.0f}" if bound >= 10 else f"{bound:.1f}"
    remark = f"a 4-bit 8B model (4.5 GB) can decode at most {rounded} tokens/s here"
    return Fact("bandwidth", rate, "GB/s", remark)


def bandwidth() -> float:
    """Measure the memory bandwidth in GB/s: the faster of copying and reading.

    A matrix times a vector only reads, like decoding, and can use several CPU threads
    where a copy cannot.
    """
    memory = attempt(machine)
    share = memory.usable // _SHARE_OF_MEMORY if memory else _LARGEST_BUFFER
    side = int((max(1 << 20, min(_LARGEST_BUFFER, share)) / 4) ** 0.5)
    matrix = mx.ones((side, side), dtype=mx.float32)
    vector = mx.ones((side,), dtype=mx.float32)
    copied = 2 * matrix.nbytes / median_seconds(lambda: [matrix + 1])
    read = matrix.nbytes / median_seconds(lambda: [matrix @ vector])
    if matrix.nbytes / read < _SHORT:
        several = median_seconds(lambda: [matrix @ vector for _ in range(_READS)])
        read = _READS * matrix.nbytes / several
    mx.clear_cache()  # drop the copies
    return max(copied, read) / 1e9


def median_seconds(work: Callable[[], list[mx.array]], seconds: float = 2.0) -> float:
    """Return the median seconds to compute the arrays of `work`, after a warm-up.

    No repetition starts after `seconds`.
    """
    mx.eval(work())  # touches pages and compiles
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _REPETITIONS and (not times or time.perf_counter() < end):
        started = time.perf_counter()
        mx.eval(work())
        times.append(time.perf_counter() - started)
    return statistics.median(times)
