"""Compare two models, each with the other's circuit too, or two runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cna_mlx.analysis.compared_model import (
    ComparedModel,
    are_rendered_alike,
    have_same_shape,
    held_out,
)
from cna_mlx.analysis.compared_runs import (
    compare_runs,
    distinct_names,
    last_word,
    run_of,
)
from cna_mlx.analysis.comparison import ModelComparison, compare_sides
from cna_mlx.analysis.statistics import Proportion, proportion
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import split_circuit
from cna_mlx.discovery.differences import differences
from cna_mlx.discovery.discover import model_entry, rendering_entry
from cna_mlx.discovery.options import DiscoveryOptions, defaults_for
from cna_mlx.discovery.session import Session
from cna_mlx.discovery.sketches import sketches
from cna_mlx.errors import InputError, TransferError
from cna_mlx.evaluation.options import EvalOptions
from cna_mlx.evaluation.plan import check_out, plan_evaluation
from cna_mlx.evaluation.prompt_sets import PromptSets, load_sets
from cna_mlx.evaluation.runner import run_evaluation
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.subject import Subject, choose_subject
from cna_mlx.models.families import widths
from cna_mlx.models.loading import DEMO_NAMES, ModelOptions
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import Rendering
from cna_mlx.provenance import Auc
from cna_mlx.util.files import File, is_there
from cna_mlx.util.progress import SILENT, Reporter

Pair = tuple[str, str]
CircuitFiles = tuple[str | None, str | None]

_LETTERS = ("a", "b")


def compare(
    a: str | RunRecord,
    b: str | RunRecord,
    prompts: PromptSets = (),
    *,
    circuits: CircuitFiles = (None, None),
    options: EvalOptions | None = None,
    discovery: DiscoveryOptions | None = None,
    rendering: Rendering | None = None,
    source: ModelOptions | None = None,
    out: File | None = None,
    reporter: Reporter = SILENT,
) -> ModelComparison:
    """Compare two models, or two runs: circuits, gauges, refusal rates.

    Two models are loaded in turn. Each answers with its own circuit ablated, or pinned
    or scaled as the circuit's file says, and with the other's. Called again with the
    same arguments, an interrupted comparison goes on.
    Two runs are compared from their files, on the prompts that both answered.

    Args:
        a, b: names of two models as for :func:`cna_mlx.load`; or two runs: values,
            directories, or names in the default directory.
        prompts: of two models, as for :func:`cna_mlx.evaluate`.
        circuits: files to use in place of the default circuits.
        options, discovery, rendering, source: of two models, how they are evaluated.
        out: a directory for both models' runs.
        reporter: called while it works; its ``stop`` ends early.

    Raises:
        InputError: a model and a run; two models with different defaults; two runs
            without a prompt in common.
        as :func:`cna_mlx.audit`.
    """
    runs = [run_of(one) if isinstance(one, str) else one for one in (a, b)]
    if runs[0] and runs[1]:
        return compare_runs(runs[0], runs[1])
    if runs[0] or runs[1]:
        model = b if runs[0] else a
        raise InputError(
            f"{model} is a model and the other one is a run: give two of a kind"
        )
    rendering, source = rendering or Rendering(), source or ModelOptions()
    names = str(a), str(b)
    sessions = [Session(one, rendering, source, reporter=reporter) for one in names]
    options, discovery = options or EvalOptions(), discovery or DiscoveryOptions()
    _check_names(names)
    _check_agreement(names, discovery, bool(prompts), circuits)
    check_out(out, *_LETTERS)
    sets = load_sets(sessions[0], prompts, options.limit, discovery.column)
    place = Path(out) if out else None
    return _Models(sessions, discovery, options, circuits, sets, place).compare()


@dataclass(frozen=True)
class _Known:
    """A model once it was looked at: its circuit, and what that was made from."""

    side: ComparedModel
    subject: Subject


@dataclass(frozen=True)
class _Models:
    """Two models that are loaded in turn, never both at once."""

    sessions: Sequence[Session]
    discovery: DiscoveryOptions
    options: EvalOptions
    circuits: CircuitFiles
    sets: list[Benchmark]
    out: Path | None

    def compare(self) -> ModelComparison:
        """Find A's circuit, then B's and B's answers, then A's answers."""
        a = self._look(0)
        self.sessions[0].unload()
        b = self._look(1)
        other = self._answer(1, b, a.side)
        self.sessions[1].unload()
        if not other.is_complete:
            return compare_sides(a.side, other)
        side = self._answer(0, a, b.side)
        self.sessions[0].unload()
        return compare_sides(side, other)

    @wired()
    def _look(self, which: int) -> _Known:
        session, file = self.sessions[which], self.circuits[which]
        try:
            subject = choose_subject(session, file, self.discovery)
        except TransferError:  # its remedy does not help: a comparison is the transfer
            assert file is not None
            path = split_circuit(file)[0]
            made_on = Circuit.load(path).model
            raise TransferError(
                f"{path}: the circuit was made on other weights ({made_on.id}, "
                f"{made_on.quantization}) than {session.name}; each model's own "
                "circuit is tried on the other one anyway: leave "
                f"--circuit-{_LETTERS[which]} out, or give a circuit of {session.name}"
            ) from None
        model = model_entry(session.model, widths(session.model))
        rendering = rendering_entry(session.tokenizer, session.rendering)
        measured = held_out(subject.circuit, model, rendering)
        called = distinct_names([one.name for one in self.sessions])[which]
        sketched = sketches(session.model)
        side = ComparedModel(
            *(called, model, rendering, subject.circuit, measured), sketches=sketched
        )
        if subject.chosen.multiplier is None:
            return _Known(side, subject)
        circuit = replace(subject.circuit, intervention=None)  # @0 was typed
        chosen = replace(subject.chosen, circuit=circuit)
        return _Known(replace(side, circuit=circuit), replace(subject, chosen=chosen))

    @wired()
    def _answer(self, which: int, known: _Known, other: ComparedModel) -> ComparedModel:
        """The side with its answers, and its gauge with both rendered the same way."""
        same = self._rendered_the_same_way(which, known, other)
        plan = plan_evaluation(
            self.sessions[which],
            known.subject,
            self.sets,
            self.options,
            "compare",
            transferred=self._transferred(which, known.side, other),
            controls=("matched",),
            out=self.out and self.out / _LETTERS[which],
        )
        kept = self._kept(which, known, other)
        return replace(known.side, same=same, run=run_evaluation(plan), kept=kept)

    def _kept(
        self, which: int, known: _Known, other: ComparedModel
    ) -> Proportion | None:
        """How much of the other's circuit tells the two sides apart here, too."""
        contrast, circuit = known.subject.contrast, other.circuit
        is_alike = have_same_shape(known.side.model, other.model)
        if contrast is None or circuit is None or not (is_alike and circuit.neurons):
            return None
        found = differences(self.sessions[which], circuit, contrast)
        kept = sum(
            here * one.delta > 0.5 * one.delta * one.delta
            for one, here in zip(circuit.neurons, found, strict=True)
        )
        return proportion(int(kept), len(found))

    def _transferred(
        self, which: int, side: ComparedModel, other: ComparedModel
    ) -> tuple[str, Circuit] | None:
        if other.circuit is None or not have_same_shape(side.model, other.model):
            self.sessions[which].reporter.warn(
                f"{other.name} has another shape: its circuit cannot be tried on "
                f"{side.name}"
            )
            return None
        return f"other ({last_word(self.sessions[1 - which].name)})", other.circuit

    def _rendered_the_same_way(
        self, which: int, known: _Known, other: ComparedModel
    ) -> Auc | None:
        """Return the held-out AUC with both models' prompts as the same text.

        If the templates give different ids, the prompts are plain text: base models
        have no template.
        """
        side, contrast = known.side, known.subject.contrast
        session = self.sessions[which]
        if are_rendered_alike(side.rendering, other.rendering):
            return side.own
        plain = replace(session.rendering, template="off")
        entry = rendering_entry(session.tokenizer, plain)
        if are_rendered_alike(entry, side.rendering):
            return side.own
        if self.circuits[which] or contrast is None:
            return None  # how a given circuit was chosen is not known
        session.reporter.note(
            f"{side.name} has another template than {other.name}: plain text"
        )
        found = replace(session, rendering=plain).find(self.discovery, contrast)
        return held_out(found.circuit, side.model, entry)


