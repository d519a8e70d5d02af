"""Shrink a circuit to the smallest part that keeps most of its effect: halve it by
several orders, then leave out what can be left out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cna_mlx.analysis.run import Run
from cna_mlx.circuit import Circuit
from cna_mlx.circuit_sets import shrunk
from cna_mlx.discovery.chosen import ChosenCircuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.own_contrast import own_contrast
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.evaluation.plan import check_out
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet, contrast_names, load_contrast
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.search.judging import judge, judged
from cna_mlx.search.parts import WHOLE, Part, PartCounts, best_of_each_size
from cna_mlx.search.shrink_result import ShrinkResult
from cna_mlx.search.shrinking import ShownParts, Shrinking
from cna_mlx.search.trial import Trial, mixed
from cna_mlx.util.files import File
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter

#: The share of the whole circuit's lost refusals that a part keeps, by default; and how
#: long a shrink takes at most, about, in minutes.
KEEP, MINUTES = 0.8, 10.0
# The share of the time for the effect of the whole circuit, and for its parts.
_EFFECT, _TRYING = 0.2, 0.3
# Fewer lost refusals say nothing of a part.
_FEWEST = 4
# Prompts that each part answers, at least and at most; and about how many parts do.
_FEW, _MANY, _PARTS = 8, 20, 60
# Sizes that are judged beside the part and the whole circuit.
_JUDGED = 5


def shrink_circuit(
    model: Any,
    tokenizer: Any,
    circuit: File | Circuit,
    contrast: str | PromptSet | None = None,
    *,
    keep: float = KEEP,
    minutes: float = MINUTES,
    rendering: Rendering | None = None,
    out: File | None = None,
    shown: ShownParts = lambda parts: None,
    reporter: Reporter = SILENT,
) -> ShrinkResult:
    """Find the smallest part of a circuit that keeps most of its effect.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: a circuit, or ``FILE[@M]``.
        contrast: the prompts; the circuit's own if None. Half of them choose the part,
            the others judge it.
        keep: the share of the refusals that the whole circuit turns into answers, and
            that the part must turn into answers too.
        minutes: how long it takes at most, about.
        rendering: how prompts become token ids.
        out, shown: as for :func:`cna_mlx.search.shrink.shrink_session`.
        reporter: called while it works; its ``stop`` ends early.

    Raises:
        as :func:`cna_mlx.search.shrink.shrink_session`.
    """
    session = Session.of(model, tokenizer, rendering, reporter)
    options = DiscoveryOptions(contrast)
    return shrink_session(
        session, circuit, options, keep=keep, minutes=minutes, out=out, shown=shown
    )


@wired()
def shrink_session(
    session: Session,
    circuit: File | Circuit,
    discovery: DiscoveryOptions | None = None,
    *,
    keep: float = KEEP,
    minutes: float = MINUTES,
    out: File | None = None,
    shown: ShownParts = lambda parts: None,
) -> ShrinkResult:
    """Shrink a circuit in a session; see :func:`shrink_circuit`.

    Args:
        discovery: the contrast; the circuit's own if it names none.
        out: the directory of the judging run.
        shown: called after each prompt with the parts that answered it, and with none
            when the part is chosen.

    Raises:
        InputError: a value is out of range, the circuit's prompts are unknown, or it
            turns too few refusals into answers.
        KeyboardInterrupt: interrupted before the circuit's effect was known.
        as :func:`cna_mlx.evaluate`.
    """
    if not 0 < keep <= 1:
        raise InputError(f"--keep {keep:g}: give a share above 0 and up to 1")
    if not minutes > 0:
        raise InputError(f"--minutes {minutes:g}: give more than 0")
    check_out(out)
    whole = session.choose(circuit)
    if (count := len(whole.circuit.neurons)) < 2:
        neurons = counted(count, "neuron")
        raise InputError(f"the circuit has {neurons}: there is nothing to shrink")
    halves = _halves(whole.circuit, discovery or DiscoveryOptions(), session.name)
    return _Shrink(session, whole, halves, keep, 60 * minutes, out, shown).run()


def _halves(
    circuit: Circuit, options: DiscoveryOptions, model: str
) -> tuple[PromptSet, PromptSet]:
    """The half of a contrast that chooses, and the one that judges.

    A half that is named chooses, else the one that the circuit was found on, else that
    of the odd prompts.
    """
    given = own_contrast(circuit, options, model)
    base = given.name.rpartition(":")[0]
    whole = load_contrast(base) if base in contrast_names() else given
    odd, even = whole.half(0), whole.half(1)
    hashes = [given.sha256, *filter(circuit.is_from, (odd.sha256, even.sha256))]
    first = next((one for one in hashes if one in (odd.sha256, even.sha256)), None)
    return (even, odd) if first == even.sha256 else (odd, even)


@dataclass
class _Shrink:
    session: Session
    whole: ChosenCircuit
    halves: tuple[PromptSet, PromptSet]
    keep: float
    seconds: float
    out: File | None
    shown: ShownParts
    _started: float = field(default_factory=time.perf_counter)

    def run(self) -> ShrinkResult:
        session, note = self.session, self.session.reporter.note
        neurons = counted(len(self.whole.circuit.neurons), "neuron")
        note(f"measuring the effect of {neurons} on {self.halves[0].name}")
        effect, lost, pace = self._effect()
        note(
            f"trying parts on the {len(lost)} of {counted(effect.refusals, 'refusal')} "
            "that the circuit turns into answers"
        )
        many = _TRYING * self.seconds / (_PARTS * max(1e-9, pace))
        choice = Shrinking(
            self.whole,
            self._trial(lost),
            int(min(len(lost), _MANY, max(_FEW, many))),
            self.keep,
            lambda share: self._spent > share * self.seconds,
            self.shown,
            session.reporter.stop,
        )
        with session.reporter.watching():
            is_complete = choice.run()
        self.shown([])
        return self._result(effect, choice, is_complete)

    @property
    def _spent(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._started

    def _trial(self, harmful: Sequence[str]) -> Trial:
        session, benign = self.session, mixed(self.halves[0].negative)
        return Trial(
            *session.load(),
            session.rendering,
            Benchmark.from_prompts(harmful, "harmful", "harmful"),
            Benchmark.from_prompts(benign, "benign", "benign"),
        )

    def _effect(self) -> tuple[PartCounts, list[str], float]:
        """What the whole circuit does, the prompts whose refusal it loses, the pace.

        Raises:
            InputError: these are too few.
            KeyboardInterrupt: stopped.
        """
        places = range(len(self.whole.circuit.neurons))
        whole = PartCounts(Part.of(self.whole, places, WHOLE))
        lost, prompts = [], mixed(self.halves[0].positive)
        trial, stop = self._trial(prompts), self.session.reporter.stop
        for at, prompt in enumerate(prompts):
            before = whole.lost
            if not trial.ask([whole], at, stop):
                raise KeyboardInterrupt
            whole.asked = at + 1
            if whole.lost > before:
                lost.append(prompt)
            self.shown([whole])
            if len(lost) >= _FEW and self._spent > _EFFECT * self.seconds:
                break
        self._check(whole)
        return whole, lost, trial.pace

    def _check(self, whole: PartCounts) -> None:
        half = self.halves[0]
        if not whole.refusals:
            raise InputError(
                f"the model refuses none of {len(half.positive)} {half.positive_label} "
                f"prompts of {half.name}: give --contrast with prompts that it refuses"
            )
        if whole.lost < _FEWEST:
            raise InputError(
                f"the circuit turns {whole.lost} of "
                f"{counted(whole.refusals, 'refusal')} of {half.name} into answers: "
                "too few to shrink it by; cna-mlx search may find one that decides"
            )

    def _result(
        self, effect: PartCounts, choice: Shrinking, is_complete: bool
    ) -> ShrinkResult:
        part, run = choice.path[-1], None
        if is_complete:
            run = self._judged(choice)
            is_complete = run is not None and run.status == "complete"
        made = shrunk(
            self.whole.circuit,
            part.candidate.places,
            contrast=self.halves[0].name,
            keep=self.keep,
            lost=part.lost,
            refusals=part.refusals,
            judged=judged(run),
        )
        strength = part.candidate.strength
        return ShrinkResult(
            replace(made, intervention=None if strength == 0 else strength),
            part,
            effect,
            tuple(one for one in choice.tried.values() if one.asked),
            self.halves,
            self.keep,
            choice.is_minimal,
            run,
            is_complete,
            self._spent,
        )

    def _judged(self, choice: Shrinking) -> Run | None:
        """Answer the other half with the part, the whole circuit and other sizes."""
        whole, part = choice.path[0], choice.path[-1]
        others = best_of_each_size(choice.halved)
        sizes = [size for size in others if size not in (part.size, whole.size)]
        step = -(-len(sizes) // _JUDGED) or 1
        rivals = [whole] * (part is not whole) + [others[one] for one in sizes[::step]]
        return judge(
            self.session,
            "shrink",
            part.candidate.named,
            [one.candidate.named for one in rivals],
            self.halves,
            seconds=self.seconds - self._spent,
            pace=choice.trial.pace,
            out=self.out,
        )
