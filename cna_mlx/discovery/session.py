"""A loaded model with the circuits that are found for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import CachedCircuit, Store, keep
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.trial import expect
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import (
    DEMO_NAMES,
    ModelOptions,
    Source,
    load,
    source_of,
)
from cna_mlx.models.memory.plan import Plan
from cna_mlx.models.offload.streaming import is_streamed
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, uses_template
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.interventions import check_multiplier
from cna_mlx.util.files import File, check_writable, is_there
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter


@dataclass(frozen=True)
class ChosenCircuit:
    """A circuit to steer with.

    Attributes:
        circuit: the circuit.
        multiplier: its own; None where it takes the multipliers of the options.
        name: what to call it in labels: the file that it was read from.
    """

    circuit: Circuit
    multiplier: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Session:
    """A loaded model, how its prompts are rendered, and who is told of the work.

    Attributes:
        name: as the model was asked for.
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        rendering: how prompts become token ids.
        allow_transfer: accept circuits of other weights of the same shape.
        reporter: what is called while something takes its time.
    """

    name: str
    model: Any
    tokenizer: Any
    rendering: Rendering = field(default_factory=Rendering)
    allow_transfer: bool = False
    reporter: Reporter = SILENT

    @classmethod
    def open(
        cls,
        name: str,
        rendering: Rendering | None = None,
        options: ModelOptions | None = None,
        *,
        allow_transfer: bool = False,
        reporter: Reporter = SILENT,
    ) -> "Session":
        """Load a model.

        Raises:
            as :func:`cna_mlx.load`; InputError: the rendering asks for a chat template
            that the tokenizer does not have.
        """
        rendering, options = rendering or Rendering(), options or ModelOptions()
        reporter.note(f"loading {name}")
        with reporter.progress("bytes") as progress:
            model, tokenizer = load(
                name,
                options.revision,
                offline=options.offline,
                stream=options.stream,
                progress=progress,
                planned=lambda plan: _announce(plan, reporter),
            )
        _report_moves(source_of(model), reporter)
        uses_template(tokenizer, rendering)
        return cls(name, model, tokenizer, rendering, allow_transfer, reporter)

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        rendering: Rendering | None = None,
        reporter: Reporter = SILENT,
    ) -> "Session":
        """A session with a model that is loaded."""
        source = source_of(model)
        name = source.name if source else type(model).__name__
        return cls(name, model, tokenizer, rendering or Rendering(), reporter=reporter)

    def find(
        self, options: DiscoveryOptions, contrast: PromptSet, *, refresh: bool = False
    ) -> CachedCircuit:
        """The circuit of this model and contrast, from the cache or discovered."""
        with self.reporter.progress("layers") as progress:
            found = Store().find_or_discover(
                self.model,
                self.tokenizer,
                contrast,
                options.selection(self.name),
                self.rendering,
                refresh=refresh,
                progress=progress,
            )
        _report_overlap(found, self.reporter)
        return found

    def try_out(self, found: CachedCircuit, contrast: PromptSet) -> CachedCircuit:
        """The same with what to expect of it, if it was discovered just now.

        Ctrl-C ends only the trial: the circuit is in the cache.
        """
        report = self.reporter
        if is_streamed(self.model):
            report.note(
                "what to expect of this circuit is not tried: answers need all weights "
                "in memory"
            )
            return found
        if found.discovery is None:
            return found
        expectation = None
        try:
            with report.progress("prompts") as progress, report.watching():
                expectation = expect(
                    self.model,
                    self.tokenizer,
                    contrast,
                    found.discovery,
                    self.rendering,
                    stop=report.stop,
                    progress=progress,
                )
        except KeyboardInterrupt:
            if not report.stop():  # else it was pressed twice, within a long prompt
                raise
        if expectation is not None:
            return keep(found, expectation.written_into(found.circuit))
        if report.stop():
            report.warn("skipped: what to expect of this circuit")
        return found

    def default_circuit(self, options: DiscoveryOptions) -> Circuit:
        """The circuit to use where none is named; reports where it comes from."""
        contrast = options.prompts(self.name)
        options.selection(self.name).k(widths(self.model))
        positive, negative = contrast.sizes
        self.reporter.note(
            f"no --circuit: the default one, {contrast.name} "
            f"({positive}/{negative} prompts)"
        )
        found = self.find(options, contrast)
        self._report_found(found)
        if options.expect:
            if found.discovery is not None:
                found = self.try_out(found, contrast)
            report_expectation(found.circuit, self.reporter)
        return found.circuit

    def _report_found(self, found: CachedCircuit) -> None:
        count = counted(len(found.circuit.neurons), "neuron")
        if found.discovery is None:
            self.reporter.note(f"{count} from the store: {found.path}")
            return
        kept = f"kept in {found.path}" if found.path else "could not be stored"
        took = f"{found.discovery.seconds:.1f} s"
        self.reporter.note(f"discovered {count} in {took}, {kept}")
        if found.discovery.warning:
            self.reporter.warn(found.discovery.warning)

    def choose(self, circuit: str | Circuit) -> ChosenCircuit:
        """A circuit, or ``FILE`` or ``FILE@M``, checked against the model.

        Raises:
            CircuitError: it cannot be read or does not fit.
            InputError: the multiplier is not a finite number.
        """
        if isinstance(circuit, Circuit):
            self.check(circuit)
            return ChosenCircuit(circuit)
        path, multiplier = split_circuit(circuit)
        found = Circuit.load(path)
        try:
            self.check(found)
        except CircuitError as error:
            raise type(error)(f"{path}: {error}") from None
        return ChosenCircuit(found, multiplier, path)

    def check(self, circuit: Circuit) -> None:
        """See that a circuit fits the model.

        Raises:
            CircuitError: it does not.
        """
        circuit.check_model(
            widths(self.model), fingerprint(self.model), self.allow_transfer
        )

    def steered_arms(
        self,
        options: DiscoveryOptions,
        circuits: Sequence[str],
        multipliers: Sequence[float],
    ) -> list[Arm]:
        """Each circuit at its own multiplier or at all of these; the default if none.

        Raises:
            CircuitError, InputError: as :meth:`choose`; an arm is there twice.
        """
        chosen = [self.choose(text) for text in circuits]
        owns = [one.multiplier for one in chosen]
        if chosen and None not in owns and (unused := set(multipliers) - set(owns)):
            said = ", ".join(f"@{own:g}" for own in owns if own is not None)
            raise InputError(
                f"--circuit says {said} and -m {min(unused):g}: give one of them"
            )
        if not chosen:
            chosen = [ChosenCircuit(self.default_circuit(options))]
        arms = []
        for one in chosen:
            values = strengths(one, multipliers)
            prefix = f"{one.name} " if len(chosen) > 1 else ""
            arms += [Arm.of(one.circuit, m, f"{prefix}m={m:.15g}") for m in values]
        if len({arm.label for arm in arms}) < len(arms):
            raise InputError("the same circuit and multiplier were asked for twice")
        return arms


def discover_model(
    name: str,
    options: DiscoveryOptions,
    *,
    rendering: Rendering | None = None,
    source: ModelOptions | None = None,
    output: File | None = None,
    reporter: Reporter = SILENT,
) -> CachedCircuit:
    """Load a model and find its circuit, also where the cache has it.

    Args:
        name: as for :func:`cna_mlx.load`.
        options: which circuit, and whether it is tried.
        rendering, source: how prompts are rendered and the model is loaded.
        output: a file to write the circuit to, before it is tried and again after.
        reporter: called while it works.

    Raises:
        InputError: the file cannot be written, or an option is out of range.
        as :func:`cna_mlx.load`, :func:`cna_mlx.discovery.discover.run_discovery`.
    """
    check_writable(output)
    contrast, selection = options.prompts(name), options.selection(name)
    session = Session.open(name, rendering, source, reporter=reporter)
    selection.k(widths(session.model))
    found = session.find(options, contrast, refresh=True)
    if output:
        found.circuit.save(output)
    if options.expect:
        found = session.try_out(found, contrast)
        if output:
            found.circuit.save(output)
    return found


def strengths(chosen: ChosenCircuit, multipliers: Sequence[float]) -> list[float]:
    """A circuit's own multiplier, else all of these, else 0."""
    own = chosen.multiplier
    return [own] if own is not None else list(multipliers) or [0.0]


