"""Fetching a snapshot: huggingface_hub does the work, and we tell how far."""

import threading
from pathlib import Path
from typing import Any

from cna_mlx.util.progress import Progress


def patterns() -> list[str]:
    """Which files of a repository make a model."""
    from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS

    return list(DEFAULT_ALLOW_PATTERNS)


def download(name: str, revision: str | None, total: int, progress: Progress) -> Path:
    """Fetch what the cache lacks of a snapshot.

    Args:
        name, revision: of the repository.
        total: bytes to fetch; 0 if that is not known.
        progress: told the bytes so far, from any thread.

    Returns:
        The snapshot's directory.

    Raises:
        What huggingface_hub raises; see :mod:`cna_mlx.models.hub.errors`.
    """
    from huggingface_hub import snapshot_download

    meter = _Meter(total, progress)
    path = snapshot_download(
        name, revision=revision, allow_patterns=patterns(), tqdm_class=_bars(meter)
    )
    meter.report(total)
    return Path(path)


class _Meter:
    """Bytes that came, as the furthest of all bars: never back, never past the total.

    The client keeps a bar for what came over the network and one for what was written,
    and takes back what it has counted before it tries again.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._furthest = 0
        self.lock = threading.RLock()  # files come in threads of their own

    def report(self, done: int) -> None:
        with self.lock:
            done = min(done, self._total) if self._total else done
            if done > self._furthest:
                self._furthest = done
                self._progress("Fetching", done, self._total or done)


def _bars(meter: _Meter) -> type:
    """Bars for huggingface_hub that draw nothing and report bytes."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._is_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            with meter.lock:
                self.n += n or 0
                if self._is_bytes:
                    meter.report(int(self.n))

    return Bar
