"""Labels and quality of many answers, on several cores where that pays."""

import os
import signal
from collections.abc import Sequence

from cna_mlx.evaluation.labels import Label, Verdict, label
from cna_mlx.evaluation.quality import quality

Judged = tuple[Label, float]
# What goes between processes: an enumeration takes longer to send than to find.
_Sent = tuple[str, tuple[int, int] | None, float]

#: From how many answers on other processes repay their start.
WORTH = 4_000
_CHUNK = 500


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def judge_all(texts: Sequence[str], processes: int = 1) -> list[Judged]:
    """Label answers, and measure their quality.

    Args:
        texts: The answers.
        processes: How many processes share the work, from `WORTH` answers on. More
            than one only under a main module that may be imported, as is the rule of
            `multiprocessing`.

    Returns:
        The label and the quality of each, in order; the same for any `processes`.
    """
    if processes > 1 and len(texts) >= WORTH:
        # imported here: a fifth of the start of a command
        from concurrent.futures.process import BrokenProcessPool

        try:
            return _shared(texts, processes)
        except (OSError, BrokenProcessPool):
            pass  # no processes to be had, or one was killed: it goes without them
    return [(label(text), quality(text)) for text in texts]


def _shared(texts: Sequence[str], processes: int) -> list[Judged]:
    """Label in other processes, which leave interruptions to this one."""
    from concurrent.futures import ProcessPoolExecutor

    parts = [texts[at : at + _CHUNK] for at in range(0, len(texts), _CHUNK)]
    pool = ProcessPoolExecutor(
        min(processes, len(parts)),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        return [
            (Label(Verdict(verdict), span), found)
            for part in pool.map(_judged, parts)
            for verdict, span, found in part
        ]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _judged(texts: Sequence[str]) -> list[_Sent]:
    """Label a part of the answers."""
    found = [(label(text), quality(text)) for text in texts]
    return [(one.verdict.value, one.span, other) for one, other in found]
