"""Connections between rank 0 and the others that tell when one of them ends.

MLX's operations wait forever for a rank that died. Rank 0 listens at the address that
MLX has of it. Each rank says its exit code before it ends; a connection that closes
without one is of a rank that died.
"""

import json
import os
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import sleep
from typing import NoReturn

from cna_mlx.errors import CnaError
from cna_mlx.util import ranks

_LOST = (
    "rank {} is gone: its process was killed, or its machine or the cable failed; what "
    "was finished is kept, and the same command goes on from there"
)
_GRACE = 2.0  # seconds in which a rank that fails as another one says so itself
_LATE = 10.0  # seconds after rank 0 in which another one is done as well
_NOTICED = 0.3  # seconds in which the end of another rank is noticed
_SILENT = 5  # seconds until a silent machine is asked, three times
_CONNECT = 60  # seconds
_TOKEN = 16  # bytes that only the ranks know
_FAILED = 1

_Peers = dict[int, socket.socket]


class RankLink:
    """This rank's connections: rank 0 has one to each other rank, these one to it."""

    def __init__(self, peers: _Peers) -> None:
        self._peers = peers
        self._restore = _terminal()
        self._ends = Lock()
        self._is_ending = Event()
        self._watchers: list[Thread] = []
        for rank, peer in peers.items():
            _keep_alive(peer)
            watcher = Thread(target=self._watch, args=(rank, peer), daemon=True)
            self._watchers.append(watcher)
            watcher.start()

    @classmethod
    def connected(cls) -> "RankLink | None":
        """Connect the ranks; None where MLX has no address of rank 0.

        Raises:
            CnaError: they cannot connect.
        """
        if ranks.group() is None:
            return None
        listening: list[socket.socket] = []
        where = ranks.first(lambda: _listen(listening))
        if where is None:
            return None
        host, port, token = where

        def connect() -> _Peers:
            return (
                _accepted(listening[0], token)
                if listening
                else {0: _to(host, port, token)}
            )

        try:
            return cls(ranks.each(connect))
        finally:
            for one in listening:
                one.close()

    def leave(self, code: int) -> NoReturn:
        """Say this rank's exit code and end the process; rank 0 ends first.

        MLX's teardown may abort, where streams of other threads summed.
        """
        self._say(code)
        if not ranks.is_first():
            self._watchers[0].join(_GRACE)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    def _say(self, code: int) -> None:
        for peer in self._peers.values():
            with suppress(OSError):
                peer.sendall(bytes([code]))

    def end_if_alone(self) -> None:
        """End with the rank that is gone, if one is: what follows is its failure."""
        if self._is_ending.wait(_NOTICED):
            sleep(2 * _GRACE)  # a watcher ends this process

    def _watch(self, rank: int, peer: socket.socket) -> None:
        with suppress(OSError):
            if said := peer.recv(1):
                if code := said[0]:
                    self._is_ending.set()
                    sleep(_GRACE)
                elif rank == 0:  # its reader had enough, e.g. head
                    sleep(_LATE)
                else:
                    return
                self._end(code)
        self._is_ending.set()
        self._end(_FAILED, _LOST.format(rank))

    def _end(self, code: int, line: str = "") -> None:
        """End this process, which may be waiting inside MLX."""
        self._ends.acquire()  # once
        self._restore()
        if line and ranks.rank() < 2:  # once
            with suppress(OSError, ValueError):
                print(f"cna-mlx: {line}", file=ranks.voice(), flush=True)
        self._say(code)
        os._exit(code)


def _listen(listening: list[socket.socket]) -> tuple[str, int, bytes] | None:
    """Listen where the other ranks can connect; the host, the port, the token."""
    if (host := _host()) is None:
        return None
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        listening.append(socket.create_server((host, 0), family=family))
    except OSError as error:
        raise CnaError(f"the ranks cannot connect to {host}: {error}") from None
    return host, listening[0].getsockname()[1], secrets.token_bytes(_TOKEN)


def _host() -> str | None:
    """Rank 0's address, as MLX has it."""
    if coordinator := os.environ.get("MLX_JACCL_COORDINATOR"):
        return coordinator.rpartition(":")[0]
    with suppress(KeyError, OSError, ValueError, LookupError, TypeError):
        hosts = json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text("utf-8"))
        address: str = hosts[0][0]
        return address.rpartition(":")[0].strip("[]")
    return None


def _accepted(listener: socket.socket, token: bytes) -> _Peers:
    found: _Peers = {}
    listener.settimeout(_CONNECT)
    try:
        while len(found) < ranks.count() - 1:
            peer, _ = listener.accept()
            peer.settimeout(_CONNECT)
            said = peer.recv(_TOKEN + 1, socket.MSG_WAITALL)
            if said[:-1] == token:
                found[said[-1]] = peer
    except OSError as error:
        raise CnaError(f"a rank does not connect to rank 0: {error}") from None
    return found


def _to(host: str, port: int, token: bytes) -> socket.socket:
    try:
        peer = socket.create_connection((host, port), _CONNECT)
        peer.sendall(token + bytes([ranks.rank()]))
    except OSError as error:
        raise CnaError(f"cannot connect to rank 0 at {host}: {error}") from None
    return peer


def _keep_alive(peer: socket.socket) -> None:
    """Ask a silent machine whether it is there, so that a lost one is noticed."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # the first is Linux's name, the second macOS's
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):
        if option := getattr(socket, name, None):
            peer.setsockopt(socket.IPPROTO_TCP, option, _SILENT)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _terminal() -> Callable[[], None]:
    """A function that leaves the terminal as it is now."""
    if not (ranks.is_first() and sys.stdin.isatty()):
        return lambda: None
    import termios

    before = termios.tcgetattr(sys.stdin)

    def restore() -> None:
        with suppress(OSError, termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # Rich hides the cursor

    return restore
