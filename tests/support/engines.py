"""Ask an engine, on this thread, and gather what it delivers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.serve.engine import Engine
from cna_mlx.serve.work import (
    AnswerPart,
    Ask,
    Ended,
    Event,
    Failed,
    LookedUp,
    Read,
    Scored,
    TokenScore,
)
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.sampling import Greedy, Sampling


@dataclass
class Got:
    """What was delivered of one piece of work."""

    text: str = ""
    tokens: list[TokenScore] = field(default_factory=list)
    read: Read | None = None
    finish: str | None = None
    error: Exception | None = None
    scores: tuple[TokenScore, ...] = ()
    value: Any = None
    events: list[Event] = field(default_factory=list)
    then: Callable[[Event], None] = lambda event: None

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    def deliver(self, event: Event) -> None:
        assert not self.is_over, event
        self.events.append(event)
        if isinstance(event, AnswerPart):
            self.text += event.text
            self.tokens += [event.token] if event.token else []
        elif isinstance(event, Read):
            self.read = event
        elif isinstance(event, Ended):
            self.finish = event.finish
        elif isinstance(event, Failed):
            self.error = event.error
        elif isinstance(event, Scored):
            self.scores = event.tokens
        elif isinstance(event, LookedUp):
            self.value = event.value
        self.then(event)

    @property
    def is_over(self) -> bool:
        done = self.finish or self.error or self.scores
        return bool(done) or any(isinstance(one, LookedUp) for one in self.events)


def run(engine: Engine, *works: Any) -> None:
    """Do all work, and what is asked for meanwhile."""
    for work in works:
        engine.submit(work)
    while engine.work():
        pass


def asked(prompt: Sequence[int], arm: Arm, tokens: int = 12, **more: Any) -> Any:
    """A piece of work, and what will be delivered of it."""
    got = Got()
    return Ask(got.deliver, prompt, arm, tokens, **more), got


def alone(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    arm: Arm,
    tokens: int = 12,
    sampling: Sampling | None = None,
) -> Answer:
    """The answer to a prompt that is asked by itself."""
    events = generate_arms(
        model,
        tokenizer,
        [prompt],
        [arm],
        max_tokens=tokens,
        sampling=sampling or Greedy(),
    )
    (answer,) = (event for event in events if isinstance(event, Answer))
    return answer
