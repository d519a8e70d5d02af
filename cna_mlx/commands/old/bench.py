"""`bench`: how fast a model is read and steered here, against plain mlx-lm."""

import time
from dataclasses import replace
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.diagnostics.bench import SHORT, Bench, Result, Settings, to_json
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.defaults import defaults_for
from cna_mlx.discovery.session import Session
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.models.loading import ModelOptions
from cna_mlx.prompts import load_contrast
from cna_mlx.provenance import ContrastEntry
from cna_mlx.ui.bench import closing_line, environment_lines, result_lines
from cna_mlx.ui.console import screen
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import progress_bar, terminal_reporter
from cna_mlx.util.environment import attempt, environment


def run_bench(
    model: str,
    source: ModelOptions,
    *,
    only: tuple[str, ...],
    as_json: bool,
    is_short: bool,
) -> None:
    """Measure a model and say each result as it is known; also where it is stopped."""
    session = Session.open(model, options=source, reporter=terminal_reporter())
    settings = SHORT if is_short else Settings()
    settings = replace(settings, parts=only or settings.parts)
    around = environment()
    found: list[Result] = []
    started = time.perf_counter()
    is_complete = False
    if not as_json:
        show(environment_lines(screen(), around))
    try:
        with progress_bar("done") as progress:
            bench = Bench(
                session.model,
                session.tokenizer,
                load_contrast(defaults_for(model).contrast),
                session.rendering,
                settings,
                _kept(session),
                progress,
            )
            for result in bench.run():
                found.append(result)
                if not as_json:
                    show(result_lines(screen(), result, found))
        is_complete = True
    finally:
        seconds = time.perf_counter() - started
        if as_json:
            emit_json(_entry(session.name, found, around, seconds, is_complete))
    if not as_json:
        show(closing_line(seconds))


def _kept(session: Session) -> Circuit | None:
    """The model's default circuit, if a discovery has kept it; the latest of them."""
    own = fingerprint(session.model)
    wanted = defaults_for(session.name)
    kept = [
        circuit
        for circuit in attempt(Store().circuits) or []
        if circuit.model.fingerprint == own
        and circuit.provenance.fraction == wanted.fraction
        and (circuit.provenance.contrast or ContrastEntry()).name == wanted.contrast
    ]
    created = [str(one.provenance.created) for one in kept]
    return kept[created.index(max(created))] if kept else None


def _entry(
    name: str,
    found: list[Result],
    around: dict[str, Any],
    seconds: float,
    is_complete: bool,
) -> dict[str, Any]:
    return {
        "complete": is_complete,
        "model": name,
        "seconds": round(seconds, 1),
        **to_json(found),
        "environment": around,
    }
