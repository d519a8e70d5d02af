"""A model and its circuits."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import CachedCircuit, Store, keep
from cna_mlx.discovery.chosen import ChosenCircuit, check_arms, check_pin, split_circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.reference import Reference, reference
from cna_mlx.discovery.trial import expect
from cna_mlx.discovery.trial_text import expectation_lines
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import DEMO_NAMES, ModelOptions, Source, load, source_of
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.memory.plan import Plan
from cna_mlx.models.offload.streaming import is_streamed
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, uses_template
from cna_mlx.steering.arms import Arm
from cna_mlx.strength import Pin, Strength, arm_label, as_typed
from cna_mlx.util.files import File, check_writable, without_home
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter


@dataclass(frozen=True)
class Session:
    """A model, loaded on first use, and how to work with it.

    Attributes:
        name: as for :func:`cna_mlx.load`.
        rendering: how prompts become token ids.
        source: how the model is loaded.
        allow_transfer: accept circuits of other weights of the same shape.
        reporter: called during long work.
    """

    name: str
    rendering: Rendering = field(default_factory=Rendering)
    source: ModelOptions = field(default_factory=ModelOptions)
    allow_transfer: bool = False
    reporter: Reporter = SILENT
    _loaded: list[tuple[Any, Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", without_home(self.name))

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        rendering: Rendering | None = None,
        reporter: Reporter = SILENT,
    ) -> "Session":
        """Make a session of a loaded model."""
        source = source_of(model)
        name = source.name if source else type(model).__name__
        session = cls(name, rendering or Rendering(), reporter=reporter)
        session._loaded.append((model, tokenizer))
        return session

    @property
    def model(self) -> Any:
        """mlx-lm's model; see :meth:`load`."""
        return self.load()[0]

    @property
    def tokenizer(self) -> Any:
        """mlx-lm's tokenizer wrapper; see :meth:`load`."""
        return self.load()[1]

    def load(self) -> tuple[Any, Any]:
        """Load the model and its tokenizer on the first call."""
        if not self._loaded:
            report, source = self.reporter, self.source
            report.note(f"loading {self.name}")
            with report.progress("bytes") as progress:
                model, tokenizer = load(
                    self.name,
                    source.revision,
                    offline=source.offline,
                    stream=source.stream,
                    progress=progress,
                    planned=lambda plan: _announce(plan, report),
                )
            _report_source(source_of(model), report)
            is_chosen = self.rendering.template != "auto"
            if not uses_template(tokenizer, self.rendering) and not is_chosen:
                report.note(
                    "no chat template: the model continues prompts as plain text"
                )
            self._loaded.append((model, tokenizer))
        return self._loaded[0]

    def unload(self) -> None:
        """Free the model's memory; the next use loads it again."""
        import mlx.core as mx

        self._loaded.clear()
        gc.collect()
        mx.clear_cache()

    @wired()
    def discover(
        self, options: DiscoveryOptions, output: File | None = None
    ) -> CachedCircuit:
        """Find the model's circuit, even if it is cached, and write it to ``output``.

        With ``options.expect``, writes it before and after its trial.
        """
        check_writable(output)
        contrast, selection = options.prompts(self.name), options.selection(self.name)
        selection.k(widths(self.model))
        found = self.find(options, contrast, refresh=True)
        if output:
            found.circuit.save(output)
        if options.expect:
            found = self.try_out(found, contrast)
            if output:
                found.circuit.save(output)
        return found

    def find(
        self, options: DiscoveryOptions, contrast: PromptSet, *, refresh: bool = False
    ) -> CachedCircuit:
        """The circuit of this model and contrast, cached or discovered."""
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

    def reference(self, contrast: PromptSet) -> Reference:
        """The averages over a contrast: a discovery's, kept ones, or read now."""
        store, asked = Store(), (*self.load(), contrast, self.rendering)
        found = store.reference(*asked)
        if found is None:
            self.reporter.note(f"reading {contrast.name} for the controls")
            with self.reporter.progress("layers") as progress:
                found = reference(*asked, progress)
            store.keep_reference(*asked, found)
        return found

    def try_out(self, found: CachedCircuit, contrast: PromptSet) -> CachedCircuit:
        """Try a new circuit on held-out prompts, and save the result in its file.

        Ctrl-C ends only the trial: the circuit is in the cache.
        """
        report = self.reporter
        if found.discovery is None:
            return found
        if is_streamed(self.model):
            report.note("circuit not tried: generation needs all weights in memory")
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
        if expectation is not None and expectation.is_enough:
            return keep(found, expectation.written_into(found.circuit))
        end = "was skipped"
        if expectation is not None:
            answered = f"{expectation.prompts} of {expectation.planned}"
            end = f"ended after {answered} prompts, too few to say anything"
        if expectation is not None or report.stop():
            chosen = f" --circuit {without_home(found.path)}" if found.path else ""
            report.warn(
                f"the trial of the circuit {end}: cna-mlx diff {self.name}{chosen} -p "
                f"PROMPT tries it, cna-mlx eval {self.name}{chosen} measures it"
            )
        return found

    @wired()
    def default_circuit(self, options: DiscoveryOptions) -> Circuit:
        """The default circuit; reports its source."""
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
            found = self.try_out(found, contrast)
            report_expectation(found.circuit, self.reporter)
        return found.circuit

    def _report_found(self, found: CachedCircuit) -> None:
        count = counted(len(found.circuit.neurons), "neuron")
        if found.discovery is None:
            self.reporter.note(f"{count} cached: {found.path}")
            return
        kept = f"saved to {found.path}" if found.path else "could not be saved"
        took = f"{found.discovery.seconds:.1f} s"
        self.reporter.note(f"discovered {count} in {took}, {kept}")
        if found.discovery.warning:
            self.reporter.warn(found.discovery.warning)

    def choose(self, circuit: File | Circuit) -> ChosenCircuit:
        """Check a circuit or ``FILE[@M]`` against the model; M may be a pin.

        Raises:
            CircuitError: it cannot be read, does not fit, or cannot be pinned so.
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
        if isinstance(multiplier, Pin):
            check_pin(found, multiplier, path)
        return ChosenCircuit(found, multiplier, path)

    def check(self, circuit: Circuit) -> None:
        """Raise CircuitError if a circuit does not fit the model."""
        circuit.check_model(
            widths(self.model),
            fingerprint(self.model),
            self.allow_transfer,
            experts_of(self.model),
        )

    def steered_arms(
        self,
        options: DiscoveryOptions,
        circuits: Sequence[str],
        multipliers: Sequence[Strength],
    ) -> list[Arm]:
        """Each circuit at its own multiplier or all of these; else the default one."""
        check_arms(circuits, multipliers)
        chosen = [self.choose(text) for text in circuits]
        owns = [one.multiplier for one in chosen]
        if chosen and None not in owns and (unused := set(multipliers) - set(owns)):
            said = ", ".join(f"@{as_typed(own)}" for own in owns if own is not None)
            first = next(one for one in multipliers if one in unused)
            raise InputError(
                f"--circuit has {said}, but -m has {as_typed(first)}: "
                "give one of the two"
            )
        if not chosen:
            chosen = [ChosenCircuit(self.default_circuit(options))]
        arms: list[Arm] = []
        for one in chosen:
            values = one.multipliers(multipliers)
            prefix = f"{one.name} " if len(chosen) > 1 else ""
            labels = [f"{prefix}{arm_label(m)}" for m in values]
            arms += map(Arm.of, [one.circuit] * len(values), values, labels)
        if len({arm.label for arm in arms}) < len(arms):
            raise InputError("a circuit is given twice with the same multiplier")
        return arms


def report_expectation(circuit: Circuit, reporter: Reporter) -> None:
    """Report what a circuit's trial showed, if it has one."""
    lines = expectation_lines(circuit)
    for line in lines[:1]:
        reporter.note(f"expect: {line}")
    for line in lines[1:]:
        reporter.warn(line)


