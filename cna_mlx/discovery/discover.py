"""Find a circuit: contrastive neuron attribution (arXiv 2605.12290)."""

import math
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Details
from cna_mlx.discovery.activations import last_activations, last_residuals
from cna_mlx.discovery.cross_validation import Fold, HeldOutScores
from cna_mlx.discovery.deciding import Deciding
from cna_mlx.discovery.rankings import Difference, Ranking, Residual
from cna_mlx.discovery.reference import MAGNITUDE
from cna_mlx.discovery.selection import DEFAULT_FRACTION, Rank, Selection, SplitHalf
from cna_mlx.discovery.walk import Walk
from cna_mlx.errors import InputError, NonFiniteError
from cna_mlx.models.families import experts_of, widths
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.loading import source_of
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import (
    Rendering,
    injected_system,
    reference_hash,
    render_prompt,
)
from cna_mlx.provenance import ContrastEntry, ModelEntry, Provenance, RenderingEntry
from cna_mlx.util import ranks
from cna_mlx.util.environment import versions
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.records import plain

# What a circuit's file says of its rank, if there is anything to say.
_OF_RANK = ("positions", "openings", "causal_correlation")
# Count up when circuits are computed differently: cached ones are then not used.
ALGORITHM = 1
# Of ranks that read answers: 2 takes the phrases of labelled refusals.
_READING_ANSWERS = 2


def algorithm_of(selection: Selection) -> int:
    """The version of how a selection's circuits are computed."""
    return _READING_ANSWERS if selection.reads_answers else ALGORITHM


