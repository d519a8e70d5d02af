"""Options of an evaluation."""

from dataclasses import dataclass
from typing import Literal

from cna_mlx.errors import InputError
from cna_mlx.evaluation.arms import SEEDS
from cna_mlx.evaluation.further import EXTEND_TO
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS
from cna_mlx.strength import Strength, check_strength

#: Rows of a batch unless told otherwise. Few enough for the KV caches of a large model.
ROWS = 32


@dataclass(frozen=True)
class EvalOptions:
    """How a circuit is evaluated.

    Attributes:
        multipliers: of the circuit, or pins; 0 unless given.
        alphas: strengths of CAA.
        seeds: matched random controls; up to three uniform ones come with them.
        limit: prompts of each set, spread evenly; None for all.
        max_tokens: new tokens of each answer at most.
        extend_to: tokens in all of answers that are cut off and continue, since their
            label may change; 0 for none. Rates are those at ``max_tokens``.
        has_kl: compute the KL.
        batch: rows of a batch, each an arm of a prompt: as many prompts are answered
            together; ``auto`` measures which number is fastest.
        sweep: add multipliers from 0 to 2 and CAA from -1 to 1.
    """

    multipliers: tuple[Strength, ...] = ()
    alphas: tuple[float, ...] = ()
    seeds: int = SEEDS
    limit: int | None = None
    max_tokens: int = DEFAULT_MAX_TOKENS
    extend_to: int = EXTEND_TO
    has_kl: bool = True
    batch: int | Literal["auto"] = ROWS
    sweep: bool = False

    def __post_init__(self) -> None:
        for value in (*self.multipliers, *self.alphas):
            check_strength(value)
        if self.batch != "auto" and self.batch < 1:
            raise InputError(f"batch {self.batch}: give 1 row or more, or auto")
