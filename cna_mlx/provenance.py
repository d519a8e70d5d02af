"""Records of a model, its rendering and a circuit's origin, for circuits and runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cna_mlx.util.records import Record


@dataclass(frozen=True)
class ModelEntry(Record):
    """The model of a circuit or a run; all None for a circuit made by hand.

    Attributes:
        id, revision: a hub id and its commit, or a directory and None.
        fingerprint: a hash of the weights.
        architecture: the ``model_type``.
        quantization: how the weights are stored.
        d_ff: MLP neurons of each layer.
    """

    WRITES_NULL: ClassVar[bool] = False

    id: str | None = None
    revision: str | None = None
    fingerprint: str | None = None
    architecture: str | None = None
    quantization: str | None = None
    d_ff: tuple[int, ...] | None = None

    @property
    def total(self) -> int | None:
        """The model's total number of neurons."""
        return None if self.d_ff is None else sum(self.d_ff)


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
