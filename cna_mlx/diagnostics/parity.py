"""The embedded models' figures, stored where they were made and measured again here."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.results import Check
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered

# Twice as many neurons are compared as the demo's circuit has.
_FRACTION = 0.005
_CIRCUIT = 8
_MULTIPLIERS = (1.0, 0.0)
_TOKENS = 16
_TOP = 5


@dataclass(frozen=True)
class Line:
    """One answer.

    Attributes:
        prompt: the question.
        multiplier: of the circuit.
        ids: the rendered prompt's.
        greedy: the answer's, its end among them.
        gaps: by how much the logit of each of these is above the next one's.
        top: ids and logits of the most probable first tokens.
    """

    prompt: str
    multiplier: float
    ids: tuple[int, ...]
    greedy: tuple[int, ...]
    gaps: tuple[float, ...]
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Figures:
    """What is compared of a model.

    Attributes:
        fingerprint: of its weights.
        neurons: layer, index and delta, by falling |delta|, of a discovery of magic
            without the universal filter; the first eight are scaled.
        lines: answers at m = 1 and m = 0.
    """

    fingerprint: str
    neurons: tuple[tuple[int, int, float], ...]
    lines: tuple[Line, ...]

    @property
    def circuit(self) -> Circuit:
        """The neurons that are scaled."""
        return Circuit.from_neurons(self.neurons[:_CIRCUIT])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Figures":
        """The figures that :meth:`to_json` made."""
        lines = tuple(
            Line(
                line["prompt"],
                line["multiplier"],
                tuple(line["ids"]),
                tuple(line["greedy"]),
                tuple(line["gaps"]),
                tuple((token, value) for token, value in line["top"]),
            )
            for line in data["lines"]
        )
        neurons = tuple(
            (layer, index, delta) for layer, index, delta in data["neurons"]
        )
        return cls(data["fingerprint"], neurons, lines)


def stored(name: str) -> Figures:
    """The figures that came with the package, for ``demo`` or ``demo-base``."""
    text = files("cna_mlx").joinpath("demo/figures.json").read_text("utf-8")
    return Figures.from_json(json.loads(text)[name])


def measure(
    model: Any, tokenizer: Any, prompts: Sequence[str], like: Figures | None = None
) -> Figures:
    """Measure a model.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        prompts: the questions.
        like: figures to be compared with: their circuit is scaled and their tokens are
            looked up, so that one difference does not cause the next.
    """
    contrast = load_contrast("magic")
    selection = Selection(_FRACTION, universal=False)
    found = run_discovery(model, tokenizer, contrast, selection).circuit
    neurons = tuple((n.layer, n.index, n.delta) for n in found.neurons)
    circuit = like.circuit if like else Circuit.from_neurons(neurons[:_CIRCUIT])
    known = (
        {(line.prompt, line.multiplier): line for line in like.lines} if like else {}
    )
    lines = [
        _line(model, circuit, prompt, ids, answer, known.get((prompt, answer[0])))
        for prompt in prompts
        for ids in [render_prompt(tokenizer, prompt)]
        for answer in _answers(model, tokenizer, circuit, ids)
    ]
    return Figures(fingerprint(model), neurons, tuple(lines))


def _answers(
    model: Any, tokenizer: Any, circuit: Circuit, ids: list[int]
) -> list[tuple[float, list[int]]]:
    """Multiplier and greedy ids, all of the multipliers in one batch."""
    arms = [Arm.of(circuit, multiplier) for multiplier in _MULTIPLIERS]
    events = generate_arms(model, tokenizer, [ids], arms, max_tokens=_TOKENS)
    answers = [event for event in events if isinstance(event, Answer)]
    answers.sort(key=lambda answer: answer.arm)
    return [
        (
            _MULTIPLIERS[one.arm],
            [*one.token_ids, *([] if one.end is None else [one.end])],
        )
        for one in answers
    ]


def _line(
    model: Any,
    circuit: Circuit,
    prompt: str,
    ids: list[int],
    answer: tuple[float, list[int]],
    like: Line | None,
) -> Line:
    multiplier, greedy = answer
    with steered(model, circuit, multiplier):
        logits = np.array(model(mx.array([[*ids, *greedy]]))[0].astype(mx.float32))
    logits = logits[len(ids) - 1 : -1]  # before each token of the answer
    ranked = np.sort(logits, axis=-1)
    tokens = [token for token, _ in like.top] if like else np.argsort(-logits[0])[:_TOP]
    return Line(
        prompt,
        multiplier,
        tuple(ids),
        tuple(greedy),
        tuple(float(gap) for gap in ranked[:, -1] - ranked[:, -2]),
        tuple((int(token), float(logits[0, token])) for token in tokens),
    )


# ----------------------------------------------------------------- comparison


def check_parity(
    name: str, model: Any, tokenizer: Any, figures: Figures, tolerance: float
) -> Check:
    """Measure an embedded model here and compare.

    Args:
        name: of the check.
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        figures: the stored ones.
        tolerance: of float32 results, relative to the largest; see
            :func:`cna_mlx.diagnostics.device.float32_tolerance`.
    """
    if fingerprint(model) != figures.fingerprint:
        return Check(
            name,
            "failed",
            "the weights are not those that the figures were made with",
            "install cna-mlx again: a file is damaged",
        )
    prompts = list(dict.fromkeys(line.prompt for line in figures.lines))
    found = measure(model, tokenizer, prompts, figures)
    return compare(name, figures, found, tolerance)


def compare(name: str, stored: Figures, found: Figures, tolerance: float) -> Check:
    """Hold two measurements of a model against each other; see :func:`check_parity`."""
    pairs = list(zip(stored.lines, found.lines, strict=True))
    if any(theirs.ids != ours.ids for theirs, ours in pairs):
        return Check(
            name,
            "failed",
            "a prompt becomes other token ids than it did",
            "upgrade transformers and tokenizers (pip install -U transformers)",
        )
    moved, missing = _deltas(stored, found, tolerance)
    largest = max(abs(value) for line in stored.lines for _, value in line.top)
    shift = float(np.max([_logits(*pair) for pair in pairs])) / largest
    # twice: the one token's logit may fall by as much as the other's rises
    margin = 2 * tolerance * largest
    others = [f"m = {a.multiplier:g}" for a, b in pairs if not _alike(a, b, margin)]
    problems = [
        *(f"neuron {index} of layer {layer} is not found" for layer, index in missing),
        *(f"another answer at {one}" for one in others[:2]),
    ]
    detail = (
        f"{len(stored.neurons)} deltas differ by {moved:.1e} of the largest, logits by "
        f"{shift:.1e} ({tolerance:.0e} allowed); "
    )
    detail += "; ".join(problems) or f"{len(pairs)} answers are the same"
    good = moved <= tolerance and shift <= tolerance and not problems
    return Check.of(name, good, detail)


def _deltas(
    stored: Figures, found: Figures, tolerance: float
) -> tuple[float, list[tuple[int, int]]]:
    """The largest difference of a delta, and the neurons that ought to be there."""
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


def _logits(stored: Line, found: Line) -> float:
    pairs = zip(stored.top, found.top, strict=True)
    return float(np.max([abs(a[1] - b[1]) for a, b in pairs]))


def _alike(stored: Line, found: Line, margin: float) -> bool:
    """Whether two answers are equal up to where rounding could decide a token."""
    for step, gap in enumerate(stored.gaps):
        if gap <= margin:
            return True
        if found.greedy[step : step + 1] != stored.greedy[step : step + 1]:
            return False
    return True
