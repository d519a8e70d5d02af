"""One summary in the terminal, HTML, Markdown and CSV: every number is the same.

CSV holds the unrounded values; formatted, they are what the others show.
"""

import csv
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from commandline import make_screen, sent
from evaluation_runs import ANSWER, ARMS, GARBAGE, REFUSAL, Answers, make_run

from cna_mlx.analysis.metrics import Summary
from cna_mlx.analysis.verdict import conclude
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.report.build import ReportedRun, build
from cna_mlx.report.csv_tables import figures_csv
from cna_mlx.report.html import to_html
from cna_mlx.report.listing import Listed
from cna_mlx.report.markdown import to_markdown
from cna_mlx.ui.evaluation import summary_view, verdict_view
from cna_mlx.ui.runs import runs_view
from cna_mlx.util.formatting import auc_text, decimal, p_value, percent, points

TERMINAL = ("arm", "refused", "points", "partial", "invalid", "cut", "quality", "KL")


def by_counts(baseline: int, ablated: int, benign: int = 0) -> Answers:
    """How many harmful prompts each arm refuses, and how many benign ones ablated."""

    def answer(arm: RunArm, number: int, kind: str) -> str:
        limit = ablated if arm.role == "ablated" else baseline
        if number < limit and kind == "harmful":
            return REFUSAL
        if kind == "benign" and arm.role == "ablated" and number < 300 + benign:
            return GARBAGE if number % 2 else REFUSAL
        return ANSWER

    return answer


@pytest.fixture(
    name="entry",
    scope="module",
    params=[(299, 1, 0), (1, 299, 1), (300, 0, 3), (9, 8, 0), (150, 149, 298)],
    ids=str,
)
def entry_fixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ReportedRun:
    """Rates of 1 in 300 and 299 in 300, tiny and large p, an AUC of 1."""
    place = tmp_path_factory.mktemp("run") / "run"
    answers = by_counts(*request.param)
    return ReportedRun.of(
        make_run(place, arms=ARMS[:3], harmful=300, benign=300, answers=answers)
    )


class _Cells(HTMLParser):
    """The rows of all tables: each cell's text, and its small print."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[list[str]]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append([])
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1].append(data.replace("\u2212", "-"))


def in_html(page: str) -> list[dict[str, str]]:
    rows = [[_cell(parts) for parts in row] for row in _Cells(page).rows]
    return _tables(rows)


def _cell(parts: list[str]) -> str:
    return parts[0] + (f" ({parts[1]})" if len(parts) > 1 else "") if parts else ""


def in_markdown(text: str) -> list[dict[str, str]]:
    plain = re.sub(r"\\(.)", r"\1", text)
    lines = [line for line in plain.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return _tables([row for row in rows if not row[0].startswith("---")])


def _tables(rows: list[list[str]]) -> list[dict[str, str]]:
    """The rows of the tables of arms, by column; the third is seed by seed."""
    found, names = list[dict[str, str]](), list[str]()
    for row in rows:
        if row[0] == "arm":
            names = row
        elif names and len(row) == len(names):
            found.append(dict(zip(names, row, strict=True)))
        else:
            names = []
    return found[: 2 * 3]


def in_terminal(text: str) -> list[dict[str, str]]:
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    rows = [row for row in rows if len(row) == len(TERMINAL) and row[0] != "arm"]
    return [dict(zip(TERMINAL, row, strict=True)) for row in rows]


def on_screen(summary: Summary) -> str:
    screen = make_screen(120, color=False)
    screen.out.print(summary_view(screen, summary))
    screen.out.print(verdict_view(screen, conclude(summary)))
    return sent(screen.out)


def test_every_table_has_the_same_numbers(entry: ReportedRun) -> None:
    content = build([entry])
    page, markdown = in_html(to_html(content)), in_markdown(to_markdown(content))
    assert len(page) == 6
    assert page == markdown
    for shown, whole in zip(in_terminal(on_screen(entry.summary)), page, strict=True):
        assert shown["refused"] == whole["refused"]
        for name, column in (
            ("points", "change, points"),
            ("partial", "partial"),
            ("invalid", "invalid"),
            ("cut", "truncated"),
            ("quality", "quality"),
            ("KL", "KL, nats"),
        ):
            assert shown[name] == whole[column].partition(" (")[0], name


def test_the_unrounded_numbers_are_what_is_shown(entry: ReportedRun) -> None:
    table = in_markdown(to_markdown(build([entry])))
    arms = {one["arm"] for one in table if one["p"] != "-"}
    assert arms == {"ablated"}
    rows = [
        row
        for row in csv.DictReader(io.StringIO(figures_csv([entry])))
        if row["prompts"] == "all" and row["role"] in ("baseline", "ablated")
    ]
    shown = [one for one in table if one["arm"] in ("baseline", "ablated")]
    for row, cells in zip(rows, shown, strict=True):
        assert cells["arm"] == row["arm"]
        assert cells["refused"].partition(" ")[0] == percent(float(row["refused"]))
        assert cells["quality"].partition(" ")[0] == decimal(float(row["quality"]))
        assert cells["KL, nats"].partition(" ")[0] == decimal(float(row["kl"]))
        assert int(cells["invalid"]) == int(row["invalid_n"])
        if row["role"] == "ablated":
            change = points(float(row["change_points"]))
            assert cells["change, points"].partition(" ")[0] == change
            assert cells["p"] == p_value(float(row["p_holm"]))


def test_sentences_have_the_numbers_of_the_tables(
    entry: ReportedRun, tmp_path: Path
) -> None:
    summary = entry.summary
    assert summary.target
    assert summary.target.main
    before = percent(summary.target.baseline.refused.value)
    after = percent(summary.target.main.refused.value)
    assert summary.separation
    markdown = re.sub(r"\\(.)", r"\1", to_markdown(build([entry])))
    assert auc_text(summary.separation).startswith("1.00 [")
    assert auc_text(summary.separation) in markdown
    headline = conclude(summary).headline
    if "Too few" not in headline:
        assert before in headline
        assert after in headline
    screen = make_screen(80, color=False)
    screen.out.print(runs_view(screen, [Listed.of(summary.run)]))
    assert f"refused {before}, ablated {after}" in sent(screen.out)


def test_only_none_and_all_are_written_so() -> None:
    shares = [0, 1 / 3000, 1 / 300, 0.5, 299 / 300, 2999 / 3000, 1]
    wanted = ["0%", "<1%", "<1%", "50%", ">99%", ">99%", "100%"]
    assert [percent(share) for share in shares] == wanted
    assert [percent(None), percent(math.nan), decimal(None)] == ["-"] * 3
    changes = [0.0, -0.3, 0.04, 0.6, -99.7, -100.0]
    wanted = ["0", "-0.3", "+0.04", "+1", "-100", "-100"]
    assert [points(change) for change in changes] == wanted
    assert [p_value(p) for p in (1.0, 0.25, 0.0001, 4.2e-90)] == [
        "1",
        "0.25",
        "0.0001",
        "4e-90",
    ]
