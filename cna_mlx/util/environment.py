"""Describe the machine and versions that a measurement depends on."""

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    distributions,
    version,
)
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")


_MAPS = Path("/proc/self/maps")
# The first one that is mapped is used: it was preloaded before MLX's own.
_LIBRARIES = (
    ("mkl", "MKL"),
    ("libopenblas", "OpenBLAS"),
    ("libblis", "BLIS"),
    ("libatlas", "ATLAS"),
    ("libarmpl", "Arm Performance Libraries"),
    ("libcblas", "reference"),
    ("libblas", "reference"),
)
# Packages with a private BLAS.
_OTHERS = {"numpy.libs", "scipy.libs", "scikit_learn.libs", "torch"}


def environment() -> dict[str, Any]:
    """Return system, device, backend, BLAS and versions for JSON."""
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
    """Return the BLAS that MLX's CPU backend multiplies float32 matrices with."""
    if platform.system() == "Darwin":  # MLX links only this one
        return "Accelerate"
    return blas_of(attempt(lambda: _MAPS.read_text().splitlines()) or ())


def blas_of(maps: Iterable[str]) -> str:
    """Return the BLAS in the lines of ``/proc/self/maps``, or ``unknown``."""
    paths = {Path(line[line.index("/") :].strip()) for line in maps if "/" in line}
    names = {path.name for path in paths if not _OTHERS.intersection(path.parts)}
    for stem, title in _LIBRARIES:
        if any(name.startswith((stem, f"lib{stem}")) for name in names):
            return title
    return "unknown"


def attempt(find: Callable[[], _T]) -> _T | None:
    """Return a function's result, or None if it fails."""
    try:
        return find()
    except Exception:  # noqa: BLE001  # an unknown fact must not end doctor
        return None


def mlx_parts() -> dict[str, str]:
    """Return the versions of MLX's installed backends: mlx-metal, mlx-cpu, ..."""
    found = {}
    for one in distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(("mlx-metal", "mlx-cpu", "mlx-cuda")):
            found[name] = one.version
    return dict(sorted(found.items()))


def wheel_platform() -> str | None:
    """Return the platform tag of the wheel that mlx-metal came in, if any."""
    wheel = distribution("mlx-metal").read_text("WHEEL") or ""
    tags = (line for line in wheel.splitlines() if line.startswith("Tag:"))
    return next((tag.rpartition("-")[2] for tag in tags), None)


def system_name() -> str:
    """Return the system, its version and the machine; never the host's name."""
    release = platform.mac_ver()[0]
    name = f"macOS {release}"
    if not release:
        own = (attempt(platform.freedesktop_os_release) or {}).get("PRETTY_NAME")
        name = f"{platform.system()} {platform.release()}" + (
            f" ({own})" if own else ""
        )
    return f"{name}, {platform.machine()}"


def backend(device: str | None, has_metal: bool, has_cuda: bool) -> str:
    """Return MLX's default backend: Metal, CUDA or CPU."""
    if device != "gpu":
        return "CPU"
    return "Metal" if has_metal else "CUDA" if has_cuda else "GPU"


def versions(*names: str) -> dict[str, str]:
    """Return the versions of packages; by default cna-mlx, MLX and mlx-lm."""
    return {name: _version(name) for name in names or ("cna-mlx", "mlx", "mlx-lm")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout that is not installed
        return "unknown"
