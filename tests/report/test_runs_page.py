"""The list of runs, and its page: right values, whatever the files hold."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import BROWSER, opened
from commandline import Outcome
from evaluation_runs import ABLATED, ANSWER, BASELINE, REFUSAL, make_run
from pages import Page

from cna_mlx import write_runs_page
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import RULES, RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import read_samples
from cna_mlx.report import listing
from cna_mlx.report.build import ReportedRun
from cna_mlx.report.listing import RunFigures, listed_runs
from cna_mlx.report.writing import write_report
from cna_mlx.strength import MEAN
from cna_mlx.util.files import cache_directory

Command = Callable[..., Outcome]
NASTY = "<script>alert(1)</script>\x1b[2J\u202e\"' onload=x"
FRESH = {"rules": RULES}


@pytest.fixture(name="place")
def place_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of runs, and an empty cache."""
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def changed(run: RunRecord, **entries: Any) -> None:
    path = run.directory / "run.json"
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**data, **entries}), "utf-8")


def rows(page: Path) -> list[dict[str, str]]:
    """The attributes of the page's rows."""
    tags = Page(page.read_text("utf-8")).tags
    return [attrs for tag, attrs in tags if tag == "tr" and "data-name" in attrs]


# ---------------------------------------------------------------------- the figures


def test_a_list_says_of_a_run_what_its_report_says(place: Path) -> None:
    run = make_run(place / "one", facts=FRESH)
    (one,) = listed_runs()
    reported = ReportedRun.of(run)
    target = reported.summary.target
    assert target
    assert target.main
    assert one.figures.headline == reported.conclusion.headline
    assert one.figures.outcome == reported.conclusion.outcome.name.lower()
    assert one.before == target.baseline.refused
    assert one.after == target.main.refused
    assert (one.model, one.note) == ("somebody/tiny-llama", None)
    assert one.circuit_text == "refusal circuit, 4 neurons, multiplier 0"
    assert one.state_text == "complete, 12 prompts"
    assert one.command == "cna-mlx report one"
    data = one.to_dict()
    assert data["circuit"]["intervention"] == {"kind": "scale", "value": 0.0}
    assert data["before"]["value"] == 1.0
    assert data["after"]["successes"] == 4
    assert data["verdict"]["headline"] == one.figures.headline
    assert (data["state"], data["report"]) == ("complete", None)


def test_rates_are_of_the_prompts_that_the_verdict_is_about(place: Path) -> None:
    seen = {"harmful-set": ["harmful-0", "harmful-2"], "benign-set": []}
    make_run(place / "one", facts={"contamination": seen})
    (one,) = listed_runs()
    assert one.before
    assert one.after
    assert (one.before.n, one.after.successes, one.after.n) == (6, 2, 6)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ((BASELINE,), ""),
        ((BASELINE, RunArm("CAA -1", "caa", -1.0)), "CAA, alpha -1"),
        (
            (BASELINE, RunArm.of("mean", "pinned", MEAN, circuit="circuit")),
            "refusal circuit, 4 neurons, mean",
        ),
        (
            (BASELINE, RunArm("m=0.5", "scaled", 0.5, None, "circuit")),
            "refusal circuit, 4 neurons, multiplier 0.5",
        ),
    ],
)
def test_what_was_done_to_which_circuit(
    place: Path, arms: tuple[RunArm, ...], said: str
) -> None:
    make_run(place / "one", arms=arms)
    assert [one.circuit_text for one in listed_runs()] == [said]


def test_a_ranking_and_a_file_are_named(place: Path) -> None:
    run = make_run(place / "one", arms=(BASELINE, ABLATED))
    data = json.loads((place / "one" / "run.json").read_text("utf-8"))
    entry = data["config"]["circuits"]["circuit"]
    entry.update(file="mine.json", rank="causal")
    changed(run, config=data["config"])
    (one,) = listed_runs()
    assert one.circuit_text == "mine.json, 4 neurons by causal, multiplier 0"


def test_states_are_complete_incomplete_and_damaged(place: Path) -> None:
    make_run(place / "whole")
    make_run(place / "cut", done=3, status="interrupted")
    make_run(place / "empty", done=0, status="running")
    make_run(place / "short", done=3)
    (make_run(place / "broken").directory / "samples.jsonl").write_text("{\n{\n")
    changed(make_run(place / "newer"), format=99)
    (make_run(place / "lost").directory / "run.json").unlink()
    (place / "something").mkdir()
    (place / "notes.txt").write_text("mine")
    found = {one.name: one for one in listed_runs()}
    assert {name: one.state_text for name, one in found.items()} == {
        "whole": "complete, 12 prompts",
        "cut": "interrupted, 3 of 12 prompts",
        "empty": "running, 0 of 12 prompts",
        "short": "complete, 3 of 12 prompts",
        **dict.fromkeys(("broken", "newer", "lost"), "damaged"),
    }
    assert found["short"].state == "incomplete"
    assert found["empty"].command is found["broken"].command is None
    assert found["broken"].figures.problem == (
        "samples.jsonl: line 1 is damaged; put it right, or begin again in another "
        "--out"
    )
    assert "format 99 is newer" in (found["newer"].figures.problem or "")
    assert found["lost"].figures.problem == "run.json is missing"
    assert not any(str(place) in str(one.figures) for one in found.values())
    assert [one.name for one in listed_runs()][-2:] == ["lost", "newer"]


