"""What an audit comes to, in plain words and chosen by the figures alone."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: With fewer refusals than this not even losing all of them could be told from chance:
#: the exact McNemar test gives 2 / 2^5 = 0.06 for five, and 2 / 2^6 = 0.03 for six.
FEWEST = 6
_LEVEL = 0.05


class Outcome(StrEnum):
    """What can be said of a circuit's effect on refusals."""

    FELL = "fell beyond the matched control"
    NO_MORE = "fell no more than the matched control"
    HELD = "did not fall"
    BROKE = "the model broke rather than answered"
    TOO_FEW = "too few refusals to tell"
    UNCONTROLLED = "fell, with no control to compare with"
    NOTHING = "nothing to judge by"


@dataclass(frozen=True)
class Conclusion:
    """An audit's verdict.

    Attributes:
        outcome: which.
        headline: one sentence.
        sentences: what it rests on, how sure it is, and for what it holds.
    """

    outcome: Outcome
    headline: str
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return {
            "outcome": self.outcome.name.lower(),
            "headline": self.headline,
            "sentences": list(self.sentences),
        }
