"""What a run is of: model, circuit, prompts, rendering, machine."""

from collections.abc import Collection
from typing import Any

from cna_mlx.analysis.metrics import Summary
from cna_mlx.evaluation.runs import Run
from cna_mlx.report.content import TextLevel
from cna_mlx.util.formatting import counted
from cna_mlx.util.sanitize import first_words

Facts = list[tuple[str, str]]


def facts(run: Run, level: TextLevel) -> tuple[tuple[str, str], ...]:
    """What a reader wants to know of a run before its figures."""
    model = _part(run.config, "model")
    found: Facts = [
        ("model", _said(model.get("id"), "unnamed")),
        ("revision", _said(model.get("revision"), "none: it is local")),
        ("weights", f"{_said(model.get('architecture'))}, {_weights(model)}"),
    ]
    if circuit := _main_circuit(run):
        found.append(("circuit", _circuit(circuit, model)))
    found += [("prompts", _set(one)) for one in run.config["sets"]]
    found.append(("rendering", _rendering(run, level)))
    found.append(("arms", _arms(run)))
    found.append(("answers", _answers(run)))
    found.append(("made", _made(run)))
    return tuple(found)


def more_facts(run: Run) -> tuple[tuple[str, str], ...]:
    """What somebody needs who wants the same numbers again."""
    config, around = run.config, _part(run.facts, "environment")
    versions = around.get("versions") or run.facts.get("versions") or {}
    found: Facts = [("fingerprint", _said(_part(config, "model").get("fingerprint")))]
    for name, one in _part(config, "circuits").items():
        if isinstance(one, dict):
            found.append((f"circuit {name}", f"sha256 {_said(one.get('sha256'))}"))
    for one in config["sets"]:
        origin = [one.get("citation"), one.get("licence")]
        origin.append(f"sha256 {_said(one.get('sha256'))}")
        said = ", ".join(str(part) for part in origin if part)
        found.append((f"prompts {one.get('name')}", said))
    reference = _part(config, "rendering").get("reference_sha256")
    if reference:
        found.append(("a reference prompt's ids", f"sha256 {reference}"))
    if isinstance(versions, dict) and versions:
        found.append(("versions", ", ".join(f"{a} {b}" for a, b in versions.items())))
    machine = [around.get(key) for key in ("device", "backend", "blas", "system")]
    if any(machine):
        found.append(("machine", ", ".join(str(one) for one in machine if one)))
    found += _discovery(_part(run.facts, "discovery"))
    found.append(("configuration", f"sha256 {run.identity}"))
    return tuple(found)


def is_whole(summary: Summary) -> bool:
    """Whether every prompt of a run is answered in every arm."""
    return _done(summary) == summary.run.planned


def alerts(summary: Summary, changed: int | None) -> tuple[str, ...]:
    """What must be known before any figure is read.

    Args:
        summary: of the run.
        changed: how many labels a relabelling changed; None if there was none.
    """
    run, done = summary.run, _done(summary)
    found = []
    if not is_whole(summary):
        found.append(
            f"INCOMPLETE: {done} of {counted(run.planned, 'prompt')} answered (status: "
            f"{run.status}). All figures are of these; the same command goes on."
        )
    elif run.status != "complete":
        found.append(f"All prompts are answered, but the run's status is {run.status}.")
    if changed is not None:
        found.append(
            f"Relabelled by this version: {counted(changed, 'label')} of "
            "the run's samples changed. The run itself keeps its own."
        )
    return tuple(found)


def notes(run: Run, names: Collection[str]) -> tuple[str, ...]:
    """What has to be said beside figures on these sets of prompts."""
    return tuple(
        f"{one.get('name')}: {one['note']}."
        for one in run.config["sets"]
        if one.get("name") in names and one.get("note")
    )


def model_name(run: Run) -> str:
    """The model without its organisation or directory."""
    name = _said(_part(run.config, "model").get("id"), "unnamed model")
    return name.rstrip("/").rpartition("/")[2] or name


