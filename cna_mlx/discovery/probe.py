"""The gauge of many prompts, and how well it separates a contrast it has not seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cross_validation import HeldOutScores
from cna_mlx.discovery.gauge import gauges, is_calibrated
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import (
    Session,
    check_arms,
    circuit_entry,
    discover_model,
)
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.loading import ModelOptions
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.util.progress import SILENT, Progress, Reporter, silent
from cna_mlx.util.rows import Row, html_table

_TOKENS = 32_768


@dataclass(frozen=True)
class Probe:
    """Prompts with their gauges, the most refusable first.

    Attributes:
        circuit: what they were gauged along.
        is_calibrated: whether its held-out AUC was measured on these weights, with
            this rendering.
        gauges: (prompt, gauge) pairs: 0 as the answered prompts, 1 as the refused.
    """

    circuit: Circuit
    is_calibrated: bool
    gauges: tuple[tuple[str, float], ...]

    def rows(self) -> list[Row]:
        """A row for each prompt."""
        return [{"prompt": prompt, "gauge": value} for prompt, value in self.gauges]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "circuit": circuit_entry(self.circuit),
            "is_calibrated": self.is_calibrated,
            "held_out": self.circuit.provenance.to_json().get("held_out"),
            "results": self.rows(),
        }

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def probe(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    prompts: Sequence[str],
    *,
    rendering: Rendering | None = None,
    progress: Progress = silent,
) -> Probe:
    """Rank prompts by how likely the model is to refuse them; generates nothing.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: one that was discovered.
        prompts: user prompts.
        rendering: how prompts become token ids.
        progress: called after each batch of prompts.

    Raises:
        CircuitError: the circuit has no means, or does not fit the model.
        InputError: a prompt that is empty or too long.
    """
    rendering = rendering or Rendering()
    ids = [render_prompt(tokenizer, prompt, rendering) for prompt in prompts]
    check_lengths(model, ids)  # before the first batch: no work is thrown away
    values: list[float] = []
    for part in _parts(ids):
        values += gauges(model, circuit, part).tolist()
        progress("Gauging", len(values), len(ids))
    pairs = sorted(zip(prompts, values, strict=True), key=lambda pair: -pair[1])
    calibrated = is_calibrated(model, tokenizer, circuit, rendering)
    return Probe(circuit, calibrated, tuple(pairs))


def probe_model(
    model: str,
    prompts: Sequence[str],
    circuit: str | None,
    options: DiscoveryOptions,
    *,
    rendering: Rendering | None = None,
    source: ModelOptions | None = None,
    allow_transfer: bool = False,
    reporter: Reporter = SILENT,
) -> Probe:
    """Load a model and a circuit, and gauge prompts along it; see :func:`probe`.

    Args:
        model: as for :func:`cna_mlx.load`.
        prompts: user prompts.
        circuit: its file; None for the default circuit.
        options: which circuit is the default.
        rendering, source, allow_transfer, reporter: how it is done.

    Raises:
        InputError: the circuit has a multiplier.
        as :func:`probe`, :func:`cna_mlx.load`.
    """
    given = [circuit] if circuit else []
    check_arms(given)
    session = Session.open(
        model, rendering, source, allow_transfer=allow_transfer, reporter=reporter
    )
    if circuit:
        chosen = session.choose(circuit)
        if chosen.multiplier is not None:
            raise InputError("--circuit: a gauge takes no @M; it is not steered")
        found = chosen.circuit
    else:
        found = session.default_circuit(options)
    with reporter.progress("prompts") as progress:
        return probe(
            session.model,
            session.tokenizer,
            found,
            prompts,
            rendering=session.rendering,
            progress=progress,
        )


@dataclass(frozen=True)
class HeldOutProbe:
    """The gauge of a contrast's prompts, each by a circuit found without it."""

    contrast: PromptSet
    scores: HeldOutScores

    def rows(self) -> list[Row]:
        """A row for each prompt, the most refusable first."""
        contrast = self.contrast
        rows: list[Row] = [
            {"prompt": prompt, "side": label, "gauge": value}
            for label, prompts, values in (
                (contrast.positive_label, contrast.positive, self.scores.positive),
                (contrast.negative_label, contrast.negative, self.scores.negative),
            )
            for prompt, value in zip(prompts, values, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["gauge"])

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {
            "contrast": self.contrast.name,
            "held_out": self.scores.auc.to_json(),
            "layers": [
                {"layer": layer, **auc.to_json()}
                for layer, auc in self.scores.layers.items()
            ],
            "results": self.rows(),
        }


def probe_contrast(
    model: str,
    options: DiscoveryOptions,
    *,
    rendering: Rendering | None = None,
    source: ModelOptions | None = None,
    reporter: Reporter = SILENT,
) -> HeldOutProbe:
    """Load a model, and gauge a contrast's prompts, each by a circuit of the others.

    Args:
        model: as for :func:`cna_mlx.load`.
        options: the contrast and how its neurons are ranked.
        rendering, source: how prompts are rendered and the model is loaded.
        reporter: called while it works.

    Raises:
        InputError: a side has a single prompt, or prompts that cannot be used.
        as :func:`cna_mlx.load`.
    """
    found = discover_model(
        model, options, rendering=rendering, source=source, reporter=reporter
    )
    assert found.discovery is not None
    if found.discovery.held_out is None:
        raise InputError("a held-out gauge needs two prompts or more on each side")
    return HeldOutProbe(options.prompts(model), found.discovery.held_out)


def _parts(ids: list[list[int]]) -> Iterator[list[list[int]]]:
    """Prompts that go through the model together: this bounds what is held of each."""
    part: list[list[int]] = []
    for prompt in ids:
        if part and (sum(map(len, part)) + len(prompt)) > _TOKENS:
            yield part
            part = []
        part.append(prompt)
    yield part
