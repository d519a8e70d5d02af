"""What several commands need: a loaded model, its circuits, paths that will do."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.expecting import say_expectation, with_expectation
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.discovery.cache import CachedCircuit, Store
from cna_mlx.errors import CircuitError, InputError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import DEMO_NAMES, Source, load, source_of
from cna_mlx.models.memory.plan import Plan
from cna_mlx.models.offload.streaming import is_streamed
from cna_mlx.prompts import (
    PromptSet,
)
from cna_mlx.prompts.chat_template import Rendering, reference_hash, uses_template
from cna_mlx.steering.arms import Arm
from cna_mlx.ui.console import screen
from cna_mlx.ui.progress import download_bar, progress_bar
from cna_mlx.ui.tables import reliability_warning
from cna_mlx.util.files import is_there, typed_path
from cna_mlx.util.formatting import counted

_AS_IT_IS = ModelOptions()


@dataclass(frozen=True)
class Session:
    """A loaded model and how its prompts are rendered."""

    name: str
    model: Any
    tokenizer: Any
    rendering: Rendering
    allow_transfer: bool = False
    # the file of each circuit that was loaded, by its identity
    files: dict[int, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        name: str,
        options: RenderingOptions,
        allow_transfer: bool = False,
        source: ModelOptions = _AS_IT_IS,
    ) -> "Session":
        """Load a model; says so, since it can take a while, and what it needs.

        Raises:
            as :func:`cna_mlx.load`; InputError: --chat-template on, and there is none.
        """
        rendering = options.rendering()
        screen().note(f"loading {name}")
        with download_bar() as progress:
            model, tokenizer = load(
                name,
                source.revision,
                offline=source.offline,
                stream=source.stream,
                progress=progress,
                planned=_announce,
            )
        _tell_news(source_of(model))
        uses_template(tokenizer, rendering)
        return cls(name, model, tokenizer, rendering, allow_transfer)

    def find(
        self, options: SelectionOptions, *, contrast: PromptSet, refresh: bool = False
    ) -> CachedCircuit:
        """The circuit of this model and contrast, from the store or discovered."""
        with progress_bar("layers") as progress:
            found = Store().find_or_discover(
                self.model,
                self.tokenizer,
                contrast,
                options.selection(self.name),
                self.rendering,
                refresh=refresh,
                progress=progress,
            )
        _tell_overlap(found)
        return found

    def expected(self, found: CachedCircuit, contrast: PromptSet) -> CachedCircuit:
        """The same, with what to expect of it where it is fresh; Ctrl-C skips that."""
        if is_streamed(self.model):
            screen().note(
                "what to expect of this circuit is not tried: answers need all weights "
                "in memory"
            )
            return found
        return with_expectation(
            self.model, self.tokenizer, self.rendering, contrast, found
        )

    def default_circuit(self, options: SelectionOptions) -> Circuit:
        """The circuit to use where none was named; says where it came from."""
        contrast = options.prompts(self.name)
        options.selection(self.name).k(widths(self.model))
        positive, negative = contrast.sizes
        screen().note(
            f"no --circuit: the default one, {contrast.name} "
            f"({positive}/{negative} prompts)"
        )
        found = self.find(options, contrast=contrast)
        count = counted(len(found.circuit.neurons), "neuron")
        if found.discovery is None:
            screen().note(f"{count} from the store: {found.path}")
            if options.expect:
                say_expectation(found.circuit)
            return found.circuit
        kept = f"kept in {found.path}" if found.path else "could not be stored"
        took = f"{found.discovery.seconds:.1f} s"
        screen().note(f"discovered {count} in {took}, {kept}")
        if warning := reliability_warning(found.discovery):
            screen().note(warning, style="yellow")
        if options.expect:
            found = self.expected(found, contrast)
            say_expectation(found.circuit)
        return found.circuit

    def load_circuit(self, text: str) -> tuple[Circuit, float | None]:
        """A circuit from ``FILE`` or ``FILE@M``, checked against the model.

        Raises:
            CircuitError: it cannot be read or does not fit.
            InputError: the multiplier is no finite number.
        """
        path, multiplier = split_circuit(text)
        circuit = Circuit.load(path)
        try:
            circuit.check_model(
                widths(self.model), fingerprint(self.model), self.allow_transfer
            )
        except CircuitError as error:
            raise type(error)(f"{path}: {error}") from None
        self.files[id(circuit)] = path
        return circuit, multiplier

    def steered_arms(
        self,
        options: SelectionOptions,
        circuits: Sequence[str],
        multipliers: Sequence[float],
    ) -> list[Arm]:
        """Each circuit at its own multiplier, or at every -m; the default one if none.

        Raises:
            CircuitError, InputError: as :meth:`load_circuit`; an arm is there twice.
        """
        chosen: list[tuple[str, Circuit, float | None]] = [
            (text, *self.load_circuit(text)) for text in circuits
        ]
        owns = [own for _, _, own in chosen]
        if chosen and None not in owns and (unused := set(multipliers) - set(owns)):
            said = ", ".join(f"@{own:g}" for own in owns if own is not None)
            raise InputError(
                f"--circuit says {said} and -m {min(unused):g}: give one of them"
            )
        if not chosen:
            chosen = [("", self.default_circuit(options), None)]
        arms = []
        for text, circuit, own in chosen:
            values = [own] if own is not None else list(multipliers or [0.0])
            name = f"{text.rpartition('@')[0] if own is not None else text} "
            prefix = name if len(chosen) > 1 else ""
            arms += [Arm.of(circuit, m, f"{prefix}m={m:.15g}") for m in values]
        if len({arm.label for arm in arms}) < len(arms):
            raise InputError("the same circuit and multiplier were asked for twice")
        return arms

    def is_calibrated(self, circuit: Circuit) -> bool:
        """Whether a gauge was measured on these weights, with this rendering."""
        own = circuit.provenance.rendering
        reference = reference_hash(self.tokenizer, self.rendering)
        return (
            circuit.model.fingerprint == fingerprint(self.model)
            and own is not None
            and own.reference_sha256 == reference
        )


def _announce(plan: Plan) -> None:
    if plan.name in DEMO_NAMES:  # some megabytes
        return
    screen().note(str(plan))
    if plan.duration:
        screen().note(plan.duration)
    if plan.warning:
        screen().note(plan.warning, style="yellow")


def _tell_news(source: Source | None) -> None:
    """What the Hub says of a model that was here already."""
    if source and source.renamed_to:
        screen().note(f"{source.name} is {source.renamed_to} on the Hub by now")
    if source and source.moved_to and source.revision:
        screen().note(
            f"{source.name} has moved to {source.moved_to[:7]} on the Hub; this is "
            f"{source.revision[:7]}, which was here (--revision main fetches the new "
            "one)",
            style="yellow",
        )


def _tell_overlap(found: CachedCircuit) -> None:
    """How much of an earlier revision's circuit is in the one of this revision."""
    if (kept := found.kept_from_previous) and found.previous:
        old, new = (str(one.model.revision) for one in (found.previous, found.circuit))
        screen().note(
            f"the model moved from {old[:7]} to {new[:7]}: the new circuit shares "
            f"{kept.jaccard:.2f} of the old one's neurons (Jaccard; chance "
            f"{kept.chance:.4f})"
        )


