"""Gauge many prompts, and measure how well the gauge separates a held-out contrast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.chosen import circuit_entry
from cna_mlx.discovery.cross_validation import HeldOutScores
from cna_mlx.discovery.gauge import gauges, is_calibrated
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.discovery.strip import Word, largest_rise
from cna_mlx.discovery.words import word_gauges
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths
from cna_mlx.models.memory.machine import wired
from cna_mlx.models.offload.streaming import is_streamed
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.first_tokens import FirstTokens, first_tokens
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.rows import Row, html_table

_TOKENS = 32_768


@dataclass(frozen=True)
class Look:
    """A closer look at one prompt.

    Attributes:
        words: each with the gauge of the prompt up to it.
        first: what answers begin with, unsteered and with the circuit ablated; None
            if the weights are on the disk.
    """

    words: tuple[Word, ...]
    first: FirstTokens | None

    def to_dict(self) -> dict[str, Any]:
        """The look for JSON."""
        rise = largest_rise(self.words)
        return {
            "words": [word._asdict() for word in self.words],
            "largest_rise": rise and {"word": rise[0], "by": rise[1]},
            "first_tokens": self.first and self.first.to_dict(),
        }


@dataclass(frozen=True)
class Probe:
    """Prompts with their gauges, the most likely refused first.

    Attributes:
        circuit: the circuit of the gauge.
        is_calibrated: whether its held-out AUC was measured on these weights, with
            this rendering.
        gauges: (prompt, gauge) pairs: 0 as the answered prompts, 1 as the refused.
        looks: a closer look at each of these prompts, in the same order, if asked for.
    """

    circuit: Circuit
    is_calibrated: bool
    gauges: tuple[tuple[str, float], ...]
    looks: tuple[Look, ...] = ()

    def rows(self) -> list[Row]:
        """A row for each prompt."""
        return [{"prompt": prompt, "gauge": value} for prompt, value in self.gauges]

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        results = self.rows()
        for row, look in zip(results, self.looks, strict=False):
            row.update(look.to_dict())
        return {
            "circuit": circuit_entry(self.circuit),
            "is_calibrated": self.is_calibrated,
            "held_out": self.circuit.provenance.to_dict().get("held_out"),
            "results": results,
        }

    def _repr_html_(self) -> str:
        return html_table(self.rows())


@wired()
def probe(
    model: Any,
    tokenizer: Any,
    circuit: Circuit,
    prompts: Sequence[str],
    *,
    rendering: Rendering | None = None,
    verbose: bool = False,
    progress: Progress = silent,
) -> Probe:
    """Rank prompts by how likely the model is to refuse them; generates nothing.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        circuit: a discovered circuit.
        prompts: user prompts.
        rendering: how prompts become token ids.
        verbose: also gauge each prompt word by word, and say what its answers begin
            with, with and without the circuit.
        progress: called after each batch of prompts.

    Raises:
        CircuitError: the circuit has no means, or does not fit the model.
        InputError: a prompt is empty or too long.
    """
    rendering = rendering or Rendering()
    ids = [render_prompt(tokenizer, prompt, rendering) for prompt in prompts]
    check_lengths(model, ids)  # before the first batch
    values: list[float] = []
    for part in _parts(ids):
        values += gauges(model, circuit, part).tolist()
        progress("Gauging", len(values), len(ids))
    pairs = sorted(zip(prompts, values, strict=True), key=lambda pair: -pair[1])
    calibrated = is_calibrated(model, tokenizer, circuit, rendering)
    looks: list[Look] = []
    for prompt, _ in pairs if verbose else ():
        looks.append(_look(model, tokenizer, circuit, prompt, rendering))
        progress("Looking at words", len(looks), len(pairs))
    return Probe(circuit, calibrated, tuple(pairs), tuple(looks))


def _look(
    model: Any, tokenizer: Any, circuit: Circuit, prompt: str, rendering: Rendering
) -> Look:
    """Gauge a prompt word by word, and its first tokens with and without a circuit."""
    messages = [{"role": "user", "content": prompt}]
    words = word_gauges(model, tokenizer, circuit, messages, rendering)
    if is_streamed(model):
        return Look(words, None)
    arms = [BASELINE, Arm.of(circuit, circuit.intervention or 0.0, "ablated")]
    ids = render_prompt(tokenizer, prompt, rendering)
    return Look(words, first_tokens(model, tokenizer, ids, arms))


def probe_prompts(
    session: Session,
    prompts: Sequence[str],
    circuit: str | None,
    options: DiscoveryOptions,
    *,
    verbose: bool = False,
) -> Probe:
    """Gauge prompts along a circuit file, or the default circuit; see :func:`probe`."""
    if circuit is None:
        found = session.default_circuit(options)
    else:
        chosen = session.choose(circuit)
        if chosen.multiplier is not None:
            raise InputError(
                "--circuit: leave out the part after @: a gauge does not steer"
            )
        found = chosen.circuit
    with session.reporter.progress("prompts") as progress:
        return probe(
            *session.load(),
            found,
            prompts,
            rendering=session.rendering,
            verbose=verbose,
            progress=progress,
        )


@dataclass(frozen=True)
class HeldOutProbe:
    """The gauge of a contrast's prompts, each by a circuit found without it."""

    contrast: PromptSet
    scores: HeldOutScores

    def rows(self) -> list[Row]:
        """A row for each prompt, the most likely refused first."""
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
            "held_out": self.scores.auc.to_dict(),
            "layers": [
                {"layer": layer, **auc.to_dict()}
                for layer, auc in self.scores.layers.items()
            ],
            "results": self.rows(),
        }


def probe_contrast(session: Session, options: DiscoveryOptions) -> HeldOutProbe:
    """Gauge the prompts of a contrast, each along a circuit found without it."""
    discovery = session.discover(options).discovery
    if discovery is None or discovery.held_out is None:
        raise InputError("a held-out gauge needs at least two prompts on each side")
    return HeldOutProbe(options.prompts(session.name), discovery.held_out)


def _parts(ids: list[list[int]]) -> Iterator[list[list[int]]]:
    """Batches of prompts, which bound the activations held in memory."""
    part: list[list[int]] = []
    for prompt in ids:
        if part and (sum(map(len, part)) + len(prompt)) > _TOKENS:
            yield part
            part = []
        part.append(prompt)
    yield part
