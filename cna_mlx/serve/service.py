"""What the server's routes share: the engine, the arms, who may ask, and limits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cna_mlx.serve.answers import Events
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.engine import Engine
from cna_mlx.serve.requests import Choices, chat_choices, completion_choices
from cna_mlx.serve.schema import ChatRequest, Generation
from cna_mlx.serve.texts import Texts


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        body_bytes: of a request.
        body_seconds: until the body of a request has come.
        seconds: until an answer is whole.
        send_seconds: until a client has taken a part of a stream.
        answers: that run or wait at once.
        max_tokens: of an answer, where the request names none.
    """

    body_bytes: int = 8 << 20
    body_seconds: float = 30.0
    seconds: float = 3600.0
    send_seconds: float = 60.0
    answers: int = 1024
    max_tokens: int = 512


@dataclass
class Service:
    """What the routes need.

    Attributes:
        key: that clients must send; None for no key.
        hosts: the names by which the server may be called; None for any.
        logged: called with a request and its answers, if they are logged.
        warn: called with a line about an error of the server's own.
        open_answers: how many answers run or wait.
        served, tokens: how many answers were finished, and their tokens.
    """

    engine: Engine
    arms: ServedArms
    texts: Texts
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    hosts: frozenset[str] | None = None
    logged: Callable[[dict[str, Any]], None] | None = None
    warn: Callable[[str], None] = lambda text: None
    open_answers: int = 0
    served: int = 0
    tokens: int = 0

    def events(self) -> Events:
        """The events of one request, whose answers are counted."""
        return Events(self.engine, self._count)

    async def choices(self, body: Generation) -> Choices:
        """What a body asks of the engine.

        Raises:
            CnaError: it cannot be answered.
        """
        make: Any = (
            chat_choices if isinstance(body, ChatRequest) else completion_choices
        )
        given = body, self.arms, self.engine.model, self.texts, self.limits.max_tokens
        return await self.texts.run(partial(make, *given))

    def _count(self, change: int) -> None:
        self.open_answers += change

    def log(self, entry: dict[str, Any]) -> None:
        """Log a request and its answers, if wanted; a full disk ends no request."""
        if self.logged is not None:
            try:
                self.logged(entry)
            except OSError as error:
                self.warn(f"a request was not logged: {error}")
