"""Search for the circuit that decides: try many on one half of the prompts, judge on
the other half.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.evaluation.plan import check_out
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.search.candidates import Candidate, candidates, excluded, fractions
from cna_mlx.search.judging import judge, judged
from cna_mlx.search.kept import keep_search
from cna_mlx.search.reading import read_half
from cna_mlx.search.result import SearchOptions, SearchResult
from cna_mlx.search.trial import Standing, Trial, best_by_size, long_tried
from cna_mlx.strength import MEAN
from cna_mlx.util.files import File
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter

# Each round: harmful prompts, circuits of each size that are left, and the share of
# the time by which it ends.
_ROUNDS = ((5, 0, 0.25), (6, 4, 0.34), (35, 2, 0.46))
# The shares by which the KL of the best is measured, and the finalists have answered
# the part of the refused prompts that is kept for them.
_MEASURED, _FINISHED, _KEPT = 0.58, 0.68, 0.35
# Multipliers beyond ablation. The KL grew by this power of 1 - m
# or less in the circuits that were measured.
_NEGATIVE, _GROWTH = (-0.5, -0.25), 1.5
_UNSURE = 1.25  # what a few prompts say of the KL may be off by so much
# How many are measured further, how many of them answer at length, and the part of the
# largest KL that they may cost here: on other prompts it was up to 1.6 times that
# (docs/design.md).
_HOPEFUL, _FINALISTS, _MARGIN = 6, 4, 0.6

Shown = Callable[[Sequence[Standing]], None]
Keep = Callable[[Circuit], None]


def search_circuit(
    model: Any,
    tokenizer: Any,
    contrast: str | PromptSet | None = None,
    *,
    fraction: float | None = None,
    universal: bool = True,
    options: SearchOptions | None = None,
    rendering: Rendering | None = None,
    out: File | None = None,
    shown: Shown = lambda standings: None,
    keep: Keep = lambda circuit: None,
    reporter: Reporter = SILENT,
) -> SearchResult:
    """Search a loaded model for the circuit that decides; see :func:`search_session`.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        contrast: as for :func:`cna_mlx.discover`; the model's own if None.
        fraction: the paper's share of all neurons; the model's own if None.
        universal: leave out neurons that respond to every contrast.
        rendering: how prompts become token ids.
        reporter: called while it works; its ``stop`` ends early.

    Raises:
        as :func:`search_session`.
    """
    session = Session.of(model, tokenizer, rendering, reporter)
    discovery = DiscoveryOptions(contrast, fraction=fraction, universal=universal)
    return search_session(session, discovery, options, out, shown, keep)


def search_session(
    session: Session,
    discovery: DiscoveryOptions | None = None,
    options: SearchOptions | None = None,
    out: File | None = None,
    shown: Shown = lambda standings: None,
    keep: Keep = lambda circuit: None,
) -> SearchResult:
    """Search for the circuit whose ablation turns refusals into answers.

    Ranks by every score, in several bands of layers and sizes. Tries them all on a few
    of the odd prompts of the contrast, the best of each size on more. Judges the
    chosen one, the paper's and the best of the other sizes on the even prompts, beside
    matched controls.

    Args:
        session: the model.
        discovery: the contrast and the paper's fraction; the model's defaults if None.
        out: the directory of the judging run.
        shown: called after each prompt with the standings that are left, and with none
            when the circuit is chosen.
        keep: called with the chosen circuit before it is judged.

    Raises:
        CircuitError: a circuit to leave out is of another model.
        InputError: the model refuses too few prompts, or a value is out of range.
        as :func:`cna_mlx.evaluate`.
    """
    discovery, options = discovery or DiscoveryOptions(), options or SearchOptions()
    return _Search(session, discovery, options, out, shown, keep).run()


@dataclass
class _Search:
    session: Session
    discovery: DiscoveryOptions
    options: SearchOptions
    out: File | None
    shown: Shown
    keep: Keep
    _started: float = field(default_factory=time.perf_counter)
    _pace: float = 0.0
    _asked: int = 0
    _finalists: Sequence[Standing] = ()

    @wired()
    def run(self) -> SearchResult:
        check_out(self.out)
        session, report = self.session, self.session.reporter
        left_out = [session.choose(one).circuit for one in self.options.without]
        self._without = excluded(left_out)
        whole = self.discovery.prompts(session.name)
        self._half, self._other = whole.half(0), whole.half(1)
        fraction = self.discovery.selection(session.name).fraction
        most = self.options.most or min(1.0, 10 * fraction)
        fractions(fraction, most)  # or it is refused
        reading = read_half(session, self._half, fraction)
        refused, benign = reading.benchmarks()
        found = candidates(
            reading.statistics,
            fraction,
            most,
            universal=self.discovery.universal,
            without=self._without,
        )
        standings = [Standing(one) for one in found]
        report.note(
            f"trying {counted(len(found), 'circuit')} of up to "
            f"{counted(max(one.size for one in found), 'neuron')} on "
            f"{counted(len(refused.prompts), 'refused prompt')} of {self._half.name}"
        )
        trial = Trial(*session.load(), session.rendering, refused, benign)
        is_whole = False
        # a second Ctrl-C does not wait for the batch, and loses nothing either
        with suppress(KeyboardInterrupt), report.watching():
            is_whole = self._choose(trial, standings)
        self.shown([])
        chosen = self._best(standings)
        run = None
        if unjudged := self._circuit(chosen, standings, None):
            self.keep(unjudged)
        if is_whole:
            rivals = self._rivals(chosen, standings)
            run = judge(
                session,
                "search",
                chosen.candidate.named,
                [one.named for one in rivals],
                (self._half, self._other),
                seconds=self._left,
                pace=self._pace,
                out=self.out,
            )
        text = session.tokenizer.decode
        result = SearchResult(
            self._circuit(chosen, standings, run),
            chosen,
            tuple(standings),
            run,
            run is not None and run.status == "complete",
            self._half,
            tuple(text(list(one)) for one in reading.statistics.openings),
            self.options.most_kl,
            time.perf_counter() - self._started,
        )
        keep_search(result, reading.statistics)
        return result

    @property
    def _limit(self) -> float:
        return _MARGIN * self.options.most_kl

    @property
    def _left(self) -> float:
        """Seconds."""
        return 60 * self.options.minutes - (time.perf_counter() - self._started)

    def _choose(self, trial: Trial, standings: list[Standing]) -> bool:
        """Try all, then the best of each size on more prompts; False if stopped."""
        alive, budget = list(standings), 60 * self.options.minutes
        most = math.ceil((1 - _KEPT) * len(trial.harmful.prompts))
        for count, keep, share in _ROUNDS:
            if self._asked:
                alive = best_by_size(alive, keep, self._limit, 2 * keep)
                also = stronger if share == _ROUNDS[-1][-1] else pinned
                new = [
                    Standing(one, since=self._asked) for one in also(alive, self._limit)
                ]
                standings += new
                alive += new
            ends = (1 - share) * budget
            for at in range(self._asked, min(self._asked + count, most)):
                if not trial.ask(alive, at, self.session.reporter.stop):
                    return False
                self._asked = at + 1
                self.shown(alive)
                if self._left < ends:
                    break
        self._pace = trial.pace
        return self._measure(trial, standings) and self._finish(trial, standings)

    def _measure(self, trial: Trial, standings: Sequence[Standing]) -> bool:
        """Measure the KL of those that may be chosen on all benign prompts.

        Until one of them is harmless or the time is over, the best first; False if
        stopped.
        """
        ends = (1 - _MEASURED) * 60 * self.options.minutes
        tried = long_tried(standings)
        hopeful = [one for one in tried if one.is_harmless(self.options.most_kl)]
        hopeful.sort(key=_preference)
        for start in range(0, len(hopeful), _HOPEFUL):
            part = hopeful[start : start + _HOPEFUL]
            if self._left < ends:
                break
            stop = self.session.reporter.stop
            if not trial.measure(part, stop, lambda: self._left < ends):
                return False
            if any(one.is_harmless(self._limit) for one in part):
                break
        return True

    def _finish(self, trial: Trial, standings: Sequence[Standing]) -> bool:
        """Let the best harmless ones answer further prompts, at length; False if
        stopped.
        """
        ends = (1 - _FINISHED) * 60 * self.options.minutes
        tried = long_tried(standings)
        harmless = [one for one in tried if one.lost and one.is_harmless(self._limit)]
        self._finalists = sorted(harmless, key=_preference)[:_FINALISTS]
        if not self._finalists:
            return True
        return trial.finish(
            self._finalists,
            self._asked,
            self.session.reporter.stop,
            lambda: self._left < ends,
        )

    def _best(self, standings: Sequence[Standing]) -> Standing:
        """The most refusals lost among the harmless, the smallest of equal ones.

        Of the finalists, unless all of them turned out to do harm.
        """
        tried = long_tried(standings)
        harmless = [one for one in tried if one.is_harmless(self._limit)]
        harmless = [one for one in harmless if one in self._finalists] or harmless
        if not any(one.lost for one in harmless):
            return max(tried, key=lambda one: one.merit(self._limit))
        return min(harmless, key=_preference)

    def _rivals(
        self, chosen: Standing, standings: Sequence[Standing]
    ) -> list[Candidate]:
        """The paper's circuit, and the best of the other sizes."""
        best: dict[float, Standing] = {}
        for one in sorted(
            long_tried(standings), key=lambda one: -one.merit(self._limit)
        ):
            best.setdefault(one.candidate.selection.fraction, one)
        del best[chosen.candidate.selection.fraction]
        paper = [one for one in standings if one.candidate.is_paper]
        others = [*paper, *(best[size] for size in sorted(best))]
        return [one.candidate for one in dict.fromkeys(others) if one is not chosen]

    def _circuit(
        self, chosen: Standing, standings: Sequence[Standing], run: Run | None
    ) -> Circuit | None:
        """The chosen circuit, which says how it was chosen; None if none decides."""
        if not chosen.lost or not chosen.is_harmless(self._limit):
            return None
        candidate = chosen.candidate
        found = {
            **chosen.to_dict(),
            "tried": len(standings),
            "max_kl": self.options.most_kl,
            "without": len(self._without),
            "judged": judged(run),
        }
        origin = replace(candidate.circuit.provenance, search=found)
        strength = None if candidate.strength == 0 else candidate.strength
        return replace(candidate.circuit, provenance=origin, intervention=strength)


def _preference(one: Standing) -> tuple[float, ...]:
    return -one.worth, one.candidate.size, not one.candidate.is_paper, one.kl


def pinned(standings: Sequence[Standing], limit: float) -> list[Candidate]:
    """The best circuit of each size, pinned to its mean over the negative prompts."""
    best = best_by_size(_ablated(standings), 1, limit)
    return [one.candidate.at(MEAN) for one in best]


def stronger(standings: Sequence[Standing], limit: float) -> list[Candidate]:
    """The two best circuits of each size, beyond ablation.

    At the negative multipliers that the KL leaves room for.
    """
    return [
        one.candidate.at(m)
        for one in best_by_size(_ablated(standings), 2, limit)
        for m in _NEGATIVE
        if one.kl * (1 - m) ** _GROWTH < _UNSURE * limit
    ]


def _ablated(standings: Sequence[Standing]) -> list[Standing]:
    """Those at m = 0, without the paper's."""
    return [
        one
        for one in standings
        if one.candidate.strength == 0 and not one.candidate.is_paper
    ]
