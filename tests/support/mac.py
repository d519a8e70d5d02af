"""Pretend that this process runs on a Mac, as far as Python can tell.

Run as a script, with a list of command lines as JSON: each runs in turn, and one JSON
object says how each ended.
"""

import contextlib
import fcntl
import importlib.metadata
import io
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import urllib.request  # noqa: F401  # on a Mac it imports what Linux lacks
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

GIB = 1 << 30
#: MLX's description of a Mac with 24 GB.
INFO = {
    "resource_limit": 499_000,
    "max_buffer_length": 14 * GIB,
    "architecture": "applegpu_g16s",
    "memory_size": 24 * GIB,
    "max_recommended_working_set_size": 17 * GIB,
    "device_name": "Apple M4 Pro",
}
RELEASE, WHEEL = "15.5", "macosx_15_0_arm64"
_SYSCTL = {"kern.osproductversion": RELEASE, "iogpu.wired_limit_mb": "0"}
_NOCACHE = 48  # fcntl.F_NOCACHE
_OTHERS = ("numpy", "transformers", "huggingface_hub", "mlx_lm.generate", "rich")


def pretend(info: dict[str, Any] = INFO) -> list[int]:
    """Be a Mac from now on; return the list of wired limits that are set later."""
    for name in _OTHERS:  # they choose their own parts by the platform
        import_module(name)
    sys.platform = "darwin"
    multiprocessing.set_start_method("spawn", force=True)
    for name in ("sched_getaffinity", "sched_setaffinity", "posix_fadvise"):
        delattr(os, name)
    platform.system = lambda: "Darwin"
    platform.machine = lambda: "arm64"
    platform.mac_ver = lambda: (RELEASE, ("", "", ""), "arm64")
    fcntl.F_NOCACHE = _NOCACHE
    fcntl.fcntl = _instead(fcntl.fcntl, lambda _, wanted, *rest: wanted == _NOCACHE, 0)
    subprocess.run = _instead(
        subprocess.run,
        lambda command, **_: command[0] == "/usr/sbin/sysctl",
        lambda command, **_: SimpleNamespace(stdout=_SYSCTL[command[-1]] + "\n"),
    )
    wheel = SimpleNamespace(read_text=lambda _: f"Tag: py3-none-{WHEEL}\n")
    importlib.metadata.distribution = _instead(
        importlib.metadata.distribution, lambda name: name == "mlx-metal", wheel
    )
    return _metal(info)


def _metal(info: dict[str, Any]) -> list[int]:
    limits: list[int] = []
    gpu = SimpleNamespace(type=SimpleNamespace(name="gpu"))
    mx.device_info = lambda: dict(info)
    mx.default_device = lambda: gpu
    mx.metal.is_available = lambda: True

    def set_wired_limit(limit: int) -> int:
        before = limits[-1] if limits else 0
        limits.append(limit)
        return before

    mx.set_wired_limit = set_wired_limit
    return limits


def _instead(real: Any, when: Callable[..., bool], found: Any) -> Callable[..., Any]:
    """The function, but another result for some arguments."""

    def call(*arguments: Any, **options: Any) -> Any:
        if not when(*arguments, **options):
            return real(*arguments, **options)
        return found(*arguments, **options) if callable(found) else found

    return call


def main(commands: list[list[str]]) -> None:
    """Run command lines, and print how each ended, with its wired limits."""
    limits = pretend()
    from cna_mlx.cli import run
    from cna_mlx.ui.console import screen

    found = []
    for command in commands:
        out, err, started = io.StringIO(), io.StringIO(), time.perf_counter()
        screen.cache_clear()
        limits.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(command)
        one = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
        one |= {"limits": list(limits), "seconds": time.perf_counter() - started}
        found.append(one)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
