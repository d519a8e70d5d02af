"""A run as an evaluation leaves it, with its figures and its verdict."""

import os
from collections.abc import Sequence
from typing import Any

from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import Verdict, conclude
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import check_arms
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.evaluation.arms import AUDIT_SEEDS
from cna_mlx.evaluation.options import EvalOptions
from cna_mlx.evaluation.plan import check_out, plan_evaluation
from cna_mlx.evaluation.prompt_sets import PromptSets, load_sets
from cna_mlx.evaluation.runner import run_evaluation
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.subject import choose_subject
from cna_mlx.models.loading import ModelOptions
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.util.files import File
from cna_mlx.util.progress import SILENT, Reporter
from cna_mlx.util.rows import Row

Circuits = File | Circuit | Sequence[File | Circuit]


class Run(RunRecord):
    """The answers of one evaluation, in a directory: open it with :meth:`open`.

    ``samples()`` gives the answers, ``summary()`` the rates with intervals,
    ``verdict()`` what they show. Nothing of this needs the model.
    """

    @classmethod
    def of(cls, record: RunRecord) -> "Run":
        """A run that was read or written, with its figures."""
        return cls(record.directory, record.status, record.config, record.facts)

    def summary(self) -> Summary:
        """The figures, from the answers that are there.

        Raises:
            InputError: the samples cannot be read.
        """
        return summarize(self)

    def verdict(self) -> Verdict:
        """Return what the figures show: refusals fell or not, or the text broke."""
        return conclude(self.summary())

    def rows(self) -> list[Row]:
        """A row for each prompt and arm."""
        return [sample.to_row() for sample in self.samples()]

    def __repr__(self) -> str:
        done = len(self.samples()) // len(self.arms)
        return (
            f"Run({str(self.directory)!r}: {self.status}, {done} of {self.planned} "
            f"prompts in {len(self.arms)} arms)"
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def evaluate(
    model: Any,
    tokenizer: Any,
    circuit: File | Circuit,
    prompts: PromptSets = (),
    *,
    options: EvalOptions | None = None,
    contrast: str | PromptSet | None = None,
    rendering: Rendering | None = None,
    out: File | None = None,
    reporter: Reporter = SILENT,
) -> Run:
    """Measure refusal rates with and without a circuit, against random controls.

    Each prompt is answered by all arms in one batch and labelled; every batch is
    written to the run's directory. Called again with the same arguments, an
    interrupted run goes on.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: of this model; or its file.
        prompts: the name of a prompt set (``jbb``, ``jbb-benign``, ``xstest``,
            ``demo``), a file, a :class:`Benchmark`, or several of these; the default
            sets if empty.
        options: multipliers, controls, the length of answers and the like.
        contrast: the prompts that the circuit was discovered on, where they are not
            built in: matched controls and CAA are made from them.
        rendering: how prompts become token ids.
        out: the run's directory; a directory named after the configuration if None.
        reporter: called while it works; its ``stop`` ends early.

    Raises:
        CircuitError: the circuit does not fit the model.
        InputError: prompts or a directory that cannot be used.
        HubError: a prompt set cannot be fetched.
    """
    session = Session.of(model, tokenizer, rendering, reporter)
    discovery = DiscoveryOptions(contrast)
    return evaluate_session(
        session, prompts, [circuit], options or EvalOptions(), discovery, out, "eval"
    )


def audit(
    model: str,
    prompts: PromptSets = (),
    *,
    circuits: Circuits = (),
    options: EvalOptions | None = None,
    discovery: DiscoveryOptions | None = None,
    rendering: Rendering | None = None,
    source: ModelOptions | None = None,
    allow_transfer: bool = False,
    out: File | None = None,
    reporter: Reporter = SILENT,
) -> Run:
    """Load a model, find its circuit, and evaluate it at several multipliers.

    Args:
        model: as for :func:`cna_mlx.load`.
        prompts: as for :func:`evaluate`.
        circuits: circuits or ``FILE[@M]``; the first is what is audited. The circuit
            that a discovery finds if empty.
        options: as for :func:`evaluate`; a sweep and 19 controls unless given.
        discovery: which circuit to find.
        rendering: how prompts become token ids.
        source: revision and the like, as for :func:`cna_mlx.load`.
        allow_transfer: accept circuits of other weights of the same shape.
        out, reporter: as for :func:`evaluate`.

    Raises:
        as :func:`cna_mlx.load`, :func:`evaluate`.
    """
    session = Session(
        model,
        rendering or Rendering(),
        source or ModelOptions(),
        allow_transfer,
        reporter,
    )
    return evaluate_session(
        session,
        prompts,
        [circuits] if isinstance(circuits, str | os.PathLike | Circuit) else circuits,
        options or EvalOptions(sweep=True, seeds=AUDIT_SEEDS),
        discovery or DiscoveryOptions(),
        out,
        "audit",
    )


@wired()
def evaluate_session(
    session: Session,
    prompts: PromptSets,
    circuits: Sequence[File | Circuit],
    options: EvalOptions,
    discovery: DiscoveryOptions,
    out: File | None,
    command: str,
) -> Run:
    """Do what :func:`evaluate` and :func:`audit` have in common."""
    check_out(out)
    check_arms(circuits, options.multipliers)
    sets = load_sets(session, prompts, options.limit, discovery.column)
    subject = choose_subject(session, next(iter(circuits), None), discovery)
    others = [session.choose(one) for one in circuits[1:]]
    plan = plan_evaluation(
        session, subject, sets, options, command, others=others, out=out
    )
    return Run.of(run_evaluation(plan))
