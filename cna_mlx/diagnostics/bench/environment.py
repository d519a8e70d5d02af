"""What a figure depends on: device, backend, BLAS, versions."""

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cna_mlx.diagnostics.facts import backend, mlx_parts, system_name
from cna_mlx.diagnostics.results import attempt
from cna_mlx.util.versions import versions

_MAPS = Path("/proc/self/maps")
# The first that is found is in force: it was put before the one that MLX brings.
_LIBRARIES = (
    ("mkl", "MKL"),
    ("libopenblas", "OpenBLAS"),
    ("libblis", "BLIS"),
    ("libatlas", "ATLAS"),
    ("libarmpl", "Arm Performance Libraries"),
    ("libcblas", "reference"),
    ("libblas", "reference"),
)
# These bring a BLAS for themselves alone.
_OTHERS = {"numpy.libs", "scipy.libs", "scikit_learn.libs", "torch"}


def environment() -> dict[str, Any]:
    """System, device, backend, BLAS and versions, as plain data."""
    import mlx.core as mx

    info: dict[str, Any] = attempt(lambda: dict(mx.device_info())) or {}
    device = attempt(lambda: mx.default_device().type.name)
    has_metal = bool(attempt(lambda: mx.metal.is_available()))
    has_cuda = bool(attempt(lambda: mx.cuda.is_available()))
    return {
        "system": system_name(),
        "device": str(info.get("device_name") or info.get("architecture") or device),
        "backend": backend(device, has_metal, has_cuda),
        "blas": blas(),
        "python": platform.python_version(),
        "versions": {**versions(), **(attempt(mlx_parts) or {})},
    }


def blas() -> str:
    """Which BLAS MLX's CPU backend multiplies float32 matrices with."""
    if platform.system() == "Darwin":  # MLX links no other there
        return "Accelerate"
    return blas_of(attempt(lambda: _MAPS.read_text().splitlines()) or ())


def blas_of(maps: Iterable[str]) -> str:
    """The BLAS among the files that a process has mapped; ``unknown`` if none is.

    Args:
        maps: lines as in ``/proc/self/maps``: they end in a path.
    """
    paths = {Path(line[line.index("/") :].strip()) for line in maps if "/" in line}
    names = {path.name for path in paths if not _OTHERS.intersection(path.parts)}
    for stem, title in _LIBRARIES:
        if any(name.startswith((stem, f"lib{stem}")) for name in names):
            return title
    return "unknown"
