"""Read a model for a search, once: what it refuses, and the figures of every neuron."""

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cna_mlx.discovery.cache import Store, identity_of, keep_file
from cna_mlx.discovery.discover import algorithm_of
from cna_mlx.discovery.kept_openings import checked_openings
from cna_mlx.discovery.refusing_openings import openings_of
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.models.context import vocabulary
from cna_mlx.models.families import widths
from cna_mlx.prompts import PromptSet, load_bank
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.search.candidates import fractions
from cna_mlx.search.statistics import Statistics, origin_of, read_statistics
from cna_mlx.search.trial import TOKENS, mixed
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import answer_unsteered
from cna_mlx.util.reading import parse_json, read_arrays

#: Of what a search keeps: it rests on labels, and changes with their rules.
VERSION = 2
# Fewer refusals, and fewer answers to judge damage by, say nothing of a circuit.
_FEWEST, _FEWEST_BENIGN = 6, 4


@dataclass(frozen=True)
class Reading:
    """What a model does with half of a contrast, before anything is tried.

    Attributes:
        refused: positions of positive prompts that it refuses.
        answered: positions of negative prompts that it answers.
        statistics: of every neuron.
    """

    half: PromptSet
    refused: tuple[int, ...]
    answered: tuple[int, ...]
    statistics: Statistics

    def benchmarks(self) -> tuple[Benchmark, Benchmark]:
        """The prompts that are refused, and all negative ones; categories mixed.

        All, because a run that judges measures the KL on all of them.

        Raises:
            InputError: too few.
        """
        half = self.half
        _check(half, self.refused, self.answered)
        refused = [half.positive[at] for at in mixed(self.refused)]
        benign = mixed(half.negative)
        return (
            Benchmark.from_prompts(refused, "harmful", "refused"),
            Benchmark.from_prompts(benign, "benign", half.negative_label),
        )


def read_half(session: Session, half: PromptSet, fraction: float) -> Reading:
    """Read half of a contrast and the bank; from the cache if an earlier search did.

    Args:
        fraction: the paper's share of all neurons.

    Raises:
        InputError: the model refuses too few prompts to search by.
        as :func:`cna_mlx.discover`.
    """
    path, report = _place(session, half, fraction), session.reporter
    with suppress(OSError, ValueError, TypeError, LookupError):
        found = _unpack(session, half, path)
        report.note(f"what an earlier search read: {path}")
        return found
    with report.progress("prompts") as progress:
        positive = _answers(session, half.positive, progress)
        negative = _answers(session, half.negative, progress)
    refused = _of_kind(positive, LabelKind.REFUSED)
    answered = _of_kind(negative, LabelKind.ANSWERED)
    _check(half, refused, answered)
    openings = openings_of(positive, negative)
    if not openings:
        report.warn(
            "refusals begin like other answers: direct and influence are not tried"
        )
    total = sum(widths(session.model))
    counts = [max(1, round(size * total)) for size in fractions(fraction, 1.0)]
    report.note(f"reading {half.name} and the bank")
    with report.progress("layers") as progress:
        statistics = read_statistics(
            *session.load(),
            half,
            counts,
            session.rendering,
            openings=openings,
            progress=progress,
        )
    found = Reading(half, refused, answered, statistics)
    keep_file(path, _pack(found))
    return found


def _check(half: PromptSet, refused: Sequence[int], answered: Sequence[int]) -> None:
    if len(refused) < _FEWEST:
        raise InputError(
            f"the model refuses {len(refused)} of {len(half.positive)} "
            f"{half.positive_label} prompts of {half.name}: too few to search by; "
            f"give a contrast with {2 * _FEWEST} refusals or more"
        )
    if len(answered) < _FEWEST_BENIGN:
        raise InputError(
            f"the model answers {len(answered)} of {len(half.negative)} "
            f"{half.negative_label} prompts of {half.name}: too few to tell what a "
            "circuit damages"
        )


def _answers(session: Session, prompts: Sequence[str], progress: Any) -> list[Answer]:
    model, tokenizer = session.load()
    ids = [render_prompt(tokenizer, prompt, session.rendering) for prompt in prompts]
    return answer_unsteered(model, tokenizer, ids, TOKENS, progress=progress)


def _of_kind(answers: Sequence[Answer], kind: LabelKind) -> tuple[int, ...]:
    return tuple(
        at
        for at, one in enumerate(answers)
        if label(one.text, opens_thought=one.opens_thought).kind is kind
    )


def _place(session: Session, half: PromptSet, fraction: float) -> Path:
    key = {
        **identity_of(*session.load(), session.rendering),
        "algorithm": [algorithm_of(Selection(rank="influence")), VERSION],
        "contrast": half.sha256,
        "bank": [one.sha256 for one in load_bank()],
        "fraction": fraction,
    }
    return Store().place("statistics", key, ".npz")


def _pack(found: Reading) -> bytes:
    """A reading as an npz archive: float32 for every neuron, and a JSON text."""
    own = found.statistics
    head = {
        "refused": found.refused,
        "answered": found.answered,
        "openings": own.openings,
    }
    arrays = {"head": np.array(json.dumps(head))}
    for name, layers in (*own.scores.items(), ("moments", own.moments)):
        arrays |= {f"{name} {layer}": one for layer, one in enumerate(layers)}
    for k, neurons in own.universal.items():
        pairs = np.array(sorted(neurons), np.int32).reshape(-1, 2)
        arrays[f"universal {k}"] = pairs
    with io.BytesIO() as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()


def _unpack(session: Session, half: PromptSet, path: Path) -> Reading:
    kept = read_arrays(path)
    head = parse_json(str(kept["head"]), finite=True)
    parts: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for key, array in kept.items():
        name, _, number = key.partition(" ")
        if number:
            parts[name][int(number)] = array
    universal = parts.pop("universal", {})
    layers = {name: [one[n] for n in sorted(one)] for name, one in parts.items()}
    moments = layers.pop("moments")
    _check_shapes(session, layers, moments)
    statistics = Statistics(
        layers,  # type: ignore[arg-type]
        moments,
        {k: frozenset(map(tuple, one.tolist())) for k, one in universal.items()},
        checked_openings(head["openings"], vocabulary(session.model)),
        *origin_of(*session.load(), half, session.rendering),
    )
    refused = _positions(head["refused"], len(half.positive))
    answered = _positions(head["answered"], len(half.negative))
    return Reading(half, refused, answered, statistics)


def _check_shapes(
    session: Session,
    layers: dict[str, list[np.ndarray]],
    moments: list[np.ndarray],
) -> None:
    """ValueError unless the figures are of this model's neurons."""
    sizes = widths(session.model)
    if [one.shape for one in moments] != [(4, size) for size in sizes]:
        raise ValueError("moments of another shape")
    for found in layers.values():
        if [one.shape for one in found] != [(size,) for size in sizes]:
            raise ValueError("scores of another shape")
    for one in (*moments, *(one for found in layers.values() for one in found)):
        if one.dtype != np.float32 or np.isnan(one).any():
            raise ValueError("figures that are not numbers")


def _positions(found: list[Any], count: int) -> tuple[int, ...]:
    if any(type(one) is not int or not 0 <= one < count for one in found):
        raise ValueError("a position without a prompt")
    return tuple(found)