def test_labels_of_another_version_are_noted(place: Path) -> None:
    make_run(place / "old")
    make_run(place / "new", facts={"rules": {"labels": 99}})
    make_run(place / "none", done=0)
    notes = {one.name: one.note for one in listed_runs()}
    assert "earlier version" in (notes["old"] or "")
    assert "--relabel" in (notes["old"] or "")
    assert "later version" in (notes["new"] or "")
    assert notes["none"] is None


def test_the_arms_of_a_prompt_answer_the_same_prompt(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run").directory / "samples.jsonl"
    lines = path.read_text("utf-8").splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), "kind": "benign"})
    path.write_text("\n".join(lines) + "\n", "utf-8")
    arms = [arm.label for arm in RunRecord.load(tmp_path / "run").arms]
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_samples(path, arms)


# ------------------------------------------------------------------------ the cache


@pytest.fixture(name="reads")
def reads_fixture(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs whose samples are read."""
    found: list[str] = []
    original = RunFigures.of

    def of(run: RunRecord) -> RunFigures:
        found.append(run.directory.name)
        return original(run)

    monkeypatch.setattr(RunFigures, "of", staticmethod(of))
    return found


def test_only_runs_that_changed_are_read_again(place: Path, reads: list[str]) -> None:
    for name in ("one", "two"):
        make_run(place / name, done=3, status="interrupted")
    first = listed_runs()
    assert sorted(reads) == ["one", "two"]
    assert listed_runs() == first
    assert len(reads) == 2
    shutil.rmtree(place / "two")
    make_run(place / "two")
    after = {one.name: one.figures.done for one in listed_runs()}
    assert after == {"one": 3, "two": 12}
    assert reads[2:] == ["two"]
    (kept,) = (cache_directory() / "lists").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_changed_code_reads_everything_again(
    place: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(place / "one")
    listed_runs()
    monkeypatch.setattr("cna_mlx.report.listing_cache._code", lambda: ["later", 0])
    listed_runs()
    assert reads == ["one", "one"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\0", '{"kind": "cna-mlx list of runs", "format": 1, "runs": 3}'],
)
def test_a_damaged_cache_counts_as_empty(place: Path, text: str) -> None:
    make_run(place / "one")
    first = listed_runs()
    (kept,) = (cache_directory() / "lists").iterdir()
    kept.write_text(text)
    assert listed_runs() == first


@pytest.mark.parametrize(
    "figures", [{}, [], {"done": "x"}, {"done": 12, "before": [9, 2]}]
)
def test_strange_figures_in_the_cache_are_read_again(place: Path, figures: Any) -> None:
    make_run(place / "one")
    first = listed_runs()
    (kept,) = (cache_directory() / "lists").iterdir()
    data = json.loads(kept.read_text("utf-8"))
    data["runs"]["one"]["figures"] = figures
    kept.write_text(json.dumps(data), "utf-8")
    assert listed_runs() == first


def test_a_cache_that_cannot_be_written_is_done_without(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "file"))
    make_run(place / "one")
    assert [one.figures.done for one in listed_runs()] == [12]


def test_what_was_damaged_is_read_the_next_time(place: Path) -> None:
    run = make_run(place / "one")
    samples = run.directory / "samples.jsonl"
    good, when = samples.read_bytes(), samples.stat().st_mtime_ns
    samples.write_bytes(b"{\n" + good[2:])
    os.utime(samples, ns=(when, when))
    assert [one.state for one in listed_runs()] == ["damaged"]
    samples.write_bytes(good)
    os.utime(samples, ns=(when, when))
    assert [one.state for one in listed_runs()] == ["complete"]


def test_an_interrupted_list_keeps_what_it_read(
    place: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        make_run(place / name)
    counting = RunFigures.of

    def stopped(run: RunRecord) -> RunFigures:
        if reads:
            raise KeyboardInterrupt
        return counting(run)

    with monkeypatch.context() as patch:
        patch.setattr(listing.RunFigures, "of", staticmethod(stopped))
        with pytest.raises(KeyboardInterrupt):
            listed_runs()
    listed_runs()
    assert sorted(reads) == ["one", "two"]


# ------------------------------------------------------------------------- the page


def test_the_page_has_every_run_with_its_verdict(place: Path) -> None:
    make_run(place / "one", facts=FRESH)
    make_run(place / "cut", done=3, status="interrupted", facts=FRESH)
    (make_run(place / "broken").directory / "samples.jsonl").write_text("{\n{\n")
    page = write_runs_page()
    assert page.path == place / "index.html"
    assert page.path.stat().st_mode & 0o777 == 0o600
    shown = Page(page.path.read_text("utf-8"))
    cells = [" ".join(cell.split()) for cell in shown.cells]
    found = [cells[at : at + 5] for at in range(5, len(cells), 5)]
    table = {
        row["data-name"]: own for row, own in zip(rows(page.path), found, strict=True)
    }
    (one,) = (one for one in page.runs if one.name == "one")
    assert table["one"] == [
        "onecna-mlx report one",
        "somebody/tiny-llamarefusal circuit, 4 neurons, multiplier 0",
        one.figures.headline,
        "100% to 50%of 8 prompts",
        f"{one.date}complete, 12 prompts",
    ]
    assert table["cut"][4].endswith("interrupted, 3 of 12 prompts")
    assert table["broken"][2].startswith("samples.jsonl: line 1 is damaged")
    assert "3 runs, 1 incomplete, 1 damaged" in shown.text
    fell = {row["data-name"]: row["data-fell"] for row in rows(page.path)}
    assert fell == {"one": "0.5000", "cut": "0.3333", "broken": ""}


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(place: Path) -> None:
    make_run(place / "one")
    text = write_runs_page().path.read_text("utf-8")
    page = Page(text)
    (policy,) = (
        attrs["content"]
        for _, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    keys = {key for _, attrs in page.tags for key in attrs}
    assert keys & {"src", "style", "onclick", "onload"} == set()
    assert not re.search(r"https?://", text)
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_names_and_models_are_only_text(place: Path) -> None:
    make_run(place / "<b>&\x1b[2J", model=NASTY, arms=(BASELINE, ABLATED))
    page = write_runs_page().path
    text = page.read_text("utf-8")
    assert "\x1b" not in text
    assert "\u202e" not in text
    shown = Page(text)
    assert not {"b", "img"} & {tag for tag, _ in shown.tags}
    (row,) = rows(page)
    assert row["data-model"] == NASTY.replace("\x1b", "\\x1b").replace(
        "\u202e", "\\u202e"
    )
    assert set(row) == {
        *("data-name", "data-model", "data-outcome", "data-command", "data-state"),
        "data-fell",
    }


@pytest.mark.parametrize("out", [None, "elsewhere/deep", "linked"])
def test_links_lead_to_the_reports(
    place: Path, tmp_path: Path, out: str | None
) -> None:
    for name in ("plain", "javascript:alert(1)", "50% & a#b?c"):
        write_report(make_run(place / name))
    make_run(place / "without")
    (tmp_path / "target").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "target")
    page = write_runs_page(None, out and tmp_path / out).path
    links = Page(page.read_text("utf-8")).attributes("a", "href")
    assert len(links) == 3
    assert not [link for link in links if re.search(r"[:?#&]", link)]
    for link in links:
        assert (page.parent.resolve() / unquote(link)).is_file()
    if out is None:
        assert "plain/report.html" in links


def test_a_report_that_is_older_than_the_answers_says_so(place: Path) -> None:
    run = make_run(place / "one")
    report = write_report(run).html
    assert "cna-mlx report one" not in write_runs_page().path.read_text("utf-8")
    os.utime(report, (1, 1))
    text = write_runs_page().path.read_text("utf-8")
    assert "older than the last answers" in text
    assert "<code>cna-mlx report one</code>" in text
    assert 'href="one/report.html"' in text


def test_runs_elsewhere_are_named_by_their_path(tmp_path: Path, place: Path) -> None:
    make_run(tmp_path / "others" / "one")
    page = write_runs_page(tmp_path / "others", tmp_path / "page")
    assert page.path == tmp_path / "page" / "index.html"
    assert f"cna-mlx report {tmp_path}/others/one" in page.path.read_text("utf-8")
    with pytest.raises(InputError, match="cna-mlx eval demo makes one"):
        write_runs_page(tmp_path / "page")


def test_the_latest_run_comes_first(place: Path) -> None:
    for name, day in (("a", 2), ("b", 9), ("c", 5)):
        changed(make_run(place / name), updated=f"2026-01-0{day}T10:20:30+00:00")
    page = write_runs_page()
    assert [row["data-name"] for row in rows(page.path)] == ["b", "c", "a"]
    assert page.runs[0].date == "2026-01-09 10:20"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_filters_and_order_in_a_browser(place: Path, tmp_path: Path) -> None:
    def all_answered(arm: RunArm, number: int, kind: str) -> str:
        return REFUSAL if arm.role != "ablated" and kind != "benign" else ANSWER

    for name, day in (("half", 1), ("cut", 2), ("all", 3)):
        done = 3 if name == "cut" else None
        run = make_run(
            place / name,
            done=done,
            status="interrupted" if done else "complete",
            **({"answers": all_answered} if name == "all" else {}),
        )
        changed(run, updated=f"2026-01-0{day}T10:20:30+00:00")
    page = write_runs_page().path

    def shown(fragment: str) -> list[str]:
        found = Page(opened(page, fragment, tmp_path / "profile"))
        own = [a for tag, a in found.tags if tag == "tr" and "data-name" in a]
        return [attrs["data-name"] for attrs in own if "hidden" not in attrs]

    assert shown("#order=fell") == ["all", "half", "cut"]
    assert shown("#state=complete&search=HALF+tiny") == ["half"]
