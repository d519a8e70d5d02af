"""What the engine is asked for, and what it gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from cna_mlx.circuit import Circuit
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.sampling import Greedy, Sampling

_numbers = count()
#: A token and its log-probability in nats.
Likely = tuple[int, float]


@dataclass(frozen=True)
class TokenScore:
    """A token with its log-probability (nats) and the most likely ones in its place."""

    id: int
    logprob: float
    top: tuple[Likely, ...] = ()


@dataclass(frozen=True)
class AnswerPart:
    """What a step adds to an answer.

    Attributes:
        text: what can be shown; stop strings and incomplete characters are held back.
        token: the new token; None if only text that was held back is added.
    """

    text: str
    token: TokenScore | None


@dataclass(frozen=True)
class Read:
    """The prompt was read.

    Attributes:
        cached: how many of its tokens were in a cache.
        gauge: its reading in the answer's arm; None if not asked for.
    """

    cached: int
    gauge: float | None


@dataclass(frozen=True)
class Ended:
    """An answer is over."""

    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class Failed:
    """The work cannot be finished."""

    error: Exception


@dataclass(frozen=True)
class Scored:
    """The log-probabilities of a prompt's tokens.

    Attributes:
        tokens: of the prompt and, if asked for, the one that follows. The first token's
            log-probability is NaN: nothing comes before it.
    """

    tokens: tuple[TokenScore, ...]


@dataclass(frozen=True)
class LookedUp:
    """What a :class:`Lookup` found."""

    value: Any


Event = AnswerPart | Read | Ended | Failed | Scored | LookedUp


@dataclass(frozen=True, eq=False)
class Work:
    """A piece of work.

    Attributes:
        deliver: called with each event, on the engine's thread.
        number: the order in which work was made.
    """

    deliver: Callable[[Event], None]
    number: int = field(default_factory=lambda: next(_numbers), kw_only=True)


@dataclass(frozen=True, eq=False)
class Ask(Work):
    """One answer to a prompt.

    Attributes:
        prompt: token ids, at least one.
        arm: the way of steering.
        max_tokens: the largest number of new tokens.
        sampling: how the next token is chosen.
        top: how many of the most likely tokens to give with each; None for no
            log-probabilities at all.
        gauge: the circuit to read the prompt along.
        stops: strings that end the answer.
        continues: the answer goes on in the prompt's text: a space at its beginning is
            kept, which mlx-lm drops.
    """

    prompt: Sequence[int]
    arm: Arm
    max_tokens: int
    sampling: Sampling = field(default_factory=Greedy)
    top: int | None = None
    gauge: Circuit | None = None
    stops: Sequence[str] = ()
    continues: bool = False


@dataclass(frozen=True, eq=False)
class ScorePrompt(Work):
    """The log-probabilities of a prompt's tokens.

    Attributes:
        prompt, arm, top, sampling: as of an :class:`Ask`.
        follows: choose the token after the prompt, too.
    """

    prompt: Sequence[int]
    arm: Arm
    top: int = 0
    follows: bool = False
    sampling: Sampling = field(default_factory=Greedy)


@dataclass(frozen=True, eq=False)
class Lookup(Work):
    """Any other use of the model, between two steps.

    Attributes:
        name: of one of the engine's lookups.
        given: what it is called with, of JSON.
    """

    name: str
    given: dict[str, Any]


#: A command to an engine: take work, drop work by its number, finish (now or not).
Command = tuple[Literal["take", "drop", "finish"], Work | int | bool]
