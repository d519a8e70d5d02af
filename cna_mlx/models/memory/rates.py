"""Measure how fast this machine reads from the disk and multiplies."""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_SAMPLE = 64 << 20  # bytes to read
_BLOCK = 1 << 20
_TOKENS, _WIDTH = 64, 1024
_REPETITIONS = 3


@dataclass(frozen=True)
class Rates:
    """Rates of a machine.

    Attributes:
        disk: bytes read per second.
        products: multiplications of a weight by a token's value per second.
    """

    disk: float
    products: float


def measure_rates(directory: Path, config: dict[str, Any], value_bytes: int) -> Rates:
    """Time a read of the model's files and a product of its layers' kind.

    Takes a second or less.

    Args:
        value_bytes: of a value in computation: 4 in float32.
    """
    largest = max(directory.glob("model*.safetensors"), key=lambda f: f.stat().st_size)
    return Rates(disk_rate(largest), _product_rate(config, value_bytes))


def disk_rate(file: Path) -> float:
    """Bytes per second from the middle of a file, uncached if the system allows it."""
    size = min(_SAMPLE, file.stat().st_size)
    offset = (file.stat().st_size - size) // 2
    with file.open("rb", buffering=0) as raw:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(raw.fileno(), offset, size, os.POSIX_FADV_DONTNEED)
        else:  # macOS
            import fcntl

            if uncached := getattr(fcntl, "F_NOCACHE", None):
                fcntl.fcntl(raw.fileno(), uncached, 1)
        block = bytearray(_BLOCK)
        raw.seek(offset)
        done, started = 0, time.perf_counter()
        while done < size and (read := raw.readinto(block)):
            done += read
        seconds = time.perf_counter() - started
    return done / max(seconds, 1e-9)


def _product_rate(config: dict[str, Any], value_bytes: int) -> float:
    import mlx.core as mx

    hidden = config.get("hidden_size")
    width = hidden if type(hidden) is int and hidden > 0 else _WIDTH
    is_half = "float16" in (config.get("dtype"), config.get("torch_dtype"))
    kind = mx.float32 if value_bytes == 4 else mx.float16 if is_half else mx.bfloat16
    # a multiple of any group size; the speed is the same
    inner = max(128, min(width, 4096) // 128 * 128)
    values = mx.ones((_TOKENS, inner), kind)
    weights = mx.random.normal((_WIDTH, inner)).astype(kind)
    multiply = partial(mx.matmul, values, weights.T)
    said = config.get("quantization") or {}
    if said.get("bits"):
        options = {
            "group_size": said.get("group_size", 64),
            "bits": said["bits"],
            "mode": said.get("mode", "affine"),
        }
        packed = mx.quantize(weights, **options)
        options["transpose"] = True
        multiply = partial(mx.quantized_matmul, values, *packed, **options)
    times = []
    for _ in range(1 + _REPETITIONS):  # the first one quantizes and warms up
        started = time.perf_counter()
        mx.eval(multiply())
        times.append(time.perf_counter() - started)
    return _TOKENS * inner * _WIDTH / max(min(times[1:]), 1e-9)