def split_circuit(text: str) -> tuple[str, float | None]:
    """``FILE`` or ``FILE@M`` to a path and a multiplier.

    Raises:
        InputError: the multiplier is no finite number.
    """
    path, at, number = text.rpartition("@")
    if not at or is_there(text):
        return text, None
    try:
        multiplier = float(number)
    except ValueError:
        multiplier = math.nan
    if not math.isfinite(multiplier):
        raise InputError(f"--circuit {text}: {number!r} is no finite multiplier")
    return path, multiplier


def circuit_entry(circuit: Circuit, file: str | None) -> dict[str, Any]:
    """Which circuit a result is of, as the JSON of the commands has it."""
    origin = circuit.provenance.to_json()
    return {
        "file": file,
        "fingerprint": circuit.model.fingerprint,
        "neurons": len(circuit.neurons),
        "k": circuit.k,
        **{key: origin.get(key) for key in ("contrast", "fraction", "rank", "layers")},
    }


def check_writable(path: str | None) -> None:
    """See that a file can be written before the work for it is done.

    Raises:
        InputError: its directory does not exist or may not be written to, or it is a
            directory itself.
    """
    if path is None:
        return
    if typed_path(path).is_dir():
        raise InputError(f"{path} is a directory; give the name of a file in it")
    parent = typed_path(path).parent
    if not parent.is_dir():
        raise InputError(f"{path}: cannot be written (there is no directory {parent})")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be written ({parent} is read-only)")


def check_circuit_files(texts: Sequence[str]) -> None:
    """Read circuits for a first time, before a model is loaded for nothing.

    Raises:
        CircuitError, InputError: as :meth:`Session.load_circuit`.
    """
    for text in texts:
        Circuit.load(split_circuit(text)[0])


def one_width(sizes: Sequence[int]) -> int | list[int]:
    """d_ff as a number where all layers have the same, else layer by layer."""
    return sizes[0] if len(set(sizes)) == 1 else list(sizes)
