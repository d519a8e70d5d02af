"""Map failed allocations to :class:`~cna_mlx.errors.OutOfMemoryError`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from cna_mlx.errors import OutOfMemoryError

# MLX raises RuntimeError with these messages: its allocator (any backend), Metal's
# buffer and resource limits, Metal's command buffers, and every CUDA call ("... failed:
# out of memory"). Its CPU wheel for Linux has no such check: the process crashes.
_MESSAGE = re.compile(
    r"\[malloc(_or_wait|_async)?\] Unable to allocate"
    r"|\[metal::malloc\] (Attempting to allocate|Resource limit)"
    r"|\[METAL\] Command buffer execution failed: Insufficient Memory"
    r"|cu\w+(\(.*\))? failed: out of memory"
)


@contextmanager
def allocation_errors() -> Iterator[None]:
    """Raise OutOfMemoryError where MLX, numpy or Python cannot allocate inside.

    Also works as a decorator. Every other error passes through.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _MESSAGE.match(str(error)):
            raise
        reason = next(iter(str(error).splitlines()), "") or "MemoryError"
        raise OutOfMemoryError(
            "out of memory: try a smaller model, fewer bits, shorter prompts or "
            f"fewer --max-tokens ({reason})"
        ) from error
