"""The events of a generation: gauges, tokens and finished answers."""

from dataclasses import dataclass
from typing import Literal

Finish = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class Token:
    """A token that an arm has just produced, with the text that it completes."""

    prompt: int
    arm: int
    id: int
    text: str


@dataclass(frozen=True)
class Gauged:
    """The gauge of a prompt, known before the first token of its answers.

    Attributes:
        prompt: the prompt's position in the call.
        arms: one reading per arm, under that arm's steering: 0 is the mean of the
            negative prompts, 1 of the positive ones
            (:class:`cna_mlx.steering.gauge_scale.Scale`).
    """

    prompt: int
    arms: tuple[float, ...]

    @property
    def value(self) -> float:
        """The reading of the first, unsteered arm."""
        return self.arms[0]


@dataclass(frozen=True)
class Answer:
    """An arm's whole answer to a prompt.

    Attributes:
        prompt, arm: their positions in the call.
        text, token_ids: without the end-of-text token.
        finish: ``stop`` (the model ended it), ``length`` (max_tokens or the context
            was reached) or ``interrupted``.
        end: the end-of-text token, or None.
        opens_thought: the prompt ends with an opening think tag.
    """

    prompt: int
    arm: int
    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    end: int | None = None
    opens_thought: bool = False
