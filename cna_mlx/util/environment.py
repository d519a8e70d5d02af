"""What a figure depends on: system, device, backend, BLAS and versions."""

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")


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


def attempt(find: Callable[[], _T]) -> _T | None:
    """What a function finds, or None where this machine cannot tell."""
    try:
        return find()
    except Exception:  # noqa: BLE001  # a fact that is unknown must not end a check-up
        return None


def mlx_parts() -> dict[str, str]:
    """The versions of MLX's backends that are installed: mlx-metal, mlx-cpu, ..."""
    found = {}
    for one in distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(("mlx-metal", "mlx-cpu", "mlx-cuda")):
            found[name] = one.version
    return dict(sorted(found.items()))


def system_name() -> str:
    """The operating system, its version and the machine; never the host's name."""
    release = platform.mac_ver()[0]
    name = f"macOS {release}" if release else f"{platform.system()} {_linux()}"
    return f"{name}, {platform.machine()}"


def _linux() -> str:
    described = attempt(platform.freedesktop_os_release) or {}
    own = described.get("PRETTY_NAME")
    return f"{platform.release()} ({own})" if own else platform.release()


def backend(device: str | None, has_metal: bool, has_cuda: bool) -> str:
    """What MLX computes with by default: Metal, CUDA or CPU."""
    if device != "gpu":
        return "CPU"
    return "Metal" if has_metal else "CUDA" if has_cuda else "GPU"


def versions(*names: str) -> dict[str, str]:
    """Versions by package: of cna-mlx, MLX and mlx-lm unless others are named."""
    return {name: _version(name) for name in names or ("cna-mlx", "mlx", "mlx-lm")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
