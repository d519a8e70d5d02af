"""Labels and quality of many answers, on several cores where that pays."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

from cna_mlx.labels.label import Label, LabelKind, label
from cna_mlx.labels.repetition import quality

# What goes between processes: an enumeration takes longer to send than to find.
_Sent = tuple[str, tuple[int, int] | None]

#: From how many answers on other processes repay their start.
WORTH = 4_000
_PART = 500  # answers that go to a process together
_MOST_PROCESSES = 16  # a container may show more cores than it may use

_VERDICTS = {one.value: one for one in LabelKind}

Result = TypeVar("Result")


def cores() -> int:
    """Return how many cores this process may use, of very many a few."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    return min(os.cpu_count() or 1, _MOST_PROCESSES)


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
    return [(one.kind.value, one.span) for one in found]


def _judgements(texts: Sequence[str]) -> list[tuple[_Sent, float]]:
    return list(zip(_labels(texts), map(quality, texts), strict=True))


def _received(one: _Sent) -> Label:
    verdict, span = one
    return Label(_VERDICTS[verdict], span)


def _shared(
    work: Callable[[Sequence[str]], list[Result]], texts: Sequence[str], processes: int
) -> list[Result]:
    """Do the work on all texts, in other processes if that pays."""
    if processes > 1 and len(texts) >= WORTH:
        try:
            return _elsewhere(work, texts, processes)
        except (OSError, RuntimeError):
            pass  # none are to be had, or one was killed: it goes without them
    return work(texts)


def _elsewhere(
    work: Callable[[Sequence[str]], list[Result]], texts: Sequence[str], processes: int
) -> list[Result]:
    """Do the work in other processes, of which none is left in any case.

    Raises:
        OSError, RuntimeError: they cannot be started, or one of them was killed.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    # imported here: together a fifth of the start of a command
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import active_children

    parts = [texts[at : at + _PART] for at in range(0, len(texts), _PART)]
    others = set(active_children())
    pool = ProcessPoolExecutor(min(processes, len(parts)), initializer=_begin)
    try:
        with _later_interrupted():  # all start here, and half a pool waits for ever
            futures = [pool.submit(work, part) for part in parts]
        return [one for future in futures for one in future.result()]
    except BaseException:
        for child in set(active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _later_interrupted() -> Iterator[None]:
    """Put off Ctrl-C, in this process and in those that it starts meanwhile."""
    if current_thread() is not main_thread():  # it is none of its business
        yield
        return
    pressed: list[Any] = []
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    # Blocked as well: that is passed on to processes that start anew.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if pressed:
            raise KeyboardInterrupt


def _begin() -> None:
    """Leave Ctrl-C to the process that began this one, and end when that has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Thread(target=_end_with_parent, daemon=True).start()
    except RuntimeError:  # threads have run out: then the work is done elsewhere
        os._exit(1)


def _end_with_parent() -> None:
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
