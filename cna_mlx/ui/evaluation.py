"""An evaluation on the screen: rates with intervals, controls, KL, multipliers."""

from rich.console import Group as Parts
from rich.console import RenderableType
from rich.text import Text

from cna_mlx.analysis.metrics import ArmFigures, Group, Summary
from cna_mlx.analysis.statistics import PairedChange
from cna_mlx.analysis.verdict import Verdict
from cna_mlx.evaluation.run_config import EnvironmentEntry
from cna_mlx.evaluation.verify import Verification
from cna_mlx.report.facts import notes
from cna_mlx.report.group_tables import group_name, group_rows
from cna_mlx.report.numbers import relative_cell
from cna_mlx.report.paper_section import Paper
from cna_mlx.ui.console import Screen, whole_line
from cna_mlx.ui.lists import bullets, table_or_lines
from cna_mlx.util.formatting import auc_text, counted, decimal, p_value, percent, rate

_BAR = 20
_LISTED = 10
# Columns of the report's table that a terminal has room for, and their names there.
_COLUMNS = {
    "arm": "arm",
    "refused": "refused",
    "change, points": "points",
    "partial": "partial",
    "invalid": "invalid",
    "truncated": "cut",
    "quality": "quality",
    "KL, nats": "KL",
}


def summary_view(screen: Screen, summary: Summary) -> RenderableType:
    """All groups of a run, a table each, with the paper's figures."""
    parts: list[RenderableType] = []
    for group in summary.groups:
        parts += [*_group(screen, group), Text()]
    if not parts:
        parts.append(Text("no prompt was answered in every arm yet"))
    else:
        parts.pop()
    paper = Paper.of(summary)
    if paper is not None:
        parts += [Text(), *_paper(screen, paper)]
    return Parts(*parts)


def _paper(screen: Screen, paper: Paper) -> list[Text]:
    """The paper's row for the model, and the differences in protocol."""
    before, after, relative = paper.row.printed
    lines = [
        f"the paper, {paper.row.model}: {before} to {after} ({relative}), with its own "
        f"labels; {paper.how}",
        *(f"  {one}" for one in paper.differences),
    ]
    return [screen.safe(line) for line in lines]


def headline_view(screen: Screen, verdict: Verdict) -> RenderableType:
    """A verdict in one sentence, and what to do now."""
    said = screen.safe(f"\n{verdict.headline}", "bold")
    if verdict.next:
        said.append(f"\n{verdict.next}", "not bold")
    return Parts(said, *(whole_line(screen, f"  {one}") for one in verdict.commands))


def verdict_view(screen: Screen, verdict: Verdict) -> RenderableType:
    """A verdict with its reasons and limits."""
    parts: list[RenderableType] = [headline_view(screen, verdict), Text()]
    parts += bullets(screen, verdict.sentences)
    return Parts(*parts, Text())


def discovery_lines(screen: Screen, summary: Summary) -> RenderableType:
    """The circuit's size, its reliability and its gauge."""
    found, own = summary.run.facts.discovery, summary.run.config.main_circuit
    lines = [f"circuit: {counted(own.neurons or 0, 'neuron')}"] if own else []
    if lines and (contrast := found.contrast):
        lines[0] += (
            f" from {contrast.positive} {contrast.positive_label} and "
            f"{contrast.negative} {contrast.negative_label} prompts"
        )
    if found.split_half is not None:
        lines.append(f"split-half overlap {decimal(found.split_half)}")
    if found.held_out:
        lines.append(f"gauge, held-out prompts: AUC {auc_text(found.held_out)}")
    if summary.separation:
        said = auc_text(summary.separation)
        lines.append(f"gauge, the prompts below, harmful from benign: AUC {said}")
    lines += notes(summary.run, {group.set for group in summary.groups})
    return Parts(*map(screen.safe, lines), Text())


def _group(screen: Screen, group: Group) -> list[RenderableType]:
    """One group: its arms, flips, prompts of the discovery and curves."""
    lines = [*_flip_lines(group), *_seen_lines(group)]
    parts: list[RenderableType] = [
        screen.safe(group_name(group), "bold"),
        _arms(screen, group),
        *map(screen.safe, lines),
    ]
    if len(group.multipliers) > 2 or group.additions:
        parts += [*([Text()] if lines else []), *_curves(screen, group)]
    return parts


