"""Limit the time and the memory of chat templates, which strangers wrote."""

import ctypes
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Seconds, and bytes, that rendering one conversation may take.
MOST_SECONDS = 10.0
MOST_BYTES = 1 << 30
_LOOK_EVERY = 0.05  # seconds
# The length of a text or list, and the bits of a number, that * and ** may make.
_LARGEST_PRODUCT = 10_000_000


class TemplateLimitError(Exception):
    """A chat template takes too long, or too much memory."""


@contextmanager
def template_limits() -> Iterator[None]:
    """Raise TemplateLimitError in this thread if the block takes too much."""
    thread, done = threading.get_ident(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(thread, done), daemon=True)
    watcher.start()
    try:
        with _small_products():
            yield
    finally:
        done.set()
        watcher.join()
        _interrupt(thread, None)  # or it would be raised later


def _watch(thread: int, done: threading.Event) -> None:
    before = _peak()
    for _ in range(int(MOST_SECONDS / _LOOK_EVERY)):
        if done.wait(_LOOK_EVERY):
            return
        if _peak() - before > MOST_BYTES:
            break
    _interrupt(thread, TemplateLimitError)


def _interrupt(thread: int, error: type[Exception] | None) -> None:
    """Raise an exception in another thread at its next step; None: take it back."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _peak() -> int:
    """The process's largest memory so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _small_products() -> Iterator[None]:
    """Check what ``*`` and ``**`` would make, which jinja2 makes while it compiles."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment as Sandbox

    names = ("intercepted_binops", "call_binop")
    before = {name: getattr(Sandbox, name) for name in names}
    inner: Callable[..., Any] = Sandbox.call_binop

    def call(self: Any, context: Any, operator: str, left: Any, right: Any) -> Any:
        if _product(operator, left, right) > _LARGEST_PRODUCT:
            raise TemplateLimitError
        return inner(self, context, operator, left, right)

    try:
        Sandbox.intercepted_binops = frozenset({"*", "**"})
        Sandbox.call_binop = call  # type: ignore[method-assign]
        yield
    finally:
        for name, value in before.items():
            setattr(Sandbox, name, value)


def _product(operator: str, left: Any, right: Any) -> float:
    """The length, or the number of bits, of what an operator makes."""
    for one, count in ((left, right), (right, left)):
        if isinstance(count, int) and hasattr(one, "__len__"):
            return len(one) * count
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * max(0, right)
    return 0
