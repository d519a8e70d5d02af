"""Report the bytes of a download through our progress protocol."""

import threading
from typing import Any

from cna_mlx.util.progress import Progress


class Meter:
    """Bytes received, as the furthest of all bars: never back, never past the total.

    The client keeps a bar for bytes received and one for bytes written, and subtracts
    what it counted before it tries again.

    Args:
        total: bytes to fetch; 0 if unknown.
        progress: called with the bytes so far, from any thread.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._furthest = 0
        self._lock = threading.RLock()  # each file comes in a thread

    def report(self, done: int) -> None:
        """Report the bytes of one bar, if they are more than any before."""
        with self._lock:
            done = min(done, self._total) if self._total else done
            if done > self._furthest:
                self._furthest = done
                self._progress("Fetching", done, self._total or done)

    def bars(self) -> type:
        """A class of progress bars for huggingface_hub that draw nothing."""
        from huggingface_hub.utils import tqdm

        meter = self

        class Bar(tqdm):
            def __init__(self, *args: Any, **options: Any) -> None:
                self._is_bytes = options.get("unit") == "B"
                super().__init__(*args, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> None:
                with meter._lock:
                    self.n += n or 0
                    if self._is_bytes:
                        meter.report(int(self.n))

        return Bar