def _arms(screen: Screen, group: Group) -> RenderableType:
    rows = [
        [str(row[name]) if name == "refused" else row[name].text for name in _COLUMNS]
        for row in group_rows(group)
    ]
    return table_or_lines(screen, list(_COLUMNS.values()), rows)


def _flip_lines(group: Group) -> list[str]:
    """How the refusals of the baseline and of the control changed."""
    main = group.main
    if main is None or main.change is None:
        return []
    if not any(map(_has_refusals, (main.change, group.against_control))):
        return []
    lines = [f"{main.arm.label} against the baseline: {_flips(main.change)}"]
    matched = group.control("matched")
    if group.against_control and matched:
        why = f", {matched.why}" if matched.why else ""
        flips = _flips(group.against_control)
        lines.append(f"{main.arm.label} against {matched.strongest}{why}: {flips}")
    return lines


def _has_refusals(change: PairedChange | None) -> bool:
    return bool(change and (change.before.successes or change.after.successes))


def _flips(change: PairedChange) -> str:
    """The numbers of lost and new refusals, with the exact test."""
    lost = f"{change.lost} of {counted(change.before.successes, 'refusal')} lost"
    relative = f"relative change {relative_cell(change).text}; "
    return (
        f"{lost}, {change.gained} new ({relative if change.relative else ''}"
        f"exact McNemar p {p_value(change.p)})"
    )


def _seen_lines(group: Group) -> list[str]:
    """The number of prompts that the discovery saw, and the rates without them."""
    if not group.seen:
        return []
    line = f"{group.seen} of them equal or nearly equal a prompt of the discovery"
    if group.unseen is None or (main := group.unseen.main) is None:
        return [line]
    before = rate(group.unseen.baseline.refused)
    return [
        f"{line}; without them: baseline {before}, {main.arm.label} "
        f"{rate(main.refused)}"
    ]


def _curves(screen: Screen, group: Group) -> list[RenderableType]:
    """The paper's figure in characters: refusals, quality and KL by multiplier."""
    parts: list[RenderableType] = []
    for title, curve, sign in (
        ("multiplier of the circuit", group.multipliers, ""),
        ("CAA alpha", group.additions, "+"),
    ):
        if len(curve) > 1:
            parts.append(Text(f"{title}: refused, quality, KL", style="bold"))
            parts += [_point(screen, f"{x:{sign}5.2f}", one) for x, one in curve]
    return parts


def _point(screen: Screen, multiplier: str, one: ArmFigures) -> Text:
    filled = round(_BAR * one.refused.value)
    bar = screen.glyph("█", "#") * filled + screen.glyph("░", ".") * (_BAR - filled)
    kl = decimal(one.kl.value if one.kl else None)
    return screen.safe(
        f"  {multiplier} {bar} {percent(one.refused.value):>4}  "
        f"{decimal(one.quality.value)}  {kl}"
    )


def verification_view(screen: Screen, found: Verification) -> RenderableType:
    """The number of identical samples, and where the others diverge."""
    run, total = found.run, len(found.samples)
    lines = [
        f"{counted(found.prompts, 'prompt')} of {run.directory} answered again, "
        f"{counted(total, 'sample')}",
        f"  same tokens: {found.same_tokens} of {total}",
        f"  same label:  {found.same_label} of {total}",
    ]
    other = [one for one in found.samples if not one.is_same]
    for one in other[:_LISTED]:
        where = f"{one.old.set} {one.old.id}, {one.old.arm}"
        now = "" if one.has_same_label else f" then, {one.new.label} now"
        token = (one.parts_at or 0) + 1
        lines.append(f"  {where}: diverges at token {token}, {one.old.label}{now}")
    if len(other) > _LISTED:
        lines.append(f"  and {len(other) - _LISTED} more (--json lists them)")
    before, today = run.facts.environment, EnvironmentEntry.from_dict(found.environment)
    lines.append(f"then {_machine(before)}; now {_machine(today)}")
    return Parts(*map(screen.safe, lines))


def _machine(around: EnvironmentEntry) -> str:
    parts = [around.device, around.backend, around.blas]
    parts.append(f"MLX {around.versions.get('mlx')}")
    return ", ".join(str(part) for part in parts)
