"""Time the walk that reads a contrast's neurons against plain forward passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

from cna_mlx.diagnostics.bench import walks
from cna_mlx.diagnostics.bench.timing import Budget, Comparison, in_turn

Action = Callable[[], object]
_PASSES, _WALKED = 2, 4  # prompts at least
_FORWARD = "a plain forward of each"


@dataclass
class TimedWalk:
    """The prompts of a timed discovery: as many as fit into some time.

    Attributes:
        model: in memory.
        streamed: the same model on disk, if there is time to read it; else None.
        texts, ids: the prompts, alternating between the sides.
        sample: the prompts that have a plain forward pass. Their lengths stand for
            those of all, and passes of single prompts add up, so some are enough.
        needed: seconds for the rounds if the model on disk is not left out.
        peaks: MLX's peak memory in the first walk of each kind, in bytes beyond what
            was held.
    """

    model: Any
    streamed: Any | None
    texts: Sequence[str]
    ids: Sequence[Sequence[int]]
    sample: Sequence[Sequence[int]]
    needed: float = 0.0
    peaks: dict[str, int] = field(default_factory=dict)

    @classmethod
    def within(
        cls,
        model: Any,
        streamed: Any | None,
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        token: float,
        budget: Budget,
        rounds: int,
    ) -> "TimedWalk":
        """Choose so many of some prompts that rounds fit into the budget.

        The passes of the sample may take half as long as a walk. Reading from disk is
        left out where it would take more than half of the time.

        Args:
            token: seconds of a prompt's token in a plain forward pass, about.
        """
        started = budget.clock()
        trial = walks.alternating(ids, _WALKED)
        walk = _seconds(budget, walks.deltas, model, trial)
        read = needed = 0.0
        if streamed is not None:
            read = _seconds(budget, walks.deltas, streamed, [ids[0][:2]] * 2)
            needed = 2 * rounds * (read + walk)
            if needed > budget.seconds:
                streamed, read = None, 0.0
        left = (budget.seconds - (budget.clock() - started)) / rounds - read
        work, kinds = walks.workload(trial), 1 if streamed is None else 2
        forward = token * sum(map(len, ids)) / len(ids)
        header = work.header * walk / work.tokens
        each = work.own * walk / work.tokens / len(trial)
        most = int((left / (kinds + 0.5) - header) / each)
        if most * each / 2 < _PASSES * forward:  # the fewest passes take longer
            most = int(((left - _PASSES * forward) / kinds - header) / each)
        chosen = walks.alternating(range(len(ids)), max(_WALKED, most))
        found, own = [ids[n] for n in chosen], [texts[n] for n in chosen]
        size = max(_PASSES, ceil(len(found) * each / 2 / forward))
        sample = walks.sample_of(found, size)
        return cls(model, streamed, own, found, sample, needed)

    def walk(self, kind: str) -> Action:
        """Return a walk in memory ("discovery") or from disk ("discovery_streamed")."""
        model = self.model if kind == "discovery" else self.streamed
        work = partial(walks.deltas, model, self.ids)

        def run() -> None:
            if kind in self.peaks:
                work()
            else:
                self.peaks[kind] = walks.peak_of(work)

        return run

    def peak(self, kind: str) -> int:
        """Return the peak memory of a walk, which runs if it did not yet."""
        if kind not in self.peaks:
            self.walk(kind)()
        return self.peaks[kind]

    def compare(self, whole: Action | None, budget: Budget) -> Iterator[Comparison]:
        """Compare the walk, and the whole discovery if given, with forward passes."""
        ways: dict[str, Action] = {
            "forward": partial(walks.forward_each, self.model, self.sample),
            "discovery": self.walk("discovery"),
        }
        if self.streamed is not None:
            ways["streamed"] = self.walk("discovery_streamed")
        if whole is not None:
            ways["whole"] = whole
        timed = [budget.timed(way) for way in ways.values()]
        rounds = in_turn(timed, budget, f"reading {len(self.ids)} prompts")
        seconds = dict(zip(ways, rounds, strict=True))
        scale = sum(map(len, self.ids)) / sum(map(len, self.sample))
        forward = tuple(scale * one for one in seconds["forward"])
        walk = seconds["discovery"]
        found = partial(Comparison, work=len(self.ids), unit="prompts")
        shared = f"{walks.shared_share(self.ids):.0%} of their tokens shared"
        title = f"discovery of {len(self.ids)} prompts, {shared}"
        yield found(
            "discovery_vs_forward",
            title,
            _FORWARD,
            plain=forward,
            ours=walk,
            expected=walks.multiplications(self.model, self.ids),
            expected_by="the number of multiplications",
        )
        if "streamed" in ways:
            title, against = "the same, streamed from disk", "with weights in memory"
            ours = seconds["streamed"]
            yield found("discovery_streamed", title, against, plain=walk, ours=ours)
        if "whole" in ways:
            title, ours = "the whole discovery, without the bank", seconds["whole"]
            yield found("whole_discovery", title, _FORWARD, plain=forward, ours=ours)


def _seconds(budget: Budget, work: Callable[..., object], *given: Any) -> float:
    return budget.timed(partial(work, *given))()
