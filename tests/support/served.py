"""Serve a model inside a test, on the loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.engine import Engine
from cna_mlx.serve.lookups import lookups
from cna_mlx.serve.server import bound, listening
from cna_mlx.serve.service import Limits, Service
from cna_mlx.serve.texts import Texts


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: without a path.
        warned: the lines that a user would see.
    """

    url: str
    port: int
    service: Service
    warned: list[str]


@contextmanager
def served(
    model: Any,
    tokenizer: Any,
    circuits: dict[str, Circuit],
    *,
    name: str = "demo",
    key: str | None = None,
    rows: int = 64,
    limits: Limits | None = None,
    hosts: frozenset[str] | None = None,
    **more: Any,
) -> Iterator[Served]:
    """A server on a free port, its engine on a thread."""
    warned: list[str] = []
    arms = ServedArms(name, circuits)
    known = lookups(model, tokenizer, arms, Rendering())
    engine = Engine(model, tokenizer, rows=rows, lookups=known, warn=warned.append)
    service = Service(
        engine,
        arms,
        Texts(tokenizer, Rendering()),
        limits or Limits(),
        key,
        hosts,
        warn=warned.append,
    )
    service = replace(service, **more)
    thread = threading.Thread(target=engine.run, daemon=True)
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with listening(service, listener):
            thread.start()
            yield Served(f"http://127.0.0.1:{port}", port, service, warned)
            engine.finish(now=True)
            thread.join(30)
            assert not thread.is_alive()
