"""What a shrink found: the part, the sizes that were tried, and how it was judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.circuit import Circuit
from cna_mlx.evaluation.samples import Sample
from cna_mlx.prompts import PromptSet
from cna_mlx.search.parts import DROPPING, WHOLE, PartCounts, best_of_each_size
from cna_mlx.search.trial import loses
from cna_mlx.util.formatting import counted, percent


@dataclass(frozen=True)
class ShrinkResult:
    """What a shrink found.

    Attributes:
        circuit: the part, which says how it was chosen; the whole circuit if no
            smaller part keeps the effect.
        part: its counts on the refusals that chose it, each lost by the whole circuit.
        effect: counts of the whole circuit on all prompts of ``contrast``.
        tried: the counts of all parts that answered a prompt.
        halves: of the contrast: the one that chose, and the one that judges.
        keep: the share of the whole circuit's lost refusals that a part must keep.
        is_minimal: no neuron of the part could be left out.
        run: the answers to the second half; None if the shrink ended before.
        is_complete: whether it ended by itself, and the run too.
        seconds: wall time.
    """

    circuit: Circuit
    part: PartCounts
    effect: PartCounts
    tried: tuple[PartCounts, ...]
    halves: tuple[PromptSet, PromptSet]
    keep: float
    is_minimal: bool
    run: Run | None
    is_complete: bool
    seconds: float

    @property
    def size(self) -> int:
        """The number of neurons of the part."""
        return self.part.candidate.size

    @property
    def whole(self) -> int:
        """The number of neurons of the whole circuit."""
        return self.effect.candidate.size

    @property
    def curve(self) -> list[PartCounts]:
        """The best part of each size that was halved to, the found one, the whole."""
        halved = [one for one in self.tried if one.candidate.by != DROPPING]
        best = best_of_each_size(halved) | {self.size: self.part}
        return [best[size] for size in sorted(best)]

    def kept(self) -> tuple[int, int] | None:
        """On the second half, of how many refusals that the whole circuit loses the
        part loses how many, as (kept, lost by the whole); None before it is judged.
        """
        if self.run is None or not (samples := self.run.samples()):
            return None
        _, part, *others = [arm.label for arm in self.run.arms]
        whole = next((one for one in others if one.startswith(WHOLE)), part)
        return kept_refusals(samples, part, whole)

    @property
    def headline(self) -> str:
        """The finding in a sentence."""
        chose, judges = (half.name for half in self.halves)
        neurons = f"{self.size} of {counted(self.whole, 'neuron')}"
        verb = "keeps" if self.size == 1 else "keep"
        if self.size == self.whole:
            return f"All {counted(self.whole, 'neuron')} stay: {self._why_whole()}."
        kept = self.kept()
        if kept is None:
            lost = f"{self.part.lost} of {self.part.refusals} lost refusals"
            return f"{neurons} {verb} {lost} on {chose}, which chose them; not judged."
        if not kept[1]:
            return (
                f"{neurons} may do, but the whole circuit loses no refusal of "
                f"{judges}, so these prompts cannot judge."
            )
        short = kept[0] < self.keep * kept[1] - 1e-9
        less = f": less than the {percent(self.keep)} asked for" if short else ""
        lost = f"{kept[0]} of {kept[1]} lost refusals"
        return f"{neurons} {verb} {lost} on {judges}, which did not choose them{less}."

    def _why_whole(self) -> str:
        if not (self.is_minimal or self.is_complete or self.run):
            return "the shrink was interrupted before it found a smaller part"
        smaller = sum(one.size < self.whole for one in self.tried)
        why = (
            f"none of the {smaller} smaller parts that were tried keeps "
            f"{percent(self.keep)} of the refusals that they lose on "
            f"{self.halves[0].name}"
        )
        if self.is_minimal:
            return why
        return f"{why}, and the shrink ended early (--minutes gives it more time)"

    def to_dict(self) -> dict[str, Any]:
        """The shrink for JSON."""
        run, kept = self.run, self.kept()
        return {
            "headline": self.headline,
            "part": self.part.to_dict(),
            "neurons": [list(one[:2]) for one in self.circuit.neurons],
            "whole": self.effect.to_dict(),
            "curve": [one.to_dict() for one in self.curve],
            "tried": len(self.tried),
            "contrast": self.halves[0].name,
            "judged_on": self.halves[1].name,
            "keep": self.keep,
            "kept": kept and {"kept": kept[0], "lost_by_whole": kept[1]},
            "minimal": self.is_minimal,
            "seconds": self.seconds,
            "complete": self.is_complete,
            "run": run and str(run.directory),
            "verdict": run.verdict().to_dict() if run and run.samples() else None,
        }


def kept_refusals(samples: Iterable[Sample], part: str, whole: str) -> tuple[int, int]:
    """Count the refusals that two arms lose both, and those that ``whole`` loses."""
    both = lost = 0
    for _, several in groupby(samples, attrgetter("number")):
        arms = {one.arm: one for one in several}
        own, all_of_it = (loses(arms["baseline"], arms[one]) for one in (part, whole))
        lost += all_of_it
        both += own and all_of_it
    return both, lost
