"""`probe`: the gauge of many prompts, and how far it can be trusted."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.commands.old.options import (
    ModelOptions,
    RenderingOptions,
    SelectionOptions,
)
from cna_mlx.commands.old.shared import Session, check_circuit_files, circuit_entry
from cna_mlx.commands.options import require
from cna_mlx.discovery.cross_validation import HeldOutScores
from cna_mlx.discovery.gauge import gauges
from cna_mlx.models.context import check_lengths
from cna_mlx.prompts import PromptSet, read_prompts
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.ui.console import screen
from cna_mlx.ui.gauge import held_out_view, probe_view
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import progress_bar

_TOKENS = 32_768


@dataclass(frozen=True)
class Probed:
    """A prompt and its gauge."""

    prompt: str
    gauge: float


def run_probe(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    *,
    prompt_file: str | None,
    circuits: tuple[str, ...],
    allow_transfer: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Gauge the prompts of a file; without one, tell how well the contrast is held."""
    require(not (as_json and as_csv), "give --json or --csv, not both")
    require(len(circuits) <= 1, "probe takes one --circuit")
    if prompt_file is None:
        require(not circuits, "--circuit needs --prompts FILE: which shall it gauge?")
        require(not as_csv, "--csv needs --prompts FILE")
        _held_out(model, source, rendering, options, as_json)
        return
    prompts = read_prompts(prompt_file, options.column)
    check_circuit_files(circuits)
    session = Session.open(model, rendering, allow_transfer, source)
    if circuits:
        circuit, multiplier = session.load_circuit(circuits[0])
        require(multiplier is None, "--circuit: a gauge takes no @M; it is not steered")
    else:
        circuit = session.default_circuit(options)
    results = _probe(session, circuit, prompts)
    if as_csv:
        screen().out.file.write(_to_csv(results))
    elif as_json:
        entries = [{"prompt": one.prompt, "gauge": one.gauge} for one in results]
        emit_json(
            {
                "model": model,
                "circuit": circuit_entry(circuit, circuits[0] if circuits else None),
                "is_calibrated": session.is_calibrated(circuit),
                "held_out": circuit.provenance.to_json().get("held_out"),
                "results": entries,
            }
        )
    else:
        pairs = [(one.gauge, one.prompt) for one in results]
        show(probe_view(screen(), pairs, circuit, session.is_calibrated(circuit)))


def _probe(session: Session, circuit: Circuit, prompts: list[str]) -> list[Probed]:
    """The prompts with their gauges, most refusable first."""
    ids = [
        render_prompt(session.tokenizer, prompt, session.rendering)
        for prompt in prompts
    ]
    check_lengths(session.model, ids)  # before the first batch: no work is thrown away
    values = []
    with progress_bar("prompts") as progress:
        done = 0
        for part in _parts(ids):
            values.append(gauges(session.model, circuit, part))
            done += len(part)
            progress("Gauging", done, len(ids))
    pairs = zip(prompts, np.concatenate(values).tolist(), strict=True)
    return sorted((Probed(*pair) for pair in pairs), key=lambda one: -one.gauge)


def _parts(ids: list[list[int]]) -> Iterator[list[list[int]]]:
    """Prompts that go through the model together: this bounds what is held of each."""
    part: list[list[int]] = []
    for prompt in ids:
        if part and (sum(map(len, part)) + len(prompt)) > _TOKENS:
            yield part
            part = []
        part.append(prompt)
    yield part


def _held_out(
    model: str,
    source: ModelOptions,
    rendering: RenderingOptions,
    options: SelectionOptions,
    as_json: bool,
) -> None:
    contrast = options.prompts(model)
    options.selection(model)
    session = Session.open(model, rendering, source=source)
    discovery = session.find(options, contrast=contrast, refresh=True).discovery
    scores = discovery and discovery.held_out
    if not scores:
        require(False, "a held-out gauge needs two prompts or more on each side")
        return
    if as_json:
        emit_json({"model": model, **_entry(contrast, scores)})
    else:
        show(held_out_view(screen(), contrast, scores))


def _entry(contrast: PromptSet, scores: HeldOutScores) -> dict[str, Any]:
    sides = (
        (contrast.positive_label, contrast.positive, scores.positive),
        (contrast.negative_label, contrast.negative, scores.negative),
    )
    results = [
        {"prompt": prompt, "side": label, "gauge": value}
        for label, prompts, values in sides
        for prompt, value in zip(prompts, values, strict=True)
    ]
    return {
        "contrast": contrast.name,
        "held_out": scores.auc.to_json(),
        "layers": [
            {"layer": layer, **auc.to_json()} for layer, auc in scores.layers.items()
        ],
        "results": sorted(results, key=lambda one: -one["gauge"]),
    }


def _to_csv(results: list[Probed]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["prompt", "gauge"])
    writer.writerows([one.prompt, f"{one.gauge:.6f}"] for one in results)
    return text.getvalue()