def subtitle(run: Run) -> str:
    """In a line: quantization, circuit, date."""
    model = _part(run.config, "model")
    parts = [_said(model.get("quantization"))]
    if circuit := _main_circuit(run):
        parts.append(f"{_contrast(circuit)} circuit")
    if made := _day(run):
        parts.append(made)
    return ", ".join(parts)


def _done(summary: Summary) -> int:
    return sum(group.n for group in summary.groups)


def _main_circuit(run: Run) -> dict[str, Any] | None:
    circuits = _part(run.config, "circuits")
    first = next(iter(circuits.values()), None)
    return first if isinstance(first, dict) else None


def _circuit(one: dict[str, Any], model: dict[str, Any]) -> str:
    widths = model.get("d_ff")
    total = sum(widths) if isinstance(widths, list) else None
    of = f" of {total:,}" if total else ""
    band = one.get("layers")
    where = f"layers {'-'.join(map(str, band))}" if band else "all layers"
    parts = [_contrast(one), f"{one.get('neurons')}{of} neurons"]
    if one.get("fraction") is not None:
        parts.append(f"fraction {one['fraction']} by {one.get('rank')}, {where}")
    return ", ".join(parts)


def _contrast(one: dict[str, Any]) -> str:
    contrast = one.get("contrast")
    name = contrast.get("name") if isinstance(contrast, dict) else contrast
    return _said(name, "hand-made")


def _set(one: dict[str, Any]) -> str:
    parts = [f"{one.get('name')}: {counted(int(one['prompts']), 'prompt')}"]
    if one.get("source"):
        revision = one.get("revision")
        at = f" at {str(revision)[:12]}" if revision else ""
        parts.append(f"{one['source']}{at}")
    return ", ".join(parts)


def _rendering(run: Run, level: TextLevel) -> str:
    data = _part(run.config, "rendering")
    parts = [f"chat template {data.get('template')}"]
    for key, name in (("system", "system"), ("injected_system", "injected system")):
        if text := data.get(key):
            said = first_words(str(text)) if level == "hidden" else str(text)
            parts.append(f"{name} prompt “{said}”")
    parts.append(f"thinking {'on' if data.get('thinking') else 'off'}")
    if data.get("date"):
        parts.append(f"date {data['date']}")
    return ", ".join(parts)


def _arms(run: Run) -> str:
    names = [arm.label for arm in run.arms]
    return f"{len(names)} in one batch: {', '.join(names)}"


def _answers(run: Run) -> str:
    config = run.config
    parts = [f"{config.get('sampling')}, {config.get('max_tokens')} new tokens at most"]
    if kl := config.get("kl_tokens"):
        parts.append(f"KL over the baseline's first {kl}")
    return "; ".join(parts)


def _made(run: Run) -> str:
    around = _part(run.facts, "environment")
    version = _part(around, "versions") or _part(run.facts, "versions")
    parts = [_day(run), f"cna-mlx {version['cna-mlx']}" if "cna-mlx" in version else ""]
    parts.append(f"status {run.status}")
    return ", ".join(part for part in parts if part)


def _day(run: Run) -> str:
    return str(run.facts.get("created") or run.facts.get("updated") or "")[:10]


def _discovery(one: dict[str, Any]) -> Facts:
    found: Facts = []
    half, held_out = one.get("split_half"), one.get("held_out")
    if isinstance(half, int | float):
        found.append(("split half", f"odd and even prompts overlap by {half:.2f}"))
    if isinstance(held_out, dict) and isinstance(held_out.get("auc"), int | float):
        found.append(("gauge", f"held-out AUC {held_out['auc']:.2f}"))
    return found


def _weights(model: dict[str, Any]) -> str:
    widths = model.get("d_ff")
    layers = f"{len(widths)} layers, " if isinstance(widths, list) else ""
    return f"{layers}{_said(model.get('quantization'))}"


def _part(data: dict[str, Any], key: str) -> dict[str, Any]:
    """An entry that should be a table; the file may say anything."""
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _said(value: object, otherwise: str = "unknown") -> str:
    return str(value) if value else otherwise
