"""The facts of a run: model, circuit, prompts, rendering, machine."""

from collections.abc import Collection
from datetime import UTC, datetime

from cna_mlx.analysis.metrics import Summary
from cna_mlx.evaluation.run_config import CircuitEntry, SetEntry
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.provenance import ModelEntry, Provenance, RenderingEntry
from cna_mlx.report.content import TextLevel
from cna_mlx.util.environment import versions
from cna_mlx.util.formatting import counted, decimal
from cna_mlx.util.sanitize import first_words

Facts = list[tuple[str, str]]


def facts(run: RunRecord, level: TextLevel) -> Facts:
    """The model, circuit, prompts and machine of a run."""
    model, names = run.config.model, [arm.label for arm in run.arms]
    layers = f", {len(model.d_ff)} layers" if model.d_ff is not None else ""
    architecture = model.architecture or "unknown"
    found: Facts = [
        ("model", model.id or "unnamed"),
        ("revision", model.revision or "none: it is local"),
        ("weights", f"{architecture}{layers}, {model.quantization or 'unknown'}"),
    ]
    if circuit := run.config.main_circuit:
        found.append(("circuit", _circuit(circuit, model)))
    found += [("prompts", _set(one)) for one in run.config.sets]
    return [
        *found,
        ("rendering", _rendering(run.config.rendering, level)),
        ("arms", f"{len(names)} in one batch: {', '.join(names)}"),
        ("answers", _answers(run)),
        ("made", _made(run)),
    ]


def more_facts(run: RunRecord) -> Facts:
    """What is needed to get the same numbers again."""
    config, around = run.config, run.facts.environment
    found: Facts = [("fingerprint", config.model.fingerprint or "unknown")]
    for name, circuit in config.circuits.items():
        found.append((f"circuit {name}", f"sha256 {circuit.sha256 or 'unknown'}"))
    for one in config.sets:
        origin = (one.citation, one.licence, f"sha256 {one.sha256 or 'unknown'}")
        found.append((f"prompts {one.name}", ", ".join(filter(None, origin))))
    if reference := config.rendering.reference_sha256:
        found.append(("a reference prompt's ids", f"sha256 {reference}"))
    if versions := around.versions or run.facts.versions:
        found.append(("versions", ", ".join(f"{a} {b}" for a, b in versions.items())))
    machine = (around.device, around.backend, around.blas, around.system)
    if any(machine):
        found.append(("machine", ", ".join(filter(None, machine))))
    found += _discovery(run.facts.discovery)
    found.append(("configuration", f"sha256 {config.identity}"))
    return found


def alerts(summary: Summary, changed: int | None) -> list[str]:
    """Return what a reader must know before any figure."""
    run = summary.run
    found = []
    if not summary.is_whole:
        found.append(
            f"INCOMPLETE: {summary.done} of {counted(run.planned, 'prompt')} answered "
            f"(status: {run.status}). The figures are of these; run the same command "
            "again to continue."
        )
    elif run.status != "complete":
        found.append(f"All prompts are answered, but the run's status is {run.status}.")
    if changed is not None:
        found.append(
            f"Relabelled by this version: {counted(changed, 'label')} of "
            "the run's samples changed. The run keeps its own labels."
        )
    return found


def notes(run: RunRecord, names: Collection[str]) -> list[str]:
    """The notes on these sets of prompts."""
    sets = [one for one in run.config.sets if one.name in names and one.note]
    return [f"{one.name}: {one.note}." for one in sets]


def written() -> str:
    """Which version writes a page, and when."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Written by cna-mlx {versions('cna-mlx')['cna-mlx']}, {now}."


def model_name(run: RunRecord) -> str:
    """The model without its organisation or directory."""
    name = run.config.model.id or "unnamed model"
    return name.rstrip("/").rpartition("/")[2] or name


def subtitle(run: RunRecord) -> str:
    """In a line: quantization, circuit, date."""
    parts = [run.config.model.quantization or "unknown"]
    if circuit := run.config.main_circuit:
        parts.append(f"{_contrast(circuit)} circuit")
    if made := _day(run):
        parts.append(made)
    return ", ".join(parts)


def _circuit(one: CircuitEntry, model: ModelEntry) -> str:
    of = f" of {model.total:,}" if model.total else ""
    where = f"layers {'-'.join(map(str, one.layers))}" if one.layers else "all layers"
    parts = [_contrast(one), f"{one.neurons}{of} neurons"]
    if one.fraction is not None:
        parts.append(f"fraction {one.fraction} by {one.rank}, {where}")
    return ", ".join(parts)


def _contrast(one: CircuitEntry) -> str:
    return (one.contrast and one.contrast.name) or "hand-made"


def _set(one: SetEntry) -> str:
    parts = [f"{one.name}: {counted(one.prompts, 'prompt')}"]
    if one.source:
        at = f" at {one.revision[:12]}" if one.revision else ""
        parts.append(f"{one.source}{at}")
    return ", ".join(parts)


def _rendering(one: RenderingEntry, level: TextLevel) -> str:
    parts = [f"chat template {one.template}"]
    texts = ((one.system, "system"), (one.injected_system, "injected system"))
    for text, name in texts:
        if text:
            said = first_words(text) if level == "hidden" else text
            parts.append(f"{name} prompt “{said}”")
    parts.append(f"thinking {'on' if one.thinking else 'off'}")
    if one.date:
        parts.append(f"date {one.date}")
    return ", ".join(parts)


def _answers(run: RunRecord) -> str:
    config = run.config
    text = f"{config.sampling}, {config.max_tokens} new tokens at most"
    if kl := config.kl_tokens:
        text += f"; KL over the baseline's first {kl}"
    return text


def _made(run: RunRecord) -> str:
    version = run.facts.environment.versions or run.facts.versions
    parts = [_day(run), f"cna-mlx {version['cna-mlx']}" if "cna-mlx" in version else ""]
    parts.append(f"status {run.status}")
    return ", ".join(part for part in parts if part)


def _day(run: RunRecord) -> str:
    return (run.facts.created or run.facts.updated or "")[:10]


def _discovery(one: Provenance) -> Facts:
    found: Facts = []
    if one.split_half is not None:
        found.append(("split half", f"overlap {decimal(one.split_half)}"))
    if one.held_out is not None:
        found.append(("gauge", f"held-out AUC {decimal(one.held_out.auc)}"))
    return found
