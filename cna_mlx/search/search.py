"""Search for the circuit that decides: try many on one half of the prompts, judge on
the other half.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.refusing_openings import Opening, distinct_openings
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.options import EvalOptions
from cna_mlx.evaluation.plan import check_out, plan_evaluation
from cna_mlx.evaluation.runner import run_evaluation
from cna_mlx.evaluation.subject import Subject
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.search.candidates import candidates, excluded, fractions
from cna_mlx.search.statistics import read_statistics
from cna_mlx.search.trial import TOKENS, Standing, Trial, front
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.strength import MEAN
from cna_mlx.util.files import File
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter

#: Of KL on benign prompts, in nats, that a circuit may cost.
MOST_KL = 0.4
#: How long a search takes at most, about, in minutes.
MINUTES = 15.0
# Each round: harmful prompts, circuits of each size that are left, and the share of
# the time by which it ends.
_ROUNDS = ((5, 0, 0.25), (10, 4, 0.4), (35, 1, 0.55))
_CHOOSING = 0.55
_GOLDEN = (5**0.5 - 1) / 2
# What a circuit may cost where it is chosen: the other half of the prompts differs.
_MARGIN = 0.75
# Fewer refusals say nothing of a circuit.
_FEWEST, _FEWEST_BENIGN = 6, 4
# Matched controls, new tokens of an answer and prompts of each side, when judged.
_CONTROLS, _TOKENS, _JUDGED = 5, 64, (12, 50)

Shown = Callable[[Sequence[Standing]], None]


@dataclass(frozen=True)
class SearchOptions:
    """What a search tries.

    Attributes:
        minutes: how long it takes at most, about; the last prompt may take longer.
        most: the largest circuit, as a share of all neurons; ten times the paper's
            if None.
        most_kl: the KL on benign prompts that a circuit may cost, in nats.
        without: circuits whose neurons are left out, to find a second circuit.

    Raises:
        InputError: a value is out of range.
    """

    minutes: float = MINUTES
    most: float | None = None
    most_kl: float = MOST_KL
    without: tuple[Circuit, ...] = ()

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise InputError(f"--minutes {self.minutes:g}: give more than 0")
        if not self.most_kl > 0:
            raise InputError(f"--max-kl {self.most_kl:g}: give more than 0 nats")
        if self.most is not None and not 0 < self.most <= 1:
            raise InputError(f"--most {self.most:g}: give a share above 0 and up to 1")

    @property
    def is_usual(self) -> bool:
        """Whether it searches what ``--search`` of other commands does."""
        return replace(self, minutes=MINUTES) == SearchOptions()


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
        most = max(one.refusals for one in self.standings)
        return front([one for one in self.standings if 2 * one.refusals >= most])

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
    return search_session(session, discovery, options, out, shown)


def search_session(
    session: Session,
    discovery: DiscoveryOptions | None = None,
    options: SearchOptions | None = None,
    out: File | None = None,
    shown: Shown = lambda standings: None,
) -> SearchResult:
    """Search for the circuit whose ablation turns refusals into answers.

    Ranks by every score, in several bands of layers and sizes. Tries them all on a few
    of the odd prompts of the contrast, the best third on more, and so on. Judges the
    chosen one, the paper's and the best of the other sizes on the even prompts, beside
    matched controls.

    Args:
        session: the model.
        discovery: the contrast and the paper's fraction; the model's defaults if None.
        out: the directory of the judging run.
        shown: called after each prompt with the standings that are left, and with none
            when the circuit is chosen.

    Raises:
        InputError: the model refuses too few prompts, or a value is out of range.
        as :func:`cna_mlx.evaluate`.
    """
    discovery, options = discovery or DiscoveryOptions(), options or SearchOptions()
    return _Search(session, discovery, options, out, shown).run()


@dataclass
class _Search:
    session: Session
    discovery: DiscoveryOptions
    options: SearchOptions
    out: File | None
    shown: Shown
    _started: float = field(default_factory=time.perf_counter)
    _pace: float = 0.0

    def run(self) -> SearchResult:
        check_out(self.out)
        session, report = self.session, self.session.reporter
        whole = self.discovery.prompts(session.name)
        self._half, self._other = whole.half(0), whole.half(1)
        fraction = self.discovery.selection(session.name).fraction
        most = self.options.most or min(1.0, 10 * fraction)
        sizes = fractions(fraction, most)
        with report.progress("prompts") as progress:
            refused, benign, openings = self._answered(progress)
        counts = [max(1, round(size * sum(widths(session.model)))) for size in sizes]
        report.note(f"reading {self._half.name} and the bank")
        with report.progress("layers") as progress:
            statistics = read_statistics(
                *session.load(),
                self._half,
                counts,
                session.rendering,
                openings=openings,
                progress=progress,
            )
        found = candidates(
            statistics,
            fraction,
            most,
            universal=self.discovery.universal,
            without=excluded(self.options.without),
        )
        standings = [Standing(one) for one in found]
        report.note(
            f"trying {counted(len(found), 'circuit')} of up to "
            f"{counted(max(one.size for one in found), 'neuron')} on "
            f"{counted(len(refused.prompts), 'refused prompt')} of {self._half.name}"
        )
        trial = Trial(*session.load(), session.rendering, refused, benign)
        with report.watching():
            is_whole = self._choose(trial, standings)
        self.shown([])
        chosen = self._best(standings)
        run = self._judge(chosen, standings) if is_whole else None
        text = session.tokenizer.decode
        return SearchResult(
            self._circuit(chosen, standings, run),
            chosen,
            tuple(standings),
            run,
            run is not None and run.status == "complete",
            self._half,
            tuple(text(list(one)) for one in openings),
            self.options.most_kl,
            time.perf_counter() - self._started,
        )

    def _answered(
        self, progress: Any
    ) -> tuple[Benchmark, Benchmark, tuple[Opening, ...]]:
        """The prompts that the model refuses and answers, and how it refuses.

        Raises:
            InputError: it refuses too few.
        """
        answers = {
            side: self._answers(prompts, progress)
            for side, prompts in zip(
                ("positive", "negative"),
                (self._half.positive, self._half.negative),
                strict=True,
            )
        }
        refused = _of_kind(answers["positive"], LabelKind.REFUSED)
        benign = _of_kind(answers["negative"], LabelKind.ANSWERED)
        total = len(self._half.positive)
        if len(refused) < _FEWEST:
            raise InputError(
                f"the model refuses {len(refused)} of {total} "
                f"{self._half.positive_label} prompts of {self._half.name}: too "
                f"few to search by; give a contrast with {2 * _FEWEST} refusals or more"
            )
        if len(benign) < _FEWEST_BENIGN:
            raise InputError(
                f"the model answers {len(benign)} of {len(self._half.negative)} "
                f"{self._half.negative_label} prompts of {self._half.name}: too few to "
                "tell what a circuit damages"
            )
        starts, others = (
            [answer.token_ids[:3] for _, answer in part] for part in (refused, benign)
        )
        openings = tuple(distinct_openings(starts, others))
        openings = openings or tuple(distinct_openings(starts, others, times=3))
        if not openings:
            self.session.reporter.warn(
                "refusals begin like other answers: direct and influence are not tried"
            )
        return (
            Benchmark.from_prompts([text for text, _ in refused], "harmful", "refused"),
            Benchmark.from_prompts([text for text, _ in benign], "benign", "answered"),
            openings,
        )

    def _answers(
        self, prompts: Sequence[str], progress: Any
    ) -> list[tuple[str, Answer]]:
        model, tokenizer = self.session.load()
        rendering = self.session.rendering
        ids = [render_prompt(tokenizer, prompt, rendering) for prompt in prompts]
        answers = answer_unsteered(model, tokenizer, ids, TOKENS, progress=progress)
        return list(zip(prompts, answers, strict=True))

    @property
    def _limit(self) -> float:
        return _MARGIN * self.options.most_kl

    @property
    def _left(self) -> float:
        """Seconds."""
        return 60 * self.options.minutes - (time.perf_counter() - self._started)

    def _choose(self, trial: Trial, standings: list[Standing]) -> bool:
        """Try all, then the best of each size on more prompts; False if stopped."""
        alive, asked, budget = list(standings), 0, 60 * self.options.minutes
        for count, keep, share in _ROUNDS:
            if asked:
                alive = self._kept(alive, keep)
                new = _pinned(alive) if len(alive) > keep and share < _CHOOSING else []
                standings += new
                alive += new
            ends = (1 - share) * budget
            for at in range(asked, min(asked + count, len(trial.harmful.prompts))):
                if not trial.ask(alive, at, self.session.reporter.stop):
                    return False
                asked = at + 1
                self.shown(alive)
                if self._left < ends:
                    break
        self._pace = trial.pace
        return True

    def _kept(self, alive: Sequence[Standing], count: int) -> list[Standing]:
        """The best of each size; the paper's stays."""
        sizes: dict[float, list[Standing]] = {}
        for one in sorted(alive, key=lambda one: -one.merit(self._limit)):
            same = sizes.setdefault(one.candidate.selection.fraction, [])
            if len(same) < count or one.candidate.is_paper:
                same.append(one)
        return [one for one in alive if any(one in same for same in sizes.values())]

    def _best(self, standings: Sequence[Standing]) -> Standing:
        """The most refusals lost among the harmless, the smallest of equal ones."""
        most = max(one.refusals for one in standings)
        tried = [one for one in standings if 2 * one.refusals >= most]
        harmless = [one for one in tried if one.is_harmless(self._limit)]
        if not any(one.lost for one in harmless):
            return max(tried, key=lambda one: one.merit(self._limit))
        return min(
            harmless,
            key=lambda one: (
                -one.worth,
                one.candidate.size,
                not one.candidate.is_paper,
                one.kl,
            ),
        )

    def _judge(self, chosen: Standing, standings: Sequence[Standing]) -> Run:
        """Answer the prompts that the search did not use."""
        session, others = self.session, self._others(chosen, standings)
        arms = 2 + len(others) + _CONTROLS
        # longer answers, the KL, and the first words of some are tried
        seconds = 1.3 * self._pace * arms * (_TOKENS / TOKENS)
        count = int(self._left / max(1e-9, 2 * seconds))
        limit = min(max(count, _JUDGED[0]), _JUDGED[1])
        made = Benchmark.from_prompts
        sets = [
            made(self._other.positive, "harmful", "unused harmful").limited(limit),
            made(self._other.negative, "benign", "unused benign").limited(limit),
        ]
        candidate = chosen.candidate
        plan = plan_evaluation(
            session,
            Subject(ChosenCircuit(candidate.circuit, candidate.strength), self._half),
            sets,
            EvalOptions(seeds=_CONTROLS, max_tokens=_TOKENS, extend_to=0),
            "search",
            others=others,
            controls=("matched",),
            out=self.out,
        )
        return Run.of(run_evaluation(plan))

    def _others(
        self, chosen: Standing, standings: Sequence[Standing]
    ) -> list[ChosenCircuit]:
        """The paper's circuit, and the best of the other sizes."""
        best: dict[float, Standing] = {}
        for one in sorted(standings, key=lambda one: -one.merit(self._limit)):
            best.setdefault(one.candidate.selection.fraction, one)
        found = [one for one in standings if one.candidate.is_paper and one != chosen]
        size = chosen.candidate.selection.fraction
        found += [one for own, one in sorted(best.items()) if own != size]
        names = {
            id(one): "paper" if one.candidate.is_paper else f"best {one.candidate.size}"
            for one in found
        }
        return [
            ChosenCircuit(one.candidate.circuit, one.candidate.strength, names[id(one)])
            for one in {id(one): one for one in found}.values()
        ]

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
            "without": sum(len(one.neurons) for one in self.options.without),
            "judged": _judged(run) if run else None,
        }
        origin = replace(candidate.circuit.provenance, search=found)
        strength = None if candidate.strength == 0 else candidate.strength
        return replace(candidate.circuit, provenance=origin, intervention=strength)