def report_expectation(circuit: Circuit, reporter: Reporter) -> None:
    """Report what to expect of a circuit, if that was tried."""
    lines = expectation_lines(circuit)
    for line in lines[:1]:
        reporter.note(f"expect: {line}")
    for line in lines[1:]:
        reporter.warn(line)


def split_circuit(text: str) -> tuple[str, float | None]:
    """``FILE`` or ``FILE@M`` to a path and a multiplier.

    Raises:
        InputError: the multiplier is not a finite number.
    """
    path, at, number = text.rpartition("@")
    if not at or is_there(text):
        return text, None
    try:
        multiplier = float(number)
    except ValueError:
        multiplier = math.nan
    if not math.isfinite(multiplier):
        raise InputError(f"--circuit {text}: {number!r} is not a finite multiplier")
    return path, multiplier


def check_arms(
    circuits: Sequence[str | Circuit], multipliers: Sequence[float] = ()
) -> None:
    """See that circuits and multipliers can be used, before a model is loaded.

    Raises:
        CircuitError, InputError: a file or a value that cannot.
    """
    for value in multipliers:
        check_multiplier(value)
    for one in circuits:
        if isinstance(one, str):
            Circuit.load(split_circuit(one)[0])


def circuit_entry(circuit: Circuit) -> dict[str, Any]:
    """Which circuit a result is of, as the JSON of the commands has it."""
    origin = circuit.provenance.to_json()
    return {
        "file": circuit.file,
        "fingerprint": circuit.model.fingerprint,
        "neurons": len(circuit.neurons),
        "k": circuit.k,
        **{key: origin.get(key) for key in ("contrast", "fraction", "rank", "layers")},
    }


