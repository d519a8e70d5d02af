"""The memory of this machine, and the sizes of a model's files."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.models.memory.allocation import allocation_errors

# The default of rlimits and of cgroups that set no limit: larger than any machine.
_UNLIMITED = 1 << 60
_LAYER = re.compile(r"\blayers\.(\d+)\.")


@dataclass(frozen=True)
class Machine:
    """Memory in bytes: the total, and how much of it can be used."""

    total: int
    usable: int


def machine() -> Machine:
    """This machine's memory.

    On Apple silicon MLX reports how much the GPU may use. Elsewhere it reports no
    memory: the operating system, the control group and the process limit do.
    """
    import mlx.core as mx

    info = mx.device_info()
    if "max_recommended_working_set_size" in info:
        return Machine(
            int(info["memory_size"]), int(info["max_recommended_working_set_size"])
        )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(total, min(total, _cgroup_limit(), _process_limit()))


def _cgroup_limit() -> int:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((Path("/sys/fs/cgroup") / name).read_text())
        except (OSError, ValueError):
            continue
    return _UNLIMITED


def _process_limit() -> int:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def weight_bytes(directory: Path) -> int:
    """The size of a model's weights on the disk."""
    return sum(file.stat().st_size for file in directory.glob("model*.safetensors"))


def part_bytes(directory: Path) -> tuple[int, int]:
    """Bytes of a model's largest layer and of its largest part outside the layers.

    They come from the headers of the files; damaged ones are left out.
    """
    layers, others = _bytes_by_part(directory)
    return max(layers.values(), default=0), max(others.values(), default=0)


def outside_bytes(directory: Path) -> int:
    """Bytes of a model's weights outside the layers."""
    return _bytes_by_part(directory)[1].total()


def _bytes_by_part(directory: Path) -> "tuple[Counter[str], Counter[str]]":
    import mlx.core as mx

    layers: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for file in directory.glob("model*.safetensors"):
        with suppress(RuntimeError, ValueError):  # damaged: the load reports it
            arrays: Any = mx.load(str(file))  # lazy: only the header is read
            for name, array in arrays.items():
                if found := _LAYER.search(name):
                    layers[found[1]] += array.nbytes
                else:
                    others[name.rpartition(".")[0]] += array.nbytes
    return layers, others


def gigabytes(size: int) -> str:
    """A number of bytes in GB, MB or kB (powers of ten)."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


@contextmanager
def wired() -> Iterator[None]:
    """Keep weights resident while the model computes; map failed allocations.

    With Metal the wired limit is the size that the system recommends, as in mlx-lm,
    and is restored when the outermost block ends; elsewhere there is no such limit.
    Setting it moves all weights: hold it around a whole run, not around a prompt. Also
    works as a decorator.

    Raises:
        OutOfMemoryError: MLX cannot allocate inside the block.
    """
    global _blocks, _before
    if not _blocks:
        _before = _set_recommended()
    _blocks += 1
    try:
        with allocation_errors():
            yield
    finally:
        _blocks -= 1
        if not _blocks and _before is not None:
            import mlx.core as mx

            mx.synchronize()  # the limit must not change during an evaluation
            mx.set_wired_limit(_before)


# The open blocks of `wired`, and the limit before the first of them.
_blocks = 0
_before: int | None = None


def _set_recommended() -> int | None:
    """Set the wired limit and return the one before; None if there is none."""
    import mlx.core as mx

    limit = mx.device_info().get("max_recommended_working_set_size")
    return None if limit is None else int(mx.set_wired_limit(int(limit)))
