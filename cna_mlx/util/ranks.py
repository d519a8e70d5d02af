"""Several processes that hold one model together: what each does, and what they share.

Under ``mlx.launch`` every rank runs the same command. What depends on one machine
(files, the clock, Ctrl-C, what is typed) is decided by rank 0 and shared; the others
read it here, and print and write nothing. This is the only module that knows MLX's
collective operations: every rank must call them in the same order, from one thread.
On one machine they do nothing, and MLX is not imported.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from cna_mlx import errors
from cna_mlx.errors import CnaError

_T = TypeVar("_T")

_LOST = "connection to a peer was lost"  # in MLX's message
_PACKET, _LENGTH = 1024, 4  # bytes that are shared first; of these, the length
_PIECE = 1 << 24  # bytes of a longer value in one operation
_BYTES = "base64"

_apart = 0  # how many blocks of `apart` are open
_thread = threading.main_thread().ident  # the one that shares


def group() -> Any | None:
    """MLX's group of ranks; None on one machine.

    Raises:
        CnaError: at the first call: the other ranks cannot be reached.
    """
    if not _groups:
        _groups.append(None)
        _groups[0] = _joined() if "MLX_RANK" in os.environ else None
    return _groups[0]


def _joined() -> Any | None:
    import mlx.core as mx

    hosts = os.environ.get("MLX_HOSTFILE")
    if hosts and _is_blank(hosts):  # mlx.launch with one process
        return None
    try:
        found = mx.distributed.init()
    except (RuntimeError, ValueError) as error:
        raise CnaError(f"the ranks cannot reach each other: {error}") from None
    return found if found.size() > 1 else None


def _is_blank(file: str) -> bool:
    """Whether a file has nothing in it."""
    try:
        return not Path(file).read_text("utf-8").strip()
    except (OSError, ValueError):
        return False


_groups: list[Any | None] = []  # one, once it is known


def count() -> int:
    """How many ranks hold the model."""
    return 1 if (found := group()) is None else int(found.size())


def rank() -> int:
    """The number of this rank."""
    return 0 if (found := group()) is None else int(found.rank())


def is_first() -> bool:
    """Whether this is rank 0, which reads, writes and prints."""
    return rank() == 0


def is_lost(error: BaseException) -> bool:
    """Whether an error of MLX says that another rank is gone."""
    return isinstance(error, RuntimeError) and _LOST in str(error)


def voice() -> IO[str]:
    """Where this rank says what no other one can: stderr."""
    return _voices[0] if _voices else sys.stderr


_voices: list[IO[str]] = []


def enter() -> None:
    """Silence this process, if it is not rank 0, and what MLX prints of a lost peer."""
    if group() is None:
        return
    if not os.environ.get("CNA_MLX_DEBUG"):
        _hide_ring_messages()
    if not is_first():
        _voices.append(sys.stderr)
        nothing = os.open(os.devnull, os.O_RDWR)
        sys.stdin = os.fdopen(nothing)
        sys.stdout = sys.stderr = os.fdopen(nothing, "w", closefd=False)


def _hide_ring_messages() -> None:
    # from C++, a dozen lines: a process of its own also shows what a crash prints last
    kept = os.dup(2)
    command = ["grep", "-v", "--line-buffered", r"^\[ring\]"]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=kept, start_new_session=True
        )
    except OSError:
        return
    assert child.stdin is not None
    os.dup2(child.stdin.fileno(), 2)
    child.stdin.close()
    child.returncode = 0  # it ends with this process: nobody waits for it
    sys.stderr = os.fdopen(kept, "w", 1, sys.stderr.encoding, "backslashreplace")


# What ranks share.


@contextmanager
def apart() -> Iterator[None]:
    """Do inside the block what each rank does for itself: nothing is shared."""
    global _apart
    _apart += 1
    try:
        yield
    finally:
        _apart -= 1


def is_apart() -> bool:
    """Whether nothing is shared now: on one machine, or in a rank's own work.

    Other threads than the main one never share: a server's, which read files alone.
    """
    return group() is None or _apart > 0 or threading.get_ident() != _thread


def share(value: Any = None) -> Any:
    """Rank 0's value on every rank: of JSON, with bytes; tuples become lists."""
    if is_apart():
        return value
    content = b""
    if is_first():
        content = json.dumps(value, default=_encoded, ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    found = _shared_bytes(content).decode("utf-8", "surrogatepass")
    return json.loads(found, object_hook=_decoded)


def first(work: Callable[[], _T]) -> _T:
    """What rank 0's work returns or raises, on every rank; see :func:`share`."""
    if is_apart():
        return work()
    found, failure = None, None
    if is_first():
        with apart():
            try:
                found = work()
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # all raise it
                failure = error
    value, raised = share([found, None if failure is None else _described(failure)])
    if failure is not None:
        raise failure
    if raised is not None:
        raise _error(*raised)
    found_there: _T = value
    return found if is_first() else found_there  # type: ignore[return-value]


def each(work: Callable[[], _T]) -> _T:
    """What this rank's own work returns; if any rank's fails, all raise its error."""
    if is_apart():
        return work()
    found, failure = None, None
    with apart():
        try:
            found = work()
        except CnaError as error:
            failure = error
    for number, raised in enumerate(_gathered_values(failure and _described(failure))):
        if number == rank() and failure is not None:
            raise failure
        if raised is not None:
            name, (message, *_) = raised
            raise _error(name, [f"rank {number}: {message}"])
    return found  # type: ignore[return-value]


def check_equal(value: Any, message: str) -> None:
    """Check that a value is the same on every rank; CnaError(message) if not."""
    if not is_apart() and len({json.dumps(one) for one in _gathered_values(value)}) > 1:
        raise CnaError(message)


class SharedStop:
    """Rank 0's answer whether to stop, on every rank, one call later.

    The answer travels with the arithmetic that was begun before the call, so nothing
    waits for it.
    """

    def __init__(self, own: Callable[[], bool]) -> None:
        self._own = own
        self._said: Any = None

    def __call__(self) -> bool:
        """Share rank 0's answer; return what it was at the last call."""
        if is_apart():
            return self._own()
        import mlx.core as mx

        now = chosen(mx.array([is_first() and self._own()], mx.int32))
        mx.async_eval(now)
        before, self._said = self._said, now
        return before is not None and bool(_evaluated(before)[0])

    def forget(self) -> None:
        """Forget the last answer, as new work begins."""
        self._said = None


def _gathered_values(value: Any) -> list[Any]:
    """The values of all ranks, by rank."""
    import mlx.core as mx

    own = json.dumps(value).encode()
    sizes = _evaluated(mx.distributed.all_gather(mx.array([len(own)]), group=group()))
    longest = max(sizes.tolist())
    padded = mx.array(list(own.ljust(longest)), mx.uint8)
    rows = _evaluated(mx.distributed.all_gather(padded, group=group()))
    whole = bytes(rows)
    return [
        json.loads(whole[at * longest : (at + 1) * longest]) for at in range(count())
    ]


def _shared_bytes(content: bytes) -> bytes:
    import numpy as np

    head = len(content).to_bytes(_LENGTH, "little")
    start = (head + content[: _PACKET - _LENGTH]).ljust(_PACKET, b"\0")
    packet = bytes(_summed(np.frombuffer(start, "u1")))
    length = int.from_bytes(packet[:_LENGTH], "little")
    found = packet[_LENGTH : _LENGTH + length]
    while len(found) < length:
        size = min(_PIECE, length - len(found))
        piece = content[len(found) : len(found) + size].ljust(size, b"\0")
        found += bytes(_summed(np.frombuffer(piece, "u1")))
    return found


def _summed(values: Any) -> Any:
    import mlx.core as mx

    return _evaluated(chosen(mx.array(values)))


def _evaluated(array: Any) -> Any:
    import mlx.core as mx
    import numpy as np

    mx.eval(array)  # raises for a lost rank, where numpy would take what is there
    return np.array(array)


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be shared")


def _decoded(found: dict[str, Any]) -> Any:
    return base64.b64decode(found[_BYTES]) if found.keys() == {_BYTES} else found


def _described(error: BaseException) -> tuple[str, list[Any]]:
    """The name of an error and what makes it again."""
    if isinstance(error, OSError):
        filename = None if error.filename is None else str(error.filename)
        return "OSError", [error.errno, error.strerror, filename]
    return type(error).__name__, [str(error)]


def _error(name: str, values: list[Any]) -> BaseException:
    """Rank 0's error on another rank."""
    if name == "OSError":
        return OSError(*values)
    if name in ("KeyboardInterrupt", "Abort"):  # the latter is click's
        return KeyboardInterrupt()
    known = getattr(errors, name, None)
    return (known or ValueError)(*values)


# Arrays of a model that is shared out: neurons along the last axis.


def part(values: Any, held: Any) -> Any:
    """This rank's part of the neurons, [..., n]; all without a group ``held``."""
    if held is None or values is None:
        return values
    size = values.shape[-1] // held.size()
    return values[..., held.rank() * size : (held.rank() + 1) * size]


def gathered(values: Any, held: Any) -> Any:
    """All neurons [..., n * ranks] of each rank's [..., n], in their order."""
    if held is None:
        return values
    import mlx.core as mx

    by_neuron = mx.contiguous(mx.moveaxis(values, -1, 0))
    return mx.moveaxis(mx.distributed.all_gather(by_neuron, group=held), 0, -1)


def chosen(values: Any) -> Any:
    """Rank 0's array on every rank, not evaluated."""
    if (held := group()) is None:
        return values
    import mlx.core as mx

    # on each rank from the same operations: these decide the order of all sums
    own = mx.where(mx.array(is_first()), values, mx.zeros_like(values))
    return mx.distributed.all_sum(own, group=held)
