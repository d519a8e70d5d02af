"""Checks on the device itself: its arithmetic, against numpy, and its bandwidth."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.diagnostics.results import Check, Fact, guarded
from cna_mlx.models.memory.machine import machine
from cna_mlx.util.environment import attempt

# Rows of the left side: a product with one is another kernel than one with many.
_ROWS = (1, 64)
_INNER, _OUTER = 512, 256
# Relative errors (Frobenius) of a product. bf16 rounds its result by 2^-9 and fp16 by
# 2^-12. float32 in TF32 (10
# bits of mantissa: MLX's default on NVIDIA's tensor cores and from the M5 on) comes to
# 3e-4 to 8e-4, and without it to 1e-6.
_ALLOWED = {"float32": 3e-3, "bfloat16": 1e-2, "float16": 2e-3}
# MLX's CPU backend adds the products with quantized weights up in bf16: 2.6e-2.
_QUANTIZED_ALLOWED = 5e-2
_FULL_FLOAT32 = 1e-5
# Of results that went through a whole model, relative to the largest of them. Of the
# demo models, simulated TF32 (truncated) moved logits by 1e-3 and deltas by 6e-4.
_TOLERANCE_FULL, _TOLERANCE_REDUCED = 1e-4, 4e-3

_BIG_MODEL = 4_500_000_000  # the weights of an 8B model in 4 bits
_LARGEST_BUFFER = 256 << 20  # a last-level cache holds less
_SHARE_OF_MEMORY = 64
_REPETITIONS = 5
# What takes less is done several times at once: asking a GPU takes a while as well.
_SHORT = 0.01  # seconds
_READS = 8


def matmul_items() -> Iterator[Check]:
    """Products of random matrices in every dtype that models come in."""
    for dtype in (mx.float32, mx.bfloat16, mx.float16):
        name = str(dtype).removeprefix("mlx.core.")
        yield guarded(f"{name} matmul", lambda d=dtype, n=name: _check_matmul(d, n))  # type: ignore[misc]
    for group in (64, 32):
        name = f"4-bit g{group} matmul"
        yield guarded(name, lambda g=group, n=name: _check_quantized(g, n))  # type: ignore[misc]


def float32_tolerance() -> float:
    """What rounding may do to float32 results here, relative to the largest."""
    is_full = matmul_error(mx.float32) <= _FULL_FLOAT32
    return _TOLERANCE_FULL if is_full else _TOLERANCE_REDUCED


def _check_matmul(dtype: mx.Dtype, name: str) -> Check:
    error = matmul_error(dtype)
    detail = f"relative error {error:.1e}, {_ALLOWED[name]:.0e} allowed"
    if dtype == mx.float32 and _FULL_FLOAT32 < error <= _ALLOWED[name]:
        detail += "; reduced precision (TF32), which MLX_ENABLE_TF32=0 turns off"
    return Check.of(f"{name} matmul", error <= _ALLOWED[name], detail)


def _check_quantized(group: int, name: str) -> Check:
    error = quantized_error(group)
    detail = f"relative error {error:.1e}, {_QUANTIZED_ALLOWED:.0e} allowed"
    return Check.of(name, error <= _QUANTIZED_ALLOWED, detail)


def matmul_error(dtype: mx.Dtype) -> float:
    """The relative error of a product in a dtype; NaN or infinite where it is none."""
    left, right = (mx.array(part).astype(dtype) for part in _operands())
    errors = [
        _relative(left[:rows] @ right.T, _float64(left[:rows]) @ _float64(right).T)
        for rows in _ROWS
    ]
    return float(np.max(errors))  # a NaN stays one


def quantized_error(group: int) -> float:
    """The relative error of a product of bf16 activations with 4-bit weights.

    The weights are dequantized by numpy from their bits: nothing of the device's is
    believed.
    """
    left, right = (mx.array(part).astype(mx.bfloat16) for part in _operands())
    packed, scales, biases = mx.quantize(right, group_size=group, bits=4)
    weights = dequantized(packed, scales, biases, group)
    errors = [np.abs(weights - _float64(right)).max() / 4]  # far off: no 4 bits at all
    for rows in _ROWS:
        found = mx.quantized_matmul(
            left[:rows], packed, scales, biases, group_size=group, bits=4
        )
        errors.append(_relative(found, _float64(left[:rows]) @ weights.T))
    return float(np.max(errors[1:])) if errors[0] < 1 else float("inf")


def dequantized(packed: mx.array, scales: mx.array, biases: Any, group: int) -> Any:
    """4-bit weights as float64: eight to a uint32, the lowest bits first.

    Args:
        packed: [rows, columns / 8].
        scales, biases: [rows, columns / group].
        group: how many weights share a scale and a bias.
    """
    words = np.array(packed)[..., None]
    levels = (words >> np.arange(0, 32, 4, dtype=np.uint32)) & 15
    levels = levels.reshape(words.shape[0], -1).astype(np.float64)
    scale, bias = (_float64(part).repeat(group, axis=1) for part in (scales, biases))
    return levels * scale + bias


def _operands() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = ((_ROWS[-1], _INNER), (_OUTER, _INNER))
    left, right = (random.standard_normal(shape) for shape in shapes)
    return left.astype(np.float32), right.astype(np.float32)


def _float64(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _relative(found: mx.array, expected: np.ndarray) -> float:
    error = np.linalg.norm(_float64(found) - expected)
    return float(error / np.linalg.norm(expected))


# ------------------------------------------------------------------ bandwidth


def bandwidth_fact(rate: float | None) -> Fact:
    """How fast memory is read and written in GB/s, and what that means for decoding."""
    return Fact("bandwidth", rate, "GB/s", meaning(rate) if rate else "")


def meaning(rate: float) -> str:
    """What a bandwidth in GB/s means: a token needs all weights to be read."""
    bound = rate * 1e9 / _BIG_MODEL
    rounded = f"{bound:.0f}" if bound >= 10 else f"{bound:.1f}"
    return f"a 4-bit 8B model (4.5 GB) can decode at most {rounded} tokens/s here"


def bandwidth() -> float:
    """The rate in GB/s at which a large buffer is copied, or read: the better of both.

    A copy reads and writes. A matrix times a vector only reads, as decoding does, and
    on a CPU it may have the threads that a copy has not.
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
    mx.clear_cache()  # of the copies
    return max(copied, read) / 1e9


def median_seconds(work: Callable[[], list[mx.array]], seconds: float = 2.0) -> float:
    """What a piece of work takes: the median of a few times, after one to warm up.

    Args:
        work: builds graphs, which are then computed.
        seconds: begin no more after this long.
    """
    mx.eval(work())  # fetches pages and compiles
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _REPETITIONS and (not times or time.perf_counter() < end):
        started = time.perf_counter()
        mx.eval(work())
        times.append(time.perf_counter() - started)
    return statistics.median(times)
