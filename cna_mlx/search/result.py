"""What a search is asked for, and what it found."""

import math
from dataclasses import dataclass, replace
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.prompts import PromptSet
from cna_mlx.search.trial import Standing, front, long_tried
from cna_mlx.util.files import File

#: Of KL on benign prompts, in nats, that a circuit may cost.
MOST_KL = 0.4
#: How long a search takes at most, about, in minutes.
MINUTES = 15.0


@dataclass(frozen=True)
class SearchOptions:
    """What a search tries.

    Attributes:
        minutes: how long it takes at most, about; the last prompt may take longer.
        most: the largest circuit, as a share of all neurons; ten times the paper's
            if None.
        most_kl: the KL on benign prompts that a circuit may cost, in nats.
        without: circuits, or their files, whose neurons are left out, to find a second
            circuit.

    Raises:
        InputError: a value is out of range.
    """

    minutes: float = MINUTES
    most: float | None = None
    most_kl: float = MOST_KL
    without: tuple[File | Circuit, ...] = ()

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise InputError(f"--minutes {self.minutes:g}: give more than 0")
        if not 0 < self.most_kl < math.inf:
            raise InputError(
                f"--max-kl {self.most_kl:g}: give a finite number above 0, in nats"
            )
        if self.most is not None and not 0 < self.most <= 1:
            raise InputError(f"--most {self.most:g}: give a share above 0 and up to 1")

    @property
    def is_usual(self) -> bool:
        """Whether it searches what ``--search`` of other commands does, or longer."""
        is_long = self.minutes >= MINUTES
        return is_long and replace(self, minutes=MINUTES) == SearchOptions()


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        circuit: the chosen one, which says how it was chosen; None if no circuit lost
            a refusal within the damage that is allowed.
        chosen: its standing on the half of the prompts where it was chosen; the best
            one that was tried if ``circuit`` is None.
        standings: of every candidate, the paper's first.
        run: the answers on the other half; None if the search ended before it.
        is_whole: whether it ended by itself.
        contrast: the half where circuits were chosen.
    """

    circuit: Circuit | None
    chosen: Standing
    standings: tuple[Standing, ...]
    run: Run | None
    is_whole: bool
    contrast: PromptSet
    openings: tuple[str, ...]
    most_kl: float
    seconds: float

    @property
    def front(self) -> list[Standing]:
        """The Pareto front of refusals lost and KL, where circuits were chosen."""
        return front(long_tried(self.standings))

    def to_dict(self) -> dict[str, Any]:
        """The search for JSON."""
        run = self.run
        return {
            "chosen": self.chosen.to_dict() if self.circuit else None,
            "front": [one.to_dict() for one in self.front],
            "tried": [one.to_dict() for one in self.standings],
            "contrast": self.contrast.name,
            "openings": list(self.openings),
            "max_kl": self.most_kl,
            "seconds": self.seconds,
            "complete": self.is_whole,
            "run": run and str(run.directory),
            "verdict": run.verdict().to_dict() if run and run.samples() else None,
        }
