"""Activations in, circuit out: contrastive neuron attribution (arXiv 2605.12290)."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit, Moments, Neuron
from cna_mlx.discovery.activations import last_activations
from cna_mlx.discovery.cross_validation import Fold, HeldOut, HeldOutScores
from cna_mlx.discovery.selection import (
    DEFAULT_FRACTION,
    Rank,
    Selection,
    SplitHalf,
    TopNeurons,
    expected_overlap,
    overlap,
)
from cna_mlx.discovery.weight_norms import column_norms
from cna_mlx.errors import InputError, NonFiniteError
from cna_mlx.models.families import family_of, widths
from cna_mlx.models.fingerprint import fingerprint, quantization
from cna_mlx.models.loading import source_of
from cna_mlx.models.memory.allocation import allocation_errors
from cna_mlx.prompts import PromptSet, load_bank, load_contrast
from cna_mlx.prompts.chat_template import (
    Rendering,
    injected_system,
    reference_hash,
    render_prompt,
)
from cna_mlx.provenance import (
    AucEntry,
    ContrastEntry,
    ModelEntry,
    Provenance,
    RenderingEntry,
)
from cna_mlx.util.environment import versions
from cna_mlx.util.progress import Progress, silent

# A change in how a circuit is computed changes what caches may hold: count it up.
ALGORITHM = 1
_UNIVERSAL_SHARE = 0.8


@dataclass(frozen=True)
class Discovery:
    """A circuit and what finding it took.

    Attributes:
        circuit: the result.
        universal: every neuron that answers to any contrast, [layer, index] pairs;
            None where the filter was off.
        sizes: d_ff of each layer.
        split_half: None where a side has a single prompt.
        held_out: the gauge of each prompt along a circuit of other prompts; likewise.
        prompts: how many went through the model, the bank's included.
        seconds: wall time.
        peak_memory: the most memory held meanwhile, in bytes.
        folds: the circuits of the cross-validation, with what each held out; none
            where a side has a single prompt.
        magnitudes: mean |a| of every neuron over the negative prompts at the last
            token, for matched controls: [d_ff] for each layer that was ranked.
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
    magnitudes: Mapping[int, np.ndarray] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def warning(self) -> str | None:
        """What to say of a circuit that depends on which prompts it is made from."""
        half = self.split_half
        if half is None:
            return (
                "warning: one prompt a side: nothing says how reliable this circuit is"
            )
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
        return {
            "fingerprint": circuit.model.fingerprint,
            "n_layers": len(sizes),
            "d_ff": sizes[0] if len(set(sizes)) == 1 else list(sizes),
            "total_neurons": sum(sizes),
            "contrast": origin["contrast"],
            "rendering": origin["rendering"],
            "fraction": origin["fraction"],
            "rank": origin["rank"],
            "layers": origin["layers"],
            "k": circuit.k,
            "neurons": [list(neuron) for neuron in circuit.neurons],
            "universal_dropped": circuit.universal_dropped,
            "share_last_3_layers": self.share_of_last_layers(3),
            "share_last_quarter": self.share_of_last_layers(-(-len(sizes) // 4)),
            "split_half": half and half.jaccard,
            "split_half_chance": half and half.chance,
            "held_out": origin["held_out"],
            "expectation": origin.get("expectation"),
            "prompts": self.prompts,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
        }

    def share_of_last_layers(self, count: int) -> float:
        """The share of the circuit that lies in the model's last ``count`` layers."""
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
    rendering: Rendering | None = None,
    progress: Progress = silent,
) -> Circuit:
    """Find the neurons that tell one set of prompts from another.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        positive: prompts that show the behaviour, e.g. that the model refuses.
        negative: prompts that do not, matched to them in form.
        fraction: how many of the model's neurons to keep, in (0, 1].
        universal: leave out neurons that answer to any contrast.
        contrast: both sides in one: the name of a built-in contrast, or a
            :class:`PromptSet`.
        rank, layers: as in :class:`Selection`.
        rendering: how prompts become token ids.
        progress: called after each layer.

    Returns:
        The top ``max(1, round(fraction * N))`` neurons by |delta|, the difference of
        the mean activations at the last token, less the universal ones.

    Raises:
        InputError: an empty side, a prompt that is too long, a value out of range.
        NonFiniteError: NaN or infinite activations.
        UnsupportedModelError: the model's MLP blocks are of another kind.
    """
    if (contrast is None) == (positive is None and negative is None):
        raise InputError("give positive and negative prompts, or a contrast")
    if contrast is None:
        contrast = PromptSet.from_prompts(positive or (), negative or ())
    elif isinstance(contrast, str):
        contrast = load_contrast(contrast)
    selection = Selection(fraction, rank, layers, universal)
    return run_discovery(
        model, tokenizer, contrast, selection, rendering=rendering, progress=progress
    ).circuit


@allocation_errors()
def run_discovery(
    model: Any,
    tokenizer: Any,
    contrast: PromptSet,
    selection: Selection | None = None,
    *,
    rendering: Rendering | None = None,
    universal: frozenset[tuple[int, int]] | None = None,
    bank: Sequence[PromptSet] | None = None,
    progress: Progress = silent,
) -> Discovery:
    """Find a circuit, and tell how reliable it is and what it cost.

    The contrast, its odd and even halves and the bank go through the layers together.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        contrast: the prompts.
        selection: which neurons to keep.
        rendering: how prompts become token ids.
        universal: the universal neurons where they are already known.
        bank: the contrasts that define universal neurons; the built-in one if None.
        progress: told after each layer.

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
    walk = _Walk(sets, k, selection, model)
    try:
        for layer, activations in last_activations(model, ids):
            walk.take(layer, activations)
            del activations  # before the next layer's are made
            progress("Reading neurons", layer + 1, len(sizes))
    except NonFiniteError as error:
        name = _name_of(error.prompt, sets)
        raise NonFiniteError(error.layer, error.prompt, name) from None
    if search_bank:
        universal = walk.universal()
    dropped = (
        universal if selection.universal and universal is not None else frozenset()
    )
    top = walk.tops[0].best()
    kept = [entry for entry in top if entry[:2] not in dropped]
    split_half = walk.split_half(dropped)
    held_out = walk.held_out.result(dropped)
    peak = int(mx.get_peak_memory())
    circuit = Circuit(
        tuple(Neuron(layer, index, walk.delta(layer, index)) for layer, index in kept),
        tuple(walk.moments(layer, index) for layer, index in kept),
        model_entry(model, sizes),
        Provenance(
            _contrast_entry(contrast),
            rendering_entry(tokenizer, rendering),
            selection.fraction,
            selection.rank,
            selection.layers,
            selection.universal,
            tuple(n for n in top if n in dropped),
            split_half.jaccard if split_half else None,
            split_half.chance if split_half else None,
            AucEntry(*astuple(held_out.auc)) if held_out else None,
            ALGORITHM,
            versions(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            stored=Provenance.nulls("control", "seed", "expectation"),
        ),
    )
    seconds = time.perf_counter() - started
    return Discovery(
        circuit,
        universal if selection.universal else None,
        sizes,
        split_half,
        held_out,
        len(texts),
        seconds,
        peak,
        walk.held_out.folds(dropped),
        walk.magnitudes,
    )


def _name_of(prompt: int, sets: Sequence[PromptSet]) -> str:
    """A prompt as its author knows it, from its place among all of them."""
    for one in sets:
        sides = (one.positive_label, one.positive), (one.negative_label, one.negative)
        for label, prompts in sides:
            if prompt < len(prompts):
                return f"prompt {prompt + 1} of {one.name}, {label}"
            prompt -= len(prompts)
    raise IndexError(prompt)


@dataclass
class _Walk:
    """What is kept of each layer while the prompts go through the model."""

    sets: Sequence[PromptSet]
    k: int
    selection: Selection
    model: Any
    tops: list[TopNeurons] = field(init=False)
    halves: tuple[TopNeurons, TopNeurons] = field(init=False)
    held_out: HeldOut = field(init=False)
    magnitudes: dict[int, np.ndarray] = field(default_factory=dict)
    _kept: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tops = [TopNeurons(self.k) for _ in self.sets]
        self.halves = (TopNeurons(self.k), TopNeurons(self.k))
        self.held_out = HeldOut(self.sets[0].sizes, self.k, self.selection.fraction)
        layers = family_of(self.model).layers(self.model)
        self._band = self.selection.band(len(layers))

    def take(self, layer: int, activations: mx.array) -> None:
        """Use one layer's activations, [n_prompts, d_ff]."""
        if not self._band[0] <= layer <= self._band[1]:
            return
        start = 0
        weights = self._weights(layer)
        for number, (one, top) in enumerate(zip(self.sets, self.tops, strict=True)):
            positive = activations[start : start + len(one.positive)]
            start += len(one.positive)
            negative = activations[start : start + len(one.negative)]
            start += len(one.negative)
            if number == 0:
                self._keep(layer, positive, negative)
                score = partial(self._score, weights=weights)
                self.held_out.take(layer, positive, negative, score)
                for half, offset in zip(self.halves, (0, 1), strict=True):
                    odd = positive[offset::2], negative[offset::2]
                    if all(len(side) for side in odd):
                        half.take(layer, self._score(*odd, weights))
            top.take(layer, self._score(positive, negative, weights))

    def _score(
        self, positive: mx.array, negative: mx.array, weights: mx.array | None
    ) -> np.ndarray:
        score = mx.abs(positive.mean(axis=0) - negative.mean(axis=0))
        if self.selection.rank == "normalized":
            square = mx.concatenate([positive, negative]).square().mean()
            score = score / mx.maximum(mx.sqrt(square), 1e-30)
        elif weights is not None:
            score = score * weights
        return np.array(score)

    def _weights(self, layer: int) -> mx.array | None:
        if self.selection.rank != "weighted":
            return None
        return column_norms(family_of(self.model).layers(self.model)[layer].mlp)

    def _keep(self, layer: int, positive: mx.array, negative: mx.array) -> None:
        means = positive.mean(axis=0), negative.mean(axis=0)
        deviations = (mx.std(positive, axis=0), mx.std(negative, axis=0))
        self.magnitudes[layer] = np.array(mx.abs(negative).mean(axis=0))
        self._kept[layer] = tuple(
            np.array(part)
            for part in (
                means[0] - means[1],
                means[0],
                deviations[0],
                means[1],
                deviations[1],
            )
        )

    def delta(self, layer: int, index: int) -> float:
        return float(self._kept[layer][0][index])

    def moments(self, layer: int, index: int) -> Moments:
        return Moments(*(float(part[index]) for part in self._kept[layer][1:]))

    def universal(self) -> frozenset[tuple[int, int]]:
        """The neurons in the lists of nearly all contrasts of the bank."""
        needed = math.ceil(_UNIVERSAL_SHARE * len(self.tops[1:]))
        counts: dict[tuple[int, int], int] = {}
        for top in self.tops[1:]:
            for neuron in top.best():
                counts[neuron] = counts.get(neuron, 0) + 1
        return frozenset(n for n, count in counts.items() if count >= max(1, needed))

    def split_half(self, dropped: frozenset[tuple[int, int]]) -> SplitHalf | None:
        contrast = self.sets[0]
        if min(len(contrast.positive), len(contrast.negative)) < 2:
            return None
        odd, even = (set(half.best()) - dropped for half in self.halves)
        total = sum(len(kept[0]) for kept in self._kept.values())
        return SplitHalf(overlap(odd, even), expected_overlap(self.k, total))


def model_entry(model: Any, sizes: Sequence[int]) -> ModelEntry:
    """Which model this is, as circuits and runs record it."""
    source = source_of(model)
    return ModelEntry(
        source.name if source else None,
        source.revision if source else None,
        fingerprint(model),
        getattr(model, "model_type", type(model).__name__),
        quantization(model),
        tuple(sizes),
        stored=ModelEntry.nulls(),
    )


def _contrast_entry(contrast: PromptSet) -> ContrastEntry:
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