@dataclass(frozen=True)
class Discovery:
    """A circuit and what finding it took.

    Attributes:
        universal: every (layer, index) that responds to every contrast; None if the
            filter was off.
        sizes: d_ff of each layer.
        split_half, held_out: None if a side has a single prompt.
        prompts: how many went through the model, the bank's included.
        seconds: wall time.
        peak_memory: in bytes.
        folds: the circuits of the cross-validation, with what each held out.
        averages: of each ranked layer, as :func:`cna_mlx.discovery.reference.averages`.
        scores: of the circuit's neurons, by the rank.
    """

    circuit: Circuit
    universal: frozenset[tuple[int, int]] | None
    sizes: tuple[int, ...]
    split_half: SplitHalf | None
    held_out: HeldOutScores | None
    prompts: int
    seconds: float
    peak_memory: int
    folds: tuple[Fold, ...] = ()
    averages: Mapping[int, np.ndarray] = field(
        default_factory=dict, compare=False, repr=False
    )
    scores: tuple[float, ...] = ()

    @property
    def magnitudes(self) -> dict[int, np.ndarray]:
        """Mean |a| over the negative prompts, for matched controls: [d_ff] by layer."""
        return {layer: own[MAGNITUDE] for layer, own in self.averages.items()}

    @property
    def warning(self) -> str | None:
        """A warning if the circuit depends on which prompts it is found from."""
        half = self.split_half
        if half is None:
            return "warning: one prompt a side: how reliable the circuit is is unknown"
        if not half.is_low:
            return None
        return (
            f"warning: odd and even prompts overlap by only {half.jaccard:.2f}: which "
            "neurons are found depends on the prompts; more prompts help"
        )

    def to_dict(self) -> dict[str, Any]:
        """The circuit and what finding it took, for JSON."""
        circuit, sizes, half = self.circuit, self.sizes, self.split_half
        origin = circuit.provenance.to_dict()
        names = ("contrast", "rendering", "fraction", "rank", "layers")
        return {
            "fingerprint": circuit.model.fingerprint,
            "n_layers": len(sizes),
            "d_ff": sizes[0] if len(set(sizes)) == 1 else list(sizes),
            "total_neurons": sum(sizes),
            "active_neurons": circuit.model.active,
            **{name: origin[name] for name in names},
            "k": circuit.k,
            "neurons": [list(neuron) for neuron in circuit.neurons],
            "scores": plain(self.scores),
            "universal_dropped": circuit.universal_dropped,
            "share_last_3_layers": self.share_of_last_layers(3),
            "share_last_quarter": self.share_of_last_layers(-(-len(sizes) // 4)),
            "split_half": half and half.jaccard,
            "split_half_chance": half and half.chance,
            "held_out": origin["held_out"],
            "expectation": origin.get("expectation"),
            **{name: origin.get(name) for name in _OF_RANK},
            "prompts": self.prompts,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
        }

    def share_of_last_layers(self, count: int) -> float:
        """The share of the circuit in the model's last ``count`` layers."""
        neurons = self.circuit.neurons
        late = sum(n.layer >= len(self.sizes) - count for n in neurons)
        return late / len(neurons) if neurons else 0.0


def discover(
    model: Any,
    tokenizer: Any,
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    fraction: float = DEFAULT_FRACTION,
    universal: bool = True,
    *,
    contrast: str | PromptSet | None = None,
    rank: Rank = "delta",
    layers: tuple[int, int] | None = None,
    positions: int = 1,
    rendering: Rendering | None = None,
    progress: Progress = silent,
) -> Circuit:
    """Find the neurons that separate one set of prompts from another.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        positive: prompts that show the behaviour, e.g. that the model refuses.
        negative: prompts that do not, matched to them in form.
        fraction: how many of the model's neurons to keep, in (0, 1].
        universal: leave out neurons that respond to every contrast.
        contrast: both sides in one: the name of a built-in contrast, or a
            :class:`PromptSet`.
        rank, layers, positions: as in :class:`Selection`.
        rendering: how prompts become token ids.
        progress: called after each layer.

    Returns:
        The top ``max(1, round(fraction * N))`` neurons by |delta|, the difference of
        the mean activations at the last token, or by ``rank``, less the universal ones.

    Raises:
        InputError: an empty side, a prompt that is too long, a value out of range; a
            rank that reads answers, and refusals that begin like other answers.
        NonFiniteError: NaN or infinite activations.
        UnsupportedModelError: the model's MLP blocks are of another kind.
    """
    if (contrast is None) == (positive is None and negative is None):
        raise InputError("give positive and negative prompts, or a contrast")
    if contrast is None:
        contrast = PromptSet.from_prompts(positive or (), negative or ())
    elif isinstance(contrast, str):
        contrast = load_contrast(contrast)
    selection = Selection(fraction, rank, layers, universal, positions)
    return run_discovery(
        model, tokenizer, contrast, selection, rendering=rendering, progress=progress
    ).circuit


@wired()
def run_discovery(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    selection: Selection | None = None,
    *,
    rendering: Rendering | None = None,
    universal: frozenset[tuple[int, int]] | None = None,
    bank: Sequence[PromptSet] | None = None,
    kept: MutableMapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Discovery:
    """Find a circuit, how reliable it is and what it cost.

    The contrast, its odd and even halves and the bank go through the layers together.

    Args:
        model, tokenizer, rendering, progress: as for :func:`discover`.
        bank: the contrasts that define universal neurons; the built-in one if None.
        kept: finished work of ``--rank causal``, to resume by.

    Raises:
        as :func:`discover`.
    """
    started = time.perf_counter()
    selection, rendering = selection or Selection(), rendering or Rendering()
    sizes = widths(model)
    k = selection.k(sizes)
    mx.reset_peak_memory()
    search_bank = selection.universal and universal is None
    sets = [contrast, *((load_bank() if bank is None else bank) if search_bank else [])]
    texts = [text for one in sets for text in (*one.positive, *one.negative)]
    ids = [render_prompt(tokenizer, text, rendering) for text in texts]
    ranking, origin = ranking_of(
        model, tokenizer, contrast, selection, rendering, ids, k, kept, progress
    )
    walk = Walk(sets, k, selection, model, ranking)
    for layer, activations in read_layers(model, sets, ids, selection, progress):
        walk.take(layer, activations)
        del activations  # before the next layer's are made
    if search_bank:
        universal = walk.universal()
    universal = universal if selection.universal else None
    dropped = universal or frozenset()
    top = walk.scores
    scores = tuple(score for entry, score in top.items() if entry not in dropped)
    signed = scores if selection.is_signed else ()
    places = [entry for entry in top if entry not in dropped]
    chosen = [walk.neuron(*entry) for entry in places]
    details = tuple(
        walk.routed(*entry)._replace(score=score if math.isfinite(score) else None)
        for entry, score in zip(places, signed or [math.nan] * len(places), strict=True)
    )
    split_half, held_out = walk.split_half(dropped), walk.held_out.result(dropped)
    peak = int(mx.get_peak_memory())
    circuit = Circuit(
        tuple(neuron for neuron, _ in chosen),
        tuple(moments for _, moments in chosen),
        model_entry(model, sizes),
        Provenance(
            contrast_entry(contrast),
            rendering_entry(tokenizer, rendering),
            selection.fraction,
            selection.rank,
            selection.band(len(sizes)) if selection.is_signed else selection.layers,
            selection.universal,
            tuple(n for n in top if n in dropped),
            split_half.jaccard if split_half else None,
            split_half.chance if split_half else None,
            held_out.auc if held_out else None,
            algorithm_of(selection),
            versions(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            **origin,
            positions=selection.positions if selection.positions > 1 else None,
            stored=Provenance.nulls(
                *("control", "seed", "expectation", "search"),
                *_OF_RANK,
            ),
        ),
        details if any(one != Details() for one in details) else (),
    )
    return Discovery(
        circuit,
        universal,
        sizes,
        split_half,
        held_out,
        len(texts),
        time.perf_counter() - started,
        peak,
        walk.held_out.folds(dropped),
        walk.averages,
        scores,
    )


def ranking_of(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    selection: Selection,
    rendering: Rendering,
    ids: Sequence[Sequence[int]],
    k: int,
    kept: MutableMapping[str, Any] | None,
    progress: Progress,
) -> tuple[Ranking, dict[str, Any]]:
    """The ranking of a selection, and what a circuit's file says of it."""
    if not selection.is_signed:
        return Difference(model, selection.rank), {}
    if ranks.count() > 1:
        raise InputError(
            f"--rank {selection.rank} works on one machine: start it without "
            "mlx.launch, or take delta, normalized or weighted"
        )
    own = ids[: sum(contrast.sizes)]
    if selection.rank == "residual":
        return residual(model, contrast, selection, own, progress), {}
    found = Deciding.of(model, tokenizer, contrast, selection, rendering, own, progress)
    origin: dict[str, Any] = {"openings": found.openings}
    if selection.rank == "causal":
        ranking, agreement = found.causal(k, {} if kept is None else kept)
        return ranking, {**origin, "causal_correlation": agreement}
    return found.direct() if selection.rank == "direct" else found.influence(), origin


def residual(
    model: Any,
    contrast: PromptSet,
    selection: Selection,
    ids: Sequence[Sequence[int]],
    progress: Progress,
) -> Residual:
    """The ranking along the residual stream after the selection's last layer."""
    _, layer = selection.band(len(widths(model)))
    stream = last_residuals(
        model, ids, layer, positions=selection.positions, progress=progress
    )
    middle = len(contrast.positive)
    return Residual(model, (stream[:middle], stream[middle:]))


def read_layers(
    model: Any,
    sets: Sequence[PromptSet],
    ids: Sequence[Sequence[int]],
    selection: Selection,
    progress: Progress,
) -> Iterator[tuple[int, mx.array]]:
    """The activations of all prompts of the sets, layer by layer.

    See :func:`last_activations`. An error names the prompt's set.
    """
    reading = {"positions": selection.positions} if selection.positions > 1 else {}
    total = len(widths(model))
    try:
        for found in last_activations(model, ids, routed=True, **reading):
            yield found
            progress("Reading neurons", found[0] + 1, total)
            del found  # before the next layer's are made
    except NonFiniteError as error:
        name = _name_of(error.prompt, sets)
        raise NonFiniteError(error.layer, error.prompt, name) from None


def _name_of(prompt: int, sets: Sequence[PromptSet]) -> str:
    """A prompt's number and side in its set, from its place among all prompts."""
    for one in sets:
        sides = (one.positive_label, one.positive), (one.negative_label, one.negative)
        for label, prompts in sides:
            if prompt < len(prompts):
                return f"prompt {prompt + 1} of {one.name}, {label}"
            prompt -= len(prompts)
    raise IndexError(prompt)


def model_entry(model: Any, sizes: Sequence[int]) -> ModelEntry:
    """Which model this is, as circuits and runs record it."""
    source, layout = source_of(model), experts_of(model)
    return ModelEntry(
        source.name if source else None,
        source.revision if source else None,
        fingerprint(model),
        getattr(model, "model_type", type(model).__name__),
        quantization(model),
        tuple(sizes),
        layout if any(layout) else None,
        stored=ModelEntry.nulls("experts"),
    )


def contrast_entry(contrast: PromptSet) -> ContrastEntry:
    """Which prompts these are, as circuits record it."""
    return ContrastEntry(
        contrast.name,
        contrast.positive_label,
        contrast.negative_label,
        len(contrast.positive),
        len(contrast.negative),
        contrast.sha256,
    )


def rendering_entry(tokenizer: Any, rendering: Rendering) -> RenderingEntry:
    """How prompts are rendered, as circuits and runs record it."""
    return RenderingEntry(
        **rendering.to_dict(),
        injected_system=injected_system(tokenizer, rendering),
        reference_sha256=reference_hash(tokenizer, rendering),
    )
