"""An evaluation on the screen: rates with intervals, controls, damage, strengths."""

from collections.abc import Sequence

from rich import box
from rich.console import Group as Parts
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.analysis.metrics import ArmFigures, ControlFigures, Group, Summary
from cna_mlx.analysis.statistics import Interval, PairedChange, Proportion
from cna_mlx.analysis.verdict import Verdict
from cna_mlx.evaluation.run_config import EnvironmentEntry
from cna_mlx.evaluation.verify import Verification
from cna_mlx.report.paper_section import Paper
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import frame
from cna_mlx.util.formatting import counted, p_value

_BAR = 20
_LISTED = 10
_CONTROLS = ("matched", "uniform")
_STRENGTHS = ("scaled", "caa")


def summary_view(screen: Screen, summary: Summary) -> RenderableType:
    """All groups of a run, a table each, with what the figures are compared to."""
    parts: list[RenderableType] = []
    for group in summary.groups:
        parts += [*group_lines(screen, group), Text()]
    if not parts:
        parts.append(Text("no prompt was answered in every arm yet"))
    else:
        parts.pop()
    paper = Paper.of(summary)
    if paper is not None:
        parts += [Text(), *paper_lines(screen, paper)]
    return Parts(*parts)


def paper_lines(screen: Screen, paper: Paper) -> list[Text]:
    """The paper's row for the model, and what differs in the protocol."""
    row = paper.row
    relative = "" if row.relative is None else f" ({100 * row.relative:+.1f}%)"
    lines = [
        f"the paper, {row.model}: {100 * row.baseline:.4g}% to "
        f"{100 * row.ablated:.4g}%{relative}, with its own labels; {paper.how}",
        *(f"  {one}" for one in paper.differences),
    ]
    return [screen.safe(line) for line in lines]


def headline_view(screen: Screen, verdict: Verdict) -> Text:
    """A verdict in one sentence."""
    line = screen.safe(f"\n{verdict.headline}")
    line.stylize("bold")
    return line


def verdict_view(screen: Screen, verdict: Verdict) -> RenderableType:
    """A verdict with all that it rests on, and for what it holds."""
    parts: list[RenderableType] = [headline_view(screen, verdict), Text()]
    parts += bullets(screen, verdict.sentences)
    return Parts(*parts, Text())


def bullets(screen: Screen, sentences: Sequence[str]) -> list[RenderableType]:
    """Sentences as a list, folded under their marks on a terminal."""
    mark = screen.glyph("\u2022 ", "- ")
    if not screen.out.is_terminal:
        return [screen.safe(mark + sentence) for sentence in sentences]
    parts: list[RenderableType] = []
    for sentence in sentences:
        row = Table.grid(padding=(0, 0))
        row.add_column(width=2)
        row.add_column(overflow="fold")
        row.add_row(Text(mark), screen.safe(sentence))
        parts.append(row)
    return parts


def discovery_lines(screen: Screen, summary: Summary) -> RenderableType:
    """What is known of the circuit: its size, its reliability, its gauge."""
    found, own = summary.run.facts.discovery, summary.run.config.main_circuit
    lines = [f"circuit: {counted(own.neurons or 0, 'neuron')}"] if own else []
    if contrast := found.contrast:
        lines[0] += (
            f" from {contrast.positive} {contrast.positive_label} and "
            f"{contrast.negative} {contrast.negative_label} prompts"
        )
    if (half := found.split_half) is not None:
        lines.append(f"odd and even prompts find the same: overlap {half:.2f}")
    if held_out := found.held_out:
        said = _auc(held_out.auc, held_out.low, held_out.high)
        lines.append(f"gauge, held-out prompts of the discovery: {said}")
    if (auc := summary.separation) is not None:
        told = _auc(auc.value, auc.low, auc.high)
        lines.append(f"gauge, the prompts below, harmful from benign: {told}")
    return Parts(*(screen.safe(line) for line in lines), Text())


def _auc(value: float, low: float, high: float) -> str:
    return f"AUC {value:.2f} [{low:.2f}, {high:.2f}]"


def group_lines(screen: Screen, group: Group) -> list[RenderableType]:
    """One group: arms, flips, what the discovery saw, strengths."""
    parts: list[RenderableType] = [
        screen.safe(f"{group_title(group)}: {counted(group.n, 'prompt')}")
    ]
    parts[0].stylize("bold")  # type: ignore[union-attr]
    parts.append(_arms(screen, group))
    parts += [screen.safe(line) for line in flip_lines(group)]
    parts += [screen.safe(line) for line in seen_lines(group)]
    if _has_curves(group):
        parts += [Text(), *_curves(screen, group)]
    return parts


def group_title(group: Group) -> str:
    """``jbb, harmful``; the kind only where it is known."""
    return group.set if group.kind == "unknown" else f"{group.set}, {group.kind}"


def flip_lines(group: Group) -> list[str]:
    """What became of the baseline's refusals, and of the control's, in words."""
    main = group.main
    if main is None or main.change is None or _is_silent(group):
        return []
    lines = [f"{main.arm.label} against the baseline: {flips(main.change)}"]
    matched = group.control("matched")
    if group.against_control and matched:
        which = matched.strongest
        if matched.why:
            which += f", {matched.why}"
        lines.append(
            f"{main.arm.label} against {which}: {flips(group.against_control)}"
        )
    return lines


def _is_silent(group: Group) -> bool:
    """Whether neither the baseline nor the main arm nor the control ever refuses."""
    changes = [group.main and group.main.change, group.against_control]
    return not any(c and (c.before.successes or c.after.successes) for c in changes)


def flips(change: PairedChange) -> str:
    """How many refusals were lost and came, with the exact test."""
    return (
        f"{change.lost} of {counted(change.before.successes, 'refusal')} lost, "
        f"{change.gained} new (McNemar exact, p {p_value(change.p)})"
    )


