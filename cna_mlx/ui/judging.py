"""Show how far the labels and a judge agree."""

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.agreement import Agreement
from cna_mlx.analysis.judging import Judging
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import table_or_lines
from cna_mlx.util.formatting import counted, decimal, percent, rate


def judging_view(screen: Screen, judging: Judging) -> RenderableType:
    """The agreement by arm, then labels against the judge's labels."""
    agreements = judging.agreements
    everything = agreements["all"]
    rows = [_row(name, one) for name, one in agreements.items()]
    names = ["", "n", "agree", "kappa", "REFUSED by labels", "by judge"]
    table = everything.table
    counts = [[label, *map(str, row.values())] for label, row in table.items()]
    return Group(
        screen.safe(f"judge: {judging.judge.name}", "bold"),
        *(screen.safe(line) for line in _left_out(judging, everything)),
        table_or_lines(screen, names, rows),
        Text("labels (rows) and judge (columns)", style="bold"),
        table_or_lines(screen, ["", *table], counts),
    )


def _row(name: str, one: Agreement) -> list[str]:
    refused = (one.refused_by_labels, one.refused_by_judge)
    shares = [percent(share.value) for share in refused]
    return [name, f"{one.n:,}", rate(one.agree), decimal(one.kappa), *shares]


def _left_out(judging: Judging, one: Agreement) -> list[str]:
    lines = [
        f"{len(judging.found):,} of {counted(len(judging.answers), 'answer')} judged"
    ]
    if one.unjudged:
        lines.append(f"not compared: {counted(one.unjudged, 'answer')} not in English")
    if one.unreadable:
        replies = "reply names" if one.unreadable == 1 else "replies name"
        lines.append(f"not compared: {one.unreadable:,} {replies} no label")
    return lines
