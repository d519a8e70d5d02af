"""Report and check the software, the machine and its memory."""

import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from typing import Any

from cna_mlx.diagnostics.results import (
    Check,
    Fact,
    Item,
    checked,
    failed,
    ok,
    passed,
    warning,
)
from cna_mlx.models.memory.machine import machine
from cna_mlx.util.environment import (
    attempt,
    backend,
    mlx_parts,
    system_name,
    versions,
    wheel_platform,
)

# The macOS whose wheel of MLX has kernels for neural accelerators, and needs it.
_NEURAL = (26, 2)
_REINSTALL = "pip install --force-reinstall --no-cache-dir mlx mlx-metal"
_PACKAGES = (
    "cna-mlx",
    "mlx",
    "mlx-lm",
    "numpy",
    "transformers",
    "huggingface-hub",
    "prompt-toolkit",
    "rich",
    "click",
)


# ------------------------------------------------------------------- versions


def version_items() -> Iterator[Item]:
    """Report the dependencies' versions, and check that they fit together."""
    yield Fact("Python", platform.python_version(), remark=_python())
    found = versions(*_PACKAGES)
    parts = attempt(mlx_parts) or {}
    for name, version in found.items():
        yield Fact(name, version, remark=_parts(version, parts, name))
    required = attempt(lambda: requires("cna-mlx") or [])
    yield checked("versions", check_versions, found, required or [], parts)


def _python() -> str:
    return "" if sys.implementation.name == "cpython" else sys.implementation.name


def _parts(version: str, parts: Mapping[str, str], name: str) -> str:
    if name != "mlx":
        return ""
    return ", ".join(
        part if other == version else f"{part} {other}" for part, other in parts.items()
    )


def check_versions(
    found: Mapping[str, str], required: list[str], parts: Mapping[str, str]
) -> Check:
    """Check the packages against the requirements, and MLX's parts against MLX.

    Args:
        required: requirements as in package metadata, e.g. ``rich>=14.0``.
    """
    from packaging.requirements import Requirement

    problems = []
    for text in required:
        requirement = Requirement(text)
        name = requirement.name.lower().replace("_", "-")
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = found.get(name, "unknown")
        if version != "unknown" and not requirement.specifier.contains(version, True):
            problems.append(f"{name} {version}, needed {requirement.specifier}")
    for part, version in parts.items():
        if version != found.get("mlx"):
            problems.append(f"{part} {version} with mlx {found.get('mlx')}")
    return passed(
        not problems,
        "; ".join(problems) or "all requirements are met",
        "pip install -U cna-mlx mlx mlx-lm, in a new environment",
    )


# --------------------------------------------------------------------- device


def device_items() -> Iterator[Item]:
    """Report the operating system, MLX's device and the memory."""
    import mlx.core as mx

    yield Fact("system", system_name())
    info: dict[str, Any] = attempt(lambda: dict(mx.device_info())) or {}
    device = attempt(lambda: mx.default_device().type.name)
    yield Fact("device", device, remark=_device_name(info))
    has_metal = bool(attempt(lambda: mx.metal.is_available()))
    has_cuda = bool(attempt(lambda: mx.cuda.is_available()))
    yield Fact("backend", backend(device, has_metal, has_cuda))
    system = platform.system()
    yield checked("backend", check_backend, device, has_metal, has_cuda, system)
    if system == "Darwin":
        known = attempt(wheel_platform), attempt(_macos_version)
        yield checked("MLX's wheel", check_wheel, *known)
    yield from memory_items(info)


def _device_name(info: Mapping[str, Any]) -> str:
    names = (info.get("device_name"), info.get("architecture"))
    return ", ".join(str(name) for name in names if name)


def check_backend(
    device: str | None, has_metal: bool, has_cuda: bool, system: str
) -> Check:
    """Check that MLX uses the accelerator of this machine."""
    name = backend(device, has_metal, has_cuda)
    if name == "CPU" and (has_metal or has_cuda):
        return warning(
            "this machine has a GPU, but MLX runs on the CPU",
            "leave MLX's default device unset",
        )
    if name == "CPU" and system == "Darwin":
        return warning(
            "MLX does not find a Metal device and runs on the CPU",
            "use macOS 14 or newer on Apple silicon, with an arm64 Python, outside "
            "a virtual machine",
        )
    return ok(f"MLX runs on {name}")


def check_wheel(platform: str | None, system: str | None) -> Check:
    """Check that MLX's wheel is the one for this macOS.

    Args:
        platform: the tag of the wheel, such as ``macosx_15_0_arm64``.
        system: the version of macOS, such as ``26.2``.
    """
    found = re.match(r"macosx_(\d+)_", platform or "")
    if not found or not system:
        return ok(f"not checked: wheel {platform or 'unknown'}, macOS {system}")
    built, runs = int(found[1]), tuple(map(int, system.split(".")[:2]))
    detail = f"mlx-metal is built for macOS {built}, and this is macOS {system}"
    if built > runs[0]:
        return failed(f"{detail}: its kernels cannot be loaded", _REINSTALL)
    if built < _NEURAL[0] <= runs[0]:
        return warning(
            f"{detail}: it lacks the kernels for the neural accelerators (M5)",
            "install Python again (an older one reports macOS 16, and pip then takes "
            f"the wrong wheel), then: {_REINSTALL}",
        )
    if built == _NEURAL[0] and runs < _NEURAL:
        return warning(
            f"{detail}: on an M5 its kernels need macOS 26.2", "update macOS"
        )
    return ok(detail)


def memory_items(info: Mapping[str, Any]) -> Iterator[Fact]:
    """Report memory and its limits; ``info`` is MLX's description of the device."""
    memory = attempt(machine)
    yield Fact("memory", memory.total if memory else None, "bytes")
    yield Fact("usable memory", memory.usable if memory else None, "bytes")
    limits = {
        "working set": "max_recommended_working_set_size",
        "largest buffer": "max_buffer_length",
        "GPU memory": "total_memory",
    }
    for name, key in limits.items():
        if key in info:
            yield Fact(name, int(info[key]), "bytes")
    if platform.system() == "Darwin":
        yield wired_limit(attempt(_wired_limit_mb))
    yield Fact("open files", attempt(_open_files), remark="limit set by mlx-lm")


def wired_limit(megabytes: int | None) -> Fact:
    """Report how much memory the GPU may wire; 0 MB is the system default."""
    how = "sudo sysctl iogpu.wired_limit_mb=N sets it until the next restart"
    if megabytes == 0:
        return Fact("wired limit", "system default", remark=how)
    size = None if megabytes is None else megabytes << 20
    return Fact("wired limit", size, "bytes", how)


def _wired_limit_mb() -> int:
    return int(_sysctl("iogpu.wired_limit_mb"))


def _macos_version() -> str:
    # platform.mac_ver() says 16 to a Python that was built before macOS 26
    return _sysctl("kern.osproductversion")


def _sysctl(name: str) -> str:
    command = ["/usr/sbin/sysctl", "-n", name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3, check=True
    )
    return done.stdout.strip()


def _open_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