def _announce(plan: Plan, reporter: Reporter) -> None:
    if plan.name in DEMO_NAMES:  # a few megabytes
        return
    reporter.note(str(plan))
    if plan.duration:
        reporter.note(plan.duration)
    if plan.warning:
        reporter.warn(plan.warning)


def _report_source(source: Source | None, reporter: Reporter) -> None:
    """Report what the Hub says of a cached model, and what ends its answers."""
    if source and source.renamed_to:
        reporter.note(f"{source.name} is now {source.renamed_to} on the Hub")
    if source and source.moved_to and source.revision:
        reporter.warn(
            f"{source.name} has a newer revision {source.moved_to[:7]} on the Hub; "
            f"using the cached {source.revision[:7]} (--revision main fetches the new "
            "one)"
        )
    if source and source.turn_end:
        reporter.warn(
            f"the chat template ends a turn with {source.turn_end}, which config.json "
            "does not list in eos_token_id: answers end there too"
        )


def _report_overlap(found: CachedCircuit, reporter: Reporter) -> None:
    """Report the overlap with the circuit of an earlier revision."""
    if (kept := found.kept_from_previous) and found.previous:
        old, new = (str(one.model.revision) for one in (found.previous, found.circuit))
        reporter.note(
            f"the model moved from {old[:7]} to {new[:7]}: the new circuit shares "
            f"{kept.jaccard:.2f} of the old one's neurons (Jaccard; chance "
            f"{kept.chance:.4f})"
        )