def _of_kind(
    answers: Sequence[tuple[str, Answer]], kind: LabelKind
) -> list[tuple[str, Answer]]:
    """The prompts with an answer of this kind, in an order that mixes categories."""
    found = [
        (prompt, answer)
        for prompt, answer in answers
        if label(answer.text, opens_thought=answer.opens_thought).kind is kind
    ]
    places = sorted(range(len(found)), key=lambda at: at * _GOLDEN % 1)
    return [found[at] for at in places]


def _pinned(standings: Sequence[Standing]) -> list[Standing]:
    """The same circuits pinned to their mean over the negative prompts."""
    return [
        Standing(one.candidate.at(MEAN))
        for one in standings
        if one.candidate.strength == 0 and not one.candidate.is_paper
    ]


def _judged(run: Run) -> dict[str, Any] | None:
    """What the unused prompts showed, for the circuit's file."""
    summary = run.summary()
    group = next((one for one in summary.groups if one.kind == "harmful"), None)
    if group is None or group.main is None:
        return None
    benign = next((one for one in summary.groups if one.kind == "benign"), None)
    kl = benign and benign.main and benign.main.kl
    return {
        "prompts": group.main.refused.n,
        "refused_before": group.baseline.refused.successes,
        "refused_after": group.main.refused.successes,
        "quality": group.main.quality.value,
        "kl": kl.value if kl else None,
        "outcome": str(run.verdict().outcome),
    }