# ------------------------------------------------------------------- what was asked for


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if "/" not in name and name not in DEMO_NAMES and not is_there(name):
            raise InputError(
                f"{name}: no such directory, no hub id (organisation/name) and no run "
                "(cna-mlx runs lists those there are)"
            )


def _check_agreement(
    names: Pair,
    discovery: DiscoveryOptions,
    has_prompts: bool,
    circuits: CircuitFiles,
) -> None:
    """Check that both models are asked for the same thing."""
    own, other = map(defaults_for, names)
    files = [Circuit.load(split_circuit(file)[0]) for file in circuits if file]
    has_sides = discovery.contrast or discovery.positive
    given = [has_sides, discovery.fraction, has_prompts]
    if own != other and not (all(given) or (len(files) == 2 and has_prompts)):
        raise InputError(
            f"{names[0]} and {names[1]} have different defaults: say --contrast, "
            "--fraction and --prompts"
        )
    if any(split_circuit(file)[1] not in (None, 0.0) for file in circuits if file):
        raise InputError(
            "compare does what the circuit's file says, else ablates: leave out the "
            "multiplier after @"
        )
    found = {
        str(entry.sha256): str(entry.name)
        for file in files
        if (entry := file.provenance.contrast)
    }
    if len(files) < 2:
        chosen = discovery.prompts(names[0])
        found[chosen.sha256] = chosen.name
    if len(found) > 1:
        raise InputError(
            f"the circuits are of different contrasts ({' and '.join(found.values())}):"
            " give both of one"
        )
