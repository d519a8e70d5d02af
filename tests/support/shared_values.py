"""A program of two ranks: what they share; see tests/util/test_ranks.py."""

import sys
import threading
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from cna_mlx.errors import CnaError, InputError, ModelError
from cna_mlx.util import ranks

VALUE = {
    "text": ["é\ud800", None, 1.5, True],
    "bytes": [b"\x00\xff", {"in": b""}],
    "long": "x" * 5000,
    "longer": bytes(range(256)) * 100_000,
}


def raised(work: Callable[[], Any]) -> BaseException:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  # whatever it is
        return error
    raise AssertionError("nothing was raised")


def fail(error: BaseException, *of_ranks: int) -> Callable[[], None]:
    def work() -> None:
        if ranks.rank() in of_ranks:
            raise error

    return work


def values() -> None:
    assert ranks.share(VALUE if ranks.is_first() else None) == VALUE
    assert ranks.share((1, 2) if ranks.is_first() else 3) in ([1, 2], (1, 2))
    assert ranks.first(ranks.rank) == 0
    assert ranks.each(ranks.rank) == ranks.rank()
    with ranks.apart():
        assert ranks.share(ranks.rank()) == ranks.rank()
        assert ranks.first(ranks.rank) == ranks.rank()


def errors() -> None:
    missing = raised(lambda: ranks.first(fail(FileNotFoundError(2, "gone", "/x"), 0)))
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == "/x"
    error = raised(lambda: ranks.first(fail(InputError("mend it"), 0)))
    assert (type(error), str(error)) == (InputError, "mend it")
    assert isinstance(
        raised(lambda: ranks.first(fail(KeyboardInterrupt(), 0))), KeyboardInterrupt
    )
    # what another rank lacks is said with its number, by both
    error = raised(lambda: ranks.each(fail(ModelError("no model"), 1)))
    assert isinstance(error, ModelError)
    assert str(error) == ("no model" if ranks.rank() else "rank 1: no model")
    ranks.check_equal([1, "a"], "differ")
    error = raised(lambda: ranks.check_equal(ranks.rank(), "differ"))
    assert (type(error), str(error)) == (CnaError, "differ")


def arrays() -> None:
    held = ranks.group()
    whole = mx.arange(2 * 3 * 8).reshape(2, 3, 8)
    part = ranks.part(whole, held)
    assert part.shape == (2, 3, 4)
    assert mx.array_equal(ranks.gathered(part, held), whole)
    # rank 0's, whatever was computed before: in the same order on both
    for _ in range(20):
        sums = ranks.chosen(mx.ones(4)) + ranks.gathered(mx.ones(2), held)
        token = ranks.chosen(mx.argmax(sums) + ranks.rank())
        mx.async_eval(token, sums)
        assert token.item() == 0


def stops() -> None:
    stop = ranks.SharedStop(ranks.is_first)
    assert [stop(), stop(), stop()] == [False, True, True]
    stop.forget()
    assert not stop()
    assert not any(ranks.SharedStop(lambda: ranks.rank() == 1)() for _ in range(3))


def threads() -> None:
    """Only the main thread shares."""
    said: list[Any] = []
    thread = threading.Thread(target=lambda: said.append(ranks.share(ranks.rank())))
    thread.start()
    thread.join()
    assert said == [ranks.rank()]


if __name__ == "__main__":
    ranks.enter()
    for part in (values, errors, arrays, stops, threads):
        part()
    sys.stdout.write("all")  # only rank 0 is heard
    sys.stdout.flush()
    import os

    os._exit(0)