def circuit_entries(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """The circuit of each arm that has one, by the arm's label."""
    return {
        arm.label: circuit_entry(circuit)
        for arm in arms
        for circuit, _ in arm.steering
        if isinstance(circuit, Circuit)
    }


def _announce(plan: Plan, reporter: Reporter) -> None:
    if plan.name in DEMO_NAMES:  # some megabytes
        return
    reporter.note(str(plan))
    if plan.duration:
        reporter.note(plan.duration)
    if plan.warning:
        reporter.warn(plan.warning)


def _report_moves(source: Source | None, reporter: Reporter) -> None:
    """What the Hub says of a model that was here already."""
    if source and source.renamed_to:
        reporter.note(f"{source.name} is {source.renamed_to} on the Hub by now")
    if source and source.moved_to and source.revision:
        reporter.warn(
            f"{source.name} has moved to {source.moved_to[:7]} on the Hub; this is "
            f"{source.revision[:7]}, which was here (--revision main fetches the new "
            "one)"
        )


def _report_overlap(found: CachedCircuit, reporter: Reporter) -> None:
    """How much of an earlier revision's circuit is in the one of this revision."""
    if (kept := found.kept_from_previous) and found.previous:
        old, new = (str(one.model.revision) for one in (found.previous, found.circuit))
        reporter.note(
            f"the model moved from {old[:7]} to {new[:7]}: the new circuit shares "
            f"{kept.jaccard:.2f} of the old one's neurons (Jaccard; chance "
            f"{kept.chance:.4f})"
        )