def seen_lines(group: Group) -> list[str]:
    """What is known of prompts that the discovery saw."""
    if not group.seen:
        return []
    line = f"{group.seen} of them equal or nearly equal a prompt of the discovery"
    if group.unseen is None or group.unseen.main is None:
        return [line]
    rest = group.unseen
    assert rest.main is not None
    return [
        f"{line}; without them: baseline {rate(rest.baseline.refused)}, "
        f"{rest.main.arm.label} {rate(rest.main.refused)}"
    ]


def percent(value: float) -> str:
    """A share as whole percent."""
    return f"{100 * value:.0f}%"


def rate(share: Proportion) -> str:
    """A share with its interval: ``20% [13, 29]``."""
    return f"{percent(share.value)} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


def mean(value: Interval | None, digits: int = 2) -> str:
    """A mean as a number; a dash where there is none."""
    return "-" if value is None else f"{value.value:.{digits}f}"


def points(change: PairedChange | None) -> str:
    """A change of rate in percentage points, and relative to the rate before."""
    if change is None:
        return ""
    text = f"{change.points.value:+.0f} pp"
    if change.relative is not None:
        text += f" ({100 * change.relative.value:+.0f}%)"
    return text


def _arms(screen: Screen, group: Group) -> RenderableType:
    table = Table(box=frame(screen, box.SIMPLE), pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm")
    names = ("refused", "change", "partial", "invalid", "cut", "quality", "KL")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    rows = [_arm_row(one) for one in group.arms if not _is_elsewhere(group, one)]
    rows += [_control_row(one) for one in group.controls]
    for row in rows:
        table.add_row(*(screen.safe(cell) for cell in row))
    if screen.fits(table):
        return table
    # a table that is squeezed loses its numbers first
    return Parts(*(_line(screen, row, names) for row in rows))


def _is_elsewhere(group: Group, one: ArmFigures) -> bool:
    """Whether an arm has its place among the controls or in a curve."""
    role = one.arm.role
    if one is group.main:
        return False
    return role in _CONTROLS or (role in _STRENGTHS and _has_curves(group))


def _has_curves(group: Group) -> bool:
    return len(group.multipliers) > 2 or bool(group.additions)


def _line(screen: Screen, row: Sequence[str], names: Sequence[str]) -> Text:
    pairs = [
        f"{name} {cell}" for name, cell in zip(names, row[1:], strict=True) if cell
    ]
    return screen.safe(f"  {row[0]}: {', '.join(pairs)}")


def _arm_row(one: ArmFigures) -> list[str]:
    labels = {verdict.lower(): share for verdict, share in one.labels.items()}
    return [
        one.arm.label,
        rate(one.refused),
        points(one.change),
        percent(labels["partial"].value),
        percent(labels["invalid"].value),
        percent(one.truncated.value),
        mean(one.quality),
        mean(one.kl),
    ]


def _control_row(one: ControlFigures) -> list[str]:
    count = len(one.labels)
    spread = f" ({100 * one.least:.0f} to {100 * one.most:.0f})" if count > 1 else ""
    return [
        f"{one.role}{f' x {count}' if count > 1 else ''}",
        f"{percent(one.refused)}{spread}",
        "",
        "",
        percent(one.invalid),
        "",
        f"{one.quality:.2f}",
        "-" if one.kl is None else f"{one.kl:.2f}",
    ]


def _curves(screen: Screen, group: Group) -> list[RenderableType]:
    """The paper's figure in characters: refusals, quality and KL against strength."""
    parts: list[RenderableType] = []
    curves = (
        ("multiplier of the circuit", group.multipliers, ""),
        ("CAA strength", group.additions, "+"),
    )
    for title, points_, sign in curves:
        if len(points_) < 2:
            continue
        parts.append(Text(f"{title}: refused, quality, KL", style="bold"))
        for strength, one in points_:
            filled = round(_BAR * one.refused.value)
            bar = screen.glyph("█", "#") * filled
            bar += screen.glyph("░", ".") * (_BAR - filled)
            parts.append(
                screen.safe(
                    f"  {strength:{sign}5.2f} {bar} {percent(one.refused.value):>4}  "
                    f"{mean(one.quality)}  {mean(one.kl)}"
                )
            )
    return parts


def verification_view(screen: Screen, found: Verification) -> RenderableType:
    """How many samples came out the same, and where the others part."""
    run, total = found.run, len(found.samples)
    lines = [
        f"{counted(found.prompts, 'prompt')} of {run.directory} answered again, "
        f"{counted(total, 'sample')}",
        f"  the same tokens: {found.same_tokens} of {total}",
        f"  the same label:  {found.same_label} of {total}",
    ]
    other = [one for one in found.samples if not one.is_same]
    for one in other[:_LISTED]:
        where = f"{one.old.set} {one.old.id}, {one.old.arm}"
        became = (
            f"{one.old.label}"
            if one.has_same_label
            else f"{one.old.label} then, {one.new.label} now"
        )
        lines.append(f"  {where}: parts at token {(one.parts_at or 0) + 1}, {became}")
    if len(other) > _LISTED:
        lines.append(f"  and {len(other) - _LISTED} more (--json lists them)")
    then, now = run.facts.environment, EnvironmentEntry.from_json(found.environment)
    lines.append(f"then {_machine(then)}; now {_machine(now)}")
    return Parts(*(screen.safe(line) for line in lines))


def _machine(around: EnvironmentEntry) -> str:
    parts = [around.device, around.backend, around.blas]
    parts.append(f"MLX {around.versions.get('mlx')}")
    return ", ".join(str(part) for part in parts)
