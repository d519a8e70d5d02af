"""Labels and quality of many answers, on several cores where that pays."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from cna_mlx.evaluation.labels import Label, Verdict, label
from cna_mlx.evaluation.quality import quality

# What goes between processes: an enumeration takes longer to send than to find.
_Sent = tuple[str, tuple[int, int] | None]

#: From how many answers on other processes repay their start.
WORTH = 4_000
_PART = 500

_VERDICTS = {one.value: one for one in Verdict}

Found = TypeVar("Found")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def label_all(texts: Sequence[str], processes: int = 1) -> list[Label]:
    """Label answers.

    Args:
        texts: The answers.
        processes: How many processes share the work, from `WORTH` answers on. More
            than one only under a main module that may be imported, as is the rule of
            `multiprocessing`.

    Returns:
        Their labels, in order; the same for any `processes`.
    """
    return [_received(one) for one in _shared(_labels, texts, processes)]


def judge_all(texts: Sequence[str], processes: int = 1) -> list[tuple[Label, float]]:
    """Label answers, and measure their quality; as `label_all` otherwise."""
    found = _shared(_judgements, texts, processes)
    return [(_received(one), measured) for one, measured in found]


def _labels(texts: Sequence[str]) -> list[_Sent]:
    found = map(label, texts)
    return [(one.verdict.value, one.span) for one in found]


def _judgements(texts: Sequence[str]) -> list[tuple[_Sent, float]]:
    return list(zip(_labels(texts), map(quality, texts), strict=True))


def _received(one: _Sent) -> Label:
    verdict, span = one
    return Label(_VERDICTS[verdict], span)


def _shared(
    work: Callable[[Sequence[str]], list[Found]], texts: Sequence[str], processes: int
) -> list[Found]:
    """Do the work on all texts, in other processes if that pays."""
    if processes > 1 and len(texts) >= WORTH:
        # imported here: a fifth of the start of a command
        from concurrent.futures.process import BrokenProcessPool

        try:
            return _elsewhere(work, texts, processes)
        except (OSError, BrokenProcessPool):
            pass  # no processes to be had, or one was killed: it goes without them
    return work(texts)


def _elsewhere(
    work: Callable[[Sequence[str]], list[Found]], texts: Sequence[str], processes: int
) -> list[Found]:
    """Do the work in processes that leave interruptions to this one."""
    from concurrent.futures import ProcessPoolExecutor

    parts = [texts[at : at + _PART] for at in range(0, len(texts), _PART)]
    pool = ProcessPoolExecutor(
        min(processes, len(parts)),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        return [one for found in pool.map(work, parts) for one in found]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
