"""Two models or runs on the screen: the findings, then the figures."""

from statistics import fmean

from rich.console import Group as Parts
from rich.console import RenderableType
from rich.text import Text

from cna_mlx.analysis.compared_model import ComparedModel, Effect
from cna_mlx.analysis.comparison import KINDS, ModelComparison
from cna_mlx.analysis.decision import Outcome
from cna_mlx.analysis.findings import headline
from cna_mlx.analysis.transfer import transfers
from cna_mlx.evaluation.run_config import CONTROLS
from cna_mlx.provenance import Auc
from cna_mlx.report.group_tables import Row, arm_row, control_row
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import bullets, table_or_lines
from cna_mlx.util.formatting import NO_VALUE, auc_text, counted, decimal, percent, rate

_BAR = 20
_TITLES = {"target": "to be declined", "benign": "benign"}
_OUTCOMES = {
    Outcome.FELL: "fell",
    Outcome.MORE: "fell, few controls",
    Outcome.OPENING: "other opening",
    Outcome.NO_MORE: "as under controls",
    Outcome.HELD: "held",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.BROKE: "model broke",
    Outcome.TOO_FEW: "too few",
    Outcome.UNCONTROLLED: "fell, no controls",
    Outcome.NOTHING: "unusable",
}
_COLUMNS = {"change, points": "points", "invalid": "", "quality": "", "KL, nats": "KL"}


def comparison_view(
    screen: Screen, found: ModelComparison, said: tuple[str, ...]
) -> RenderableType:
    """The headline and findings on the two, their circuits, and their rates."""
    parts: list[RenderableType] = [screen.safe(headline(found), "bold"), Text()]
    parts += [*bullets(screen, said), Text()]
    parts += [screen.safe("circuits", "bold"), _circuits(screen, found), Text()]
    parts += _layers(screen, found)
    parts += _transfers(screen, found)
    for kind in KINDS:
        parts += _rates(screen, found, kind)
    return Parts(*parts[:-1])


def _circuits(screen: Screen, found: ModelComparison) -> RenderableType:
    sides = found.sides
    rows = [
        ["weights", *(str(one.model.quantization or NO_VALUE) for one in sides)],
        ["neurons", *map(_neurons, sides)],
        ["split half", *map(_split_half, sides)],
        ["held-out AUC", *(_auc(one.own) for one in sides)],
        ["  rendered alike", *(_auc(one.same) for one in sides)],
    ]
    for kind in KINDS:
        groups = [one.group(kind) for one in sides]
        gauges = [decimal(group.gauge if group else None) for group in groups]
        rows.append([f"gauge, {_TITLES[kind]}", *gauges])
    aucs = [_auc(one.summary.separation if one.summary else None) for one in sides]
    rows.append(["  AUC of these", *aucs])
    return table_or_lines(screen, ("", *(one.name for one in sides)), rows)


def _neurons(side: ComparedModel) -> str:
    count = len(side.circuit.neurons) if side.circuit else 0
    return f"{count} of {side.model.total or 0:,}"


def _split_half(side: ComparedModel) -> str:
    return decimal(side.circuit.provenance.split_half if side.circuit else None)


def _auc(value: Auc | None) -> str:
    return auc_text(value) if value else NO_VALUE


def _layers(screen: Screen, found: ModelComparison) -> list[RenderableType]:
    """The neurons of each circuit by layer, if the layers can be compared."""
    overlap = found.overlap
    if overlap is None or overlap.by_depth:
        return []
    names = " and ".join(side.name for side in found.sides)
    parts: list[RenderableType] = [screen.safe(f"neurons by layer: {names}", "bold")]
    counts = [
        [round(share * size) for share in profile]
        for profile, size in zip(overlap.profiles, overlap.sizes, strict=True)
    ]
    most = max(map(max, counts))
    width = len(str(most))
    for layer, pair in enumerate(zip(*counts, strict=True)):
        if any(pair):
            bars = "  ".join(_bar(screen, count, most, width) for count in pair)
            parts.append(screen.safe(f"  {layer:>3}  {bars}".rstrip()))
    return [*parts, Text()]


def _bar(screen: Screen, count: int, most: int, width: int) -> str:
    bar = screen.glyph("\u2588", "#") * -(-_BAR * count // most)
    return f"{count:>{width}} {bar:<{_BAR}}"


def _transfers(screen: Screen, found: ModelComparison) -> list[RenderableType]:
    """What each circuit does at home and on the other model.

    Empty if each model answered with its own circuit only.
    """
    rows: list[list[str]] = []
    for one in transfers(found):
        rows.append([f"circuit of {one.home.name}"])
        if one.at_home:
            rows.append(_effect(f"at home, {one.home.name}", one.at_home))
        rows.append(_effect(f"on {one.model.name}", one.away))
    if not rows:
        return []
    names = ("", "refused", "lost", "benign KL", "quality", "refusals")
    table = table_or_lines(screen, names, rows)
    return [screen.safe("do the circuits carry over?", "bold"), table, Text()]


def _effect(name: str, one: Effect) -> list[str]:
    before, after = one.change.before, one.change.after
    return [
        f"  {name}",
        f"{before.successes} to {after.successes} of {before.n}",
        rate(one.lost),
        decimal(one.kl.value if one.kl else None),
        decimal(one.quality[1]),
        _OUTCOMES[one.outcome],
    ]


def _rates(screen: Screen, found: ModelComparison, kind: str) -> list[RenderableType]:
    """The arms of both on the prompts of one kind."""
    groups = [group for one in found.sides if (group := one.group(kind))]
    if not groups:
        return []
    sets = dict.fromkeys(
        one.set
        for side in found.sides
        for one in (side.summary.groups if side.summary else ())
        if (one.kind == "benign") == (kind == "benign")
    )
    head = f"{_TITLES[kind]} ({', '.join(sets)}): {counted(groups[0].n, 'prompt')}"
    names = [short or name for name, short in _COLUMNS.items()]
    rows = [row for side in found.sides for row in _arms(side, kind)]
    return [
        screen.safe(head, "bold"),
        table_or_lines(screen, ("", "refused", *names, "differ"), rows),
        Text(),
    ]


def _arms(side: ComparedModel, kind: str) -> list[list[str]]:
    group = side.group(kind)
    if group is None:
        return []
    shares = side.differing[kind]
    rows = [[side.name]]
    for one in group.arms:
        if one.arm.role not in CONTROLS:
            differing = percent(shares[one.arm.label].value)
            if one.arm.role == "baseline":
                differing = ""
            rows.append(_row(one.arm.label, arm_row(one), differing))
    for control in group.controls:
        mean = fmean(shares[label].value for label in control.arms)
        several = f" x {len(control.arms)}" if len(control.arms) > 1 else ""
        name = f"{control.role}{several}"
        rows.append(_row(name, control_row(control, group.n), percent(mean)))
    return rows


def _row(name: str, row: Row, differing: str) -> list[str]:
    figures = [row[column].text for column in _COLUMNS]
    return [f"  {name}", str(row["refused"]), *figures, differing]
