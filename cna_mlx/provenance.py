"""Records of a model, its rendering and a circuit's origin, for circuits and runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cna_mlx.errors import InputError
from cna_mlx.util.records import Record

#: Of each layer how many experts it has, of how many neurons each, and how many a token
#: uses; None for a layer without.
Experts = Sequence[tuple[int, int, int] | None]


@dataclass(frozen=True)
class ModelEntry(Record):
    """The model of a circuit or a run; all None for a circuit made by hand.

    Attributes:
        id, revision: a hub id and its commit, or a directory and None.
        fingerprint: a hash of the weights.
        architecture: the ``model_type``.
        quantization: how the weights are stored.
        d_ff: MLP neurons of each layer, all experts' included.
        experts: of a mixture, how many experts each layer has (a shared one is not
            counted), of how many neurons each, and how many a token uses; None for a
            layer without.
    """

    WRITES_NULL: ClassVar[bool] = False

    id: str | None = None
    revision: str | None = None
    fingerprint: str | None = None
    architecture: str | None = None
    quantization: str | None = None
    d_ff: tuple[int, ...] | None = None
    experts: tuple[tuple[int, int, int] | None, ...] | None = None

    def expert_of(self, layer: int, index: int) -> tuple[int | None, int]:
        """The expert that holds a neuron of a layer, and its place there.

        None for the expert if the layer has none, and for the shared one.
        """
        count, width, _ = self._layer(layer)
        expert = index // width if index < count * width else None
        return expert, index - width * (count if expert is None else expert)

    def index_of(self, layer: int, expert: int | None, index: int) -> int:
        """The number in its layer of an expert's neuron; the shared expert's for None.

        Raises:
            LookupError: the layer lacks that expert, or the expert that neuron.
        """
        count, width, _ = self._layer(layer)
        if expert is None:
            rest = self.d_ff[layer] - count * width if self.d_ff else index + 1
            if 0 <= index < rest:
                return count * width + index
        elif 0 <= expert < count and 0 <= index < width:
            return expert * width + index
        raise LookupError(
            f"neuron {index}" if expert is None else f"expert {expert}, neuron {index}"
        )

    def neuron_name(self, layer: int, index: int) -> str:
        """A neuron of a layer as people see it: ``407``, ``5:7``, ``shared:7``."""
        widths = (self.d_ff or ())[layer : layer + 1]
        if not self._layer(layer)[0] or (widths and index >= widths[0]):
            return str(index)
        expert, own = self.expert_of(layer, index)
        return f"{'shared' if expert is None else expert}:{own}"

    @property
    def neuron_title(self) -> str:
        """The heading over the names of neurons."""
        return "expert:neuron" if self.experts else "neuron"

    def index_of_name(self, layer: int, name: str) -> int:
        """The number in its layer of a neuron as :meth:`neuron_name` writes it.

        Raises:
            InputError: it does not name a neuron of that layer.
        """
        expert, _, own = name.rpartition(":")
        try:
            if not expert:
                return int(own)
            number = None if expert == "shared" else int(expert)
            return self.index_of(layer, number, int(own))
        except (ValueError, LookupError):
            raise InputError(
                f"{name} is not a neuron of layer {layer}: give its number, or "
                "EXPERT:NUMBER in a mixture of experts"
            ) from None

    def _layer(self, layer: int) -> tuple[int, int, int]:
        own = self.experts[layer : layer + 1] if self.experts else ()
        return (own and own[0]) or (0, 1, 0)

    @property
    def shape(self) -> tuple[tuple[int, ...], ...] | None:
        """Of each layer: d_ff, and how many experts it has, of how many neurons each.

        Neurons of models of one shape can be told apart by (layer, index) alone.
        """
        if self.d_ff is None:
            return None
        layers = enumerate(self.d_ff)
        return tuple((width, *self._layer(layer)[:2]) for layer, width in layers)

    @property
    def total(self) -> int | None:
        """The model's total number of neurons."""
        return None if self.d_ff is None else sum(self.d_ff)

    @property
    def active(self) -> int | None:
        """How many of them a token uses, if the model has experts."""
        if not self.experts or self.d_ff is None:
            return None
        idle = sum((one[0] - one[2]) * one[1] for one in self.experts if one)
        return sum(self.d_ff) - idle


@dataclass(frozen=True)
class ContrastEntry(Record):
    """The prompts of a discovery: their name, the sizes of the sides, a hash."""

    name: str | None = None
    positive_label: str | None = None
    negative_label: str | None = None
    positive: int | None = None
    negative: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class RenderingEntry(Record):
    """How prompts were rendered; see :class:`cna_mlx.Rendering`.

    Attributes:
        injected_system: the system prompt that the template adds.
        reference_sha256: a hash of a reference prompt's ids.
    """

    template: str | None = None
    system: str | None = None
    thinking: bool | None = None
    date: str | None = None
    injected_system: str | None = None
    reference_sha256: str | None = None


@dataclass(frozen=True)
class Auc(Record):
    """How well a score separates two groups, 0.5 not at all and 1 perfectly.

    ``auc`` is the chance that a random positive scores above a random negative;
    ``low`` and ``high`` are its 95% interval.
    """

    auc: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The AUC."""
        return self.auc


@dataclass(frozen=True)
class Provenance(Record):
    """The origin of a circuit; all None if it is made by hand.

    Attributes:
        rank, layers: the selection; ``layers`` is the first and the last layer of the
            band, None for all.
        universal_dropped: [layer, index] of the universal neurons left out.
        split_half, split_half_chance: overlap of the circuits of the odd and the even
            prompts, and of random ones.
        held_out: how well the gauge separates held-out prompts.
        algorithm: the version of the discovery.
        created: when, in ISO 8601.
        positions: the last prompt tokens that were scored; None for the last one.
        openings: token ids of the phrases that begin the model's refusals, if the rank
            rests on them.
        causal_correlation: of ``causal``, the rank correlation of influence with the
            exact effect of the same change, over the candidates (Spearman).
        control, seed: the kind and the seed of a random control.
        expectation: the result of a trial on held-out prompts; see
            :class:`cna_mlx.discovery.trial_counts.Expectation`.
        search: how a search chose it, and what it found on the prompts that the search
            did not use; see :mod:`cna_mlx.search`.
        made_from: the circuits that it was combined or shrunk from, and how; see
            :mod:`cna_mlx.circuit_sets`.
    """

    WRITES_NULL: ClassVar[bool] = False

    contrast: ContrastEntry | None = None
    rendering: RenderingEntry | None = None
    fraction: float | None = None
    rank: str | None = None
    layers: tuple[int, ...] | None = None
    universal: bool | None = None
    universal_dropped: tuple[tuple[int, ...], ...] | None = None
    split_half: float | None = None
    split_half_chance: float | None = None
    held_out: Auc | None = None
    algorithm: int | None = None
    versions: Mapping[str, str] | None = None
    created: str | None = None
    control: str | None = None
    seed: int | None = None
    expectation: Mapping[str, Any] | None = None
    positions: int | None = None
    openings: tuple[tuple[int, ...], ...] | None = None
    causal_correlation: float | None = None
    search: Mapping[str, Any] | None = None
    made_from: Mapping[str, Any] | None = None

    def only(self, *names: str) -> "Provenance":
        """These entries, written as null if they are None."""
        values = {name: getattr(self, name) for name in names}
        return Provenance(**values, stored=dict.fromkeys(names))
