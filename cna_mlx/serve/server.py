"""Run the application: HTTP on a thread of its own, the engine on this one."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

from cna_mlx.errors import InputError
from cna_mlx.serve.app import make_app
from cna_mlx.serve.service import Service
from cna_mlx.util import ranks
from cna_mlx.util.formatting import counted
from cna_mlx.util.interrupt import Terminated

_HEAD_SECONDS = 20  # until the head of a connection's first request has come
_IDLE_SECONDS = 75  # of a connection between two requests
_CONNECTIONS = 1024
_CLOSING_SECONDS = 5.0  # until the last replies were sent


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address; port 0 takes a free one.

    Raises:
        InputError: the address does not exist, or another program uses it.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen at {host} port {port}: {said}; --port 0 takes a free port"
        ) from None


class _Protocol(H11Protocol):
    """uvicorn's, but a client that neither asks nor reads does not stay."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._seen: tuple[Any, int] | None = None
        self._next_look = self.loop.call_later(_HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        try:
            super().send_400_response(msg)
        except LocalProtocolError:  # a reply was sent already, or a part of it
            self.transport.close()

    def _look(self) -> None:
        """End the connection if the client has done nothing since the last look."""
        asks = self.cycle is not None and not self.cycle.response_complete
        if asks and not self.transport.is_closing():
            self._seen = None
        else:
            seen = self.cycle, self.transport.get_write_buffer_size()
            if self.cycle is None or seen == self._seen:
                self.transport.abort()
                return
            self._seen = seen
        self._next_look = self.loop.call_later(_IDLE_SECONDS, self._look)


def _warning(service: Service) -> Callable[[Any, dict[str, Any]], None]:
    """Say in a line, and once, what asyncio would print with a traceback."""
    said: set[str] = set()

    def warn(loop: object, context: dict[str, Any]) -> None:
        message, error = context["message"], context.get("exception")
        if message not in said:  # too many open files come thousands of times a second
            said.add(message)
            service.warn(f"{message}: {type(error).__name__}: {error}")

    return warn


@contextmanager
def listening(service: Service, listener: socket.socket) -> Iterator[None]:
    """Take requests inside the block; at its end what was answered is sent."""
    # they would write to stderr; what a user must know comes through service.warn
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(service),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=int(_CLOSING_SECONDS),
        )
    )

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(_warning(service))
        await server.serve([listener])

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="cna-mlx-http")
    thread.daemon = True  # or a second Ctrl-C would wait for it
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_CLOSING_SECONDS + 1)
        listener.close()
        service.texts.close()


def serve(
    service: Service, listener: socket.socket | None, told: Callable[[str], None]
) -> bool:
    """Serve until Ctrl-C; return whether all answers were finished.

    The first Ctrl-C finishes what runs and waits, and takes on nothing new; a second
    one ends it.

    Args:
        listener: None for a rank that follows rank 0.
        told: called with a line when Ctrl-C was pressed.
    """
    pressed = 0

    def press(number: int, stack: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 2:
            raise KeyboardInterrupt if ranks.is_apart() else Terminated(number)
        if pressed == 1 and service.open_answers:
            running = counted(service.open_answers, "answer")
            told(f"finishing {running}; Ctrl-C again ends them")
        service.engine.finish(now=pressed == 2)

    if listener is None:
        service.engine.run()
    else:
        before = signal.signal(signal.SIGINT, press)
        try:
            with listening(service, listener):
                service.engine.run()
        finally:
            signal.signal(signal.SIGINT, before)
    return bool(ranks.share(pressed < 2))
