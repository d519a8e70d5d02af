"""Compare the stored figures of the embedded models with figures measured here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.results import Check, failed, passed
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered

# Twice the size of the demo's circuit.
_FRACTION = 0.005
_CIRCUIT = 8
_MULTIPLIERS = (1.0, 0.0)
_TOKENS = 16
_TOP = 5


@dataclass(frozen=True)
class Line:
    """One answer.

    Attributes:
        ids: token ids of the rendered prompt.
        greedy: token ids of the answer, including its end.
        gaps: for each of these, its logit minus the second largest.
        top: [id, logit] of the most probable first tokens.
    """

    prompt: str
    multiplier: float
    ids: list[int]
    greedy: list[int]
    gaps: list[float]
    top: list[list[Any]]


@dataclass(frozen=True)
class Figures:
    """The figures of a model.

    Attributes:
        neurons: [layer, index, delta] by falling |delta|, of a discovery of magic
            without the universal filter. The first eight are scaled.
        lines: answers at m = 1 and m = 0.
    """

    fingerprint: str
    neurons: list[list[Any]]
    lines: list[Line]

    @property
    def circuit(self) -> Circuit:
        """Return the neurons to scale."""
        return Circuit.from_neurons(map(tuple, self.neurons[:_CIRCUIT]))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Figures":
        """Read the figures from a dict."""
        return cls(**{**data, "lines": [Line(**line) for line in data["lines"]]})


def stored(name: str) -> Figures:
    """Read the package's figures of ``demo`` or ``demo-base``."""
    text = files("cna_mlx").joinpath("demo/figures.json").read_text("utf-8")
    return Figures.from_dict(json.loads(text)[name])


def measure(
    model: Any, tokenizer: Any, prompts: Sequence[str], like: Figures | None = None
) -> Figures:
    """Measure a model.

    With `like`, scale its circuit and look up its tokens, so that one difference does
    not cause the next.
    """
    contrast = load_contrast("magic")
    selection = Selection(_FRACTION, universal=False)
    found = run_discovery(model, tokenizer, contrast, selection).circuit
    neurons = [[n.layer, n.index, n.delta] for n in found.neurons]
    own = fingerprint(model)
    circuit = (like or Figures(own, neurons, [])).circuit
    known = like.lines if like else []
    tops = {(one.prompt, one.multiplier): one.top for one in known}
    lines = [
        line
        for prompt in prompts
        for line in _lines(model, tokenizer, circuit, prompt, tops)
    ]
    return Figures(own, neurons, lines)


def _lines(
    model: Any, tokenizer: Any, circuit: Circuit, prompt: str, tops: dict[Any, Any]
) -> Iterator[Line]:
    """Yield one line per multiplier; all decode in one batch."""
    ids = render_prompt(tokenizer, prompt)
    arms = [Arm.of(circuit, multiplier) for multiplier in _MULTIPLIERS]
    events = generate_arms(model, tokenizer, [ids], arms, max_tokens=_TOKENS)
    answers = {one.arm: one for one in events if isinstance(one, Answer)}
    for arm, multiplier in enumerate(_MULTIPLIERS):
        answer = answers[arm]
        greedy = [*answer.token_ids, *([] if answer.end is None else [answer.end])]
        with steered(model, circuit, multiplier):
            found = model(mx.array([[*ids, *greedy]]))[0].astype(mx.float32)
        logits = np.array(found)[len(ids) - 1 : -1]  # before each token of the answer
        ranked = np.sort(logits, axis=-1)
        gaps = (ranked[:, -1] - ranked[:, -2]).tolist()
        top = tops.get((prompt, multiplier))
        tokens = [one for one, _ in top] if top else np.argsort(-logits[0])[:_TOP]
        values = [[int(token), float(logits[0, token])] for token in tokens]
        yield Line(prompt, multiplier, ids, greedy, gaps, values)


# ----------------------------------------------------------------- comparison


def check_parity(
    model: Any, tokenizer: Any, figures: Figures, tolerance: float
) -> Check:
    """Measure an embedded model and compare it with the stored figures.

    `tolerance` is that of :func:`cna_mlx.diagnostics.device.float32_tolerance`.
    """
    if fingerprint(model) != figures.fingerprint:
        return failed(
            "the figures belong to other weights",
            "reinstall cna-mlx: a file is damaged",
        )
    prompts = list(dict.fromkeys(line.prompt for line in figures.lines))
    found = measure(model, tokenizer, prompts, figures)
    return compare_figures(figures, found, tolerance)


def compare_figures(stored: Figures, found: Figures, tolerance: float) -> Check:
    """Compare two measurements of a model; see :func:`check_parity`."""
    pairs = list(zip(stored.lines, found.lines, strict=True))
    if any(theirs.ids != ours.ids for theirs, ours in pairs):
        return failed(
            "a prompt is tokenized differently",
            "upgrade transformers and tokenizers (pip install -U transformers)",
        )
    moved, missing = _deltas(stored, found, tolerance)
    theirs, ours = (
        np.array([value for line in one.lines for _, value in line.top])
        for one in (stored, found)
    )
    largest = np.abs(theirs).max()
    shift = float(np.abs(theirs - ours).max() / largest)
    # twice: one token's logit can fall while the other's rises
    margin = 2 * tolerance * largest
    others = [f"m = {a.multiplier:g}" for a, b in pairs if not _alike(a, b, margin)]
    problems = [
        *(f"neuron {index} of layer {layer} is missing" for layer, index in missing),
        *(f"different answer at {one}" for one in others[:2]),
    ]
    detail = (
        f"{len(stored.neurons)} deltas differ by {moved:.1e} of the largest, logits by "
        f"{shift:.1e} ({tolerance:.0e} allowed); "
    )
    detail += "; ".join(problems) or f"{len(pairs)} answers are identical"
    good = moved <= tolerance and shift <= tolerance and not problems
    return passed(good, detail)


def _deltas(
    stored: Figures, found: Figures, tolerance: float
) -> tuple[float, list[tuple[int, int]]]:
    """Return the largest difference of a delta, and the missing neurons."""
    ours = {(layer, index): delta for layer, index, delta in found.neurons}
    largest, least = (abs(stored.neurons[place][2]) for place in (0, -1))
    moved, missing = 0.0, []
    for layer, index, delta in stored.neurons:
        own = ours.get((layer, index))
        if own is not None:
            moved = float(np.maximum(moved, abs(own - delta) / largest))
        elif abs(delta) - least > 2 * tolerance * largest:  # not at the edge
            missing.append((layer, index))
    return moved, missing


def _alike(stored: Line, found: Line, margin: float) -> bool:
    """Return whether answers agree up to the first token that rounding can decide."""
    for step, gap in enumerate(stored.gaps):
        if gap <= margin:
            return True
        if found.greedy[step : step + 1] != stored.greedy[step : step + 1]:
            return False
    return True
