"""Choose the smallest part of a circuit that keeps its effect, on the prompts of a
trial: halve by several orders, then leave out what can be left out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.search.parts import (
    DROPPING,
    WHOLE,
    Part,
    PartCounts,
    best_of_each_size,
    groups,
    halvings,
    orders,
    unions,
)
from cna_mlx.search.trial import Trial

# Prompts that choose the best order of each size.
_FIRST = 5
# Groups of neurons that are left out in turn, and parts that answer all prompts.
_GROUPS, _FINALISTS = 16, 6
# Shares of the time by which the dropping ends, and the finalists have answered.
_DROPPED, _CONFIRMED = 0.5, 0.65

ShownParts = Callable[[Sequence[PartCounts]], None]


@dataclass
class Shrinking:
    """The choice of a part.

    Attributes:
        trial: asks refusals that the whole circuit turns into answers.
        count: how many of these each part answers; the finalists answer all.
        keep: the share that a part must lose.
        is_over: whether this share of the time is over.
        tried: by the places of their neurons in the whole circuit.
        path: parts that keep the effect, the largest first.
        is_minimal: no neuron of the last one could be left out.
    """

    whole: ChosenCircuit
    trial: Trial
    count: int
    keep: float
    is_over: Callable[[float], bool]
    shown: ShownParts
    stop: Callable[[], bool]
    tried: dict[tuple[int, ...], PartCounts] = field(default_factory=dict)
    path: list[PartCounts] = field(default_factory=list)
    is_minimal: bool = False

    @property
    def halved(self) -> list[PartCounts]:
        """The whole circuit and its first neurons."""
        tried = self.tried.values()
        return [one for one in tried if one.candidate.by != DROPPING]

    def run(self) -> bool:
        """Choose the last part of the path; False if stopped on the way."""
        try:
            self._halve()
            self._drop()
            self._confirm()
        except KeyboardInterrupt:
            return False
        return True

    def _halve(self) -> None:
        """Try the first neurons of every order; go on with the best of each size."""
        places = range(len(self.whole.circuit.neurons))
        whole = self._part(places, WHOLE)
        self.path.append(whole)
        parts = [
            self._part(order[:size], by)
            for size in halvings(len(places))
            for by, order in orders(self.whole.circuit).items()
        ]
        parts = [whole, *dict.fromkeys(parts)]
        self._race(parts, min(_FIRST, self.count))
        best = best_of_each_size(parts)
        self._race(list(best.values()), self.count)
        kept = [one for one in best.values() if one is not whole and self._keeps(one)]
        self.path += reversed(kept)

    def _drop(self) -> None:
        """Leave out groups of neurons, then smaller ones, until none can go."""
        size = -(-self.path[-1].candidate.size // _GROUPS)
        while not self.is_over(_DROPPED):
            places = self.path[-1].candidate.places
            size = min(size, len(places) // 2)
            found = self._without(groups(places, size)) if size else []
            self.path += found
            if not found and size <= 1:
                self.is_minimal = not self.is_over(_DROPPED)
                return
            size = size if found else size // 2

    def _without(self, several: Sequence[tuple[int, ...]]) -> list[PartCounts]:
        """The last part without one of these groups, or without several at once.

        At most one: the smallest that keeps the effect.
        """
        tried = {self._less(group): group for group in several}
        self._race(list(tried), self.count, _DROPPED)
        kept = sorted(filter(self._keeps, tried), key=lambda one: (-one.lost, one.kl))
        total = self.path[-1].candidate.size
        more = [
            self._less(gone)
            for gone in unions([tried[one] for one in kept])
            if len(gone) < total
        ]
        self._race(more, self.count, _DROPPED)
        kept = [*kept[:1], *filter(self._keeps, more)]
        return sorted(kept, key=lambda one: one.candidate.size)[:1]

    def _confirm(self) -> None:
        """Ask the last parts of the path all prompts, and drop those that fail."""
        while len(self.path) > 1:
            total = len(self.trial.harmful.prompts)
            self._race(self.path[-_FINALISTS:], total, _CONFIRMED)
            if self.path[-1].keeps(self.keep):
                return
            self.path.pop()
            self.is_minimal = False

    def _race(
        self, parts: Sequence[PartCounts], until: int, share: float = math.inf
    ) -> None:
        """Ask up to ``until`` prompts, without parts that can keep no more.

        Ends early when this share of the time is over.
        """
        goal = max(until, self.count)
        for at in range(until):
            alive = [
                one for one in parts if one.asked == at and one.keeps(self.keep, goal)
            ]
            if not alive:
                continue
            if self.is_over(share):
                return
            if not self.trial.ask(alive, at, self.stop):
                raise KeyboardInterrupt
            for one in alive:
                one.asked += 1
            self.shown(alive)

    def _keeps(self, one: PartCounts) -> bool:
        return one.asked >= self.count and one.keeps(self.keep)

    def _less(self, gone: Iterable[int]) -> PartCounts:
        """The last part without the neurons at these places."""
        last, without = self.path[-1].candidate.places, set(gone)
        return self._part([one for one in last if one not in without], DROPPING)

    def _part(self, places: Sequence[int], by: str) -> PartCounts:
        """The part of these neurons; what it did so far if it was tried."""
        part = Part.of(self.whole, places, by)
        return self.tried.setdefault(part.places, PartCounts(part))
