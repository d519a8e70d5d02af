"""Reports: the summary's figures, texts as data, and a page that asks for nothing."""

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browser import BROWSER, opened
from commandline import Outcome, make_screen, sent
from evaluation_runs import (
    ANSWER,
    ARMS,
    BASELINE,
    CATEGORIES,
    GARBAGE,
    REFUSAL,
    SWEEP,
    make_run,
    make_sample,
)
from marks import slow
from pages import Page
from texts import missing

from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind
from cna_mlx.report.build import ReportedRun, build
from cna_mlx.report.content import Piece
from cna_mlx.report.csv_tables import samples_csv
from cna_mlx.report.excerpts import EXCERPT, excerpt, joined
from cna_mlx.report.html import to_html
from cna_mlx.report.listing import listed_runs
from cna_mlx.report.markdown import escaped, to_markdown
from cna_mlx.report.paper_section import Paper
from cna_mlx.report.writing import write_report
from cna_mlx.ui.runs import runs_view

Command = Callable[..., Outcome]
Swept = tuple[RunRecord, ReportedRun, dict[str, str]]
FILES = ("report.html", "report.md", "report.csv", "samples.csv")


def make_report(directory: Path, level: Any = "excerpts", **run: Any) -> dict[str, str]:
    """The texts of a report's files, by their names."""
    files = write_report(make_run(directory, **run), level=level).files.values()
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A run of nine arms, and the texts of its report."""
    directory = tmp_path_factory.mktemp("runs") / "swept"
    texts = make_report(directory, arms=SWEEP)
    run = RunRecord.load(directory)
    return run, ReportedRun.of(run), texts


# ------------------------------------------------------------------------ a browser

PAIR = ("baseline", "ablated")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize(
    "fragment",
    [
        "#change=lost",
        *map(slow, ("", "#label=REFUSED", "#set=nothing", "#figures")),
    ],
)
def test_the_filters_in_a_browser(tmp_path: Path, fragment: str) -> None:
    """What is shown is what the samples say, also where a link asks for it."""
    run = make_run(tmp_path / "run")
    write_report(run, level="full")
    page = opened(tmp_path / "run" / "report.html", fragment, tmp_path / "profile")
    shown = re.findall(r'<article class="p"[^>]*?( hidden="")?>', page)
    labels = {(one.number, one.arm): one.label for one in run.samples()}
    kept = 0
    for number in range(run.planned):
        before, after = (labels[number, arm] is LabelKind.REFUSED for arm in PAIR)
        asked = {"#change=lost": before and not after, "#label=REFUSED": after}
        kept += asked.get(fragment, True)
    assert len(shown) == run.planned
    assert shown.count("") == kept
    assert f"{kept} of {len(shown)} prompts</output>" in page


# -------------------------------------------------------------------------- figures


def test_all_formats_give_the_figures_of_the_summary(swept: Swept) -> None:
    _, entry, texts = swept
    page, text = Page(texts["report.html"]), texts["report.md"]
    lines = {(row["set"], row["arm"]): row for row in rows(texts["report.csv"])}
    assert len(lines) == len(SWEEP) * 2
    for group in entry.summary.groups:
        for one in group.arms:
            row = lines[group.set, one.arm.label]
            assert float(row["refused"]) == one.refused.value
            assert float(row["refused_low"]) == one.refused.low
            assert int(row["refused_n"]) == one.refused.successes
            assert float(row["quality"]) == one.quality.value
            if one.change is not None:
                assert float(row["change_points"]) == one.change.points.value
                assert int(row["lost"]) == one.change.lost
                assert float(row["p"]) == one.change.p
    main = entry.summary.groups[0].main
    assert main is not None
    assert main.change is not None
    low, high = (round(100 * edge) for edge in (main.refused.low, main.refused.high))
    value = f"{100 * main.refused.value:.0f}%"
    assert f"{value}{low} to {high}" in page.cells
    assert f"| {value} ({low} to {high}) | {main.change.points.value:+.0f} (" in text
    assert f"{main.change.lost} / {main.change.gained}" in page.cells


def test_every_section_is_in_the_page_and_in_markdown(swept: Swept) -> None:
    _, entry, texts = swept
    content = build([entry])
    page = Page(texts["report.html"])
    sections = content.runs[0].sections
    keys = ["facts", "refusals", "over-refusal", "gauge", "controls"]
    keys += ["strength", "categories", "circuit", "contamination"]
    assert [section.key for section in sections] == keys
    titles = [section.title for section in sections]
    for title in titles:
        assert f"### {title}" in texts["report.md"].replace("## ", "### ")
        assert title in page.text
    assert entry.conclusion.headline in page.text
    for sentence in entry.conclusion.sentences:
        assert sentence in page.text
    ids = page.attributes("section", "id") + page.attributes("article", "id")
    assert len(ids) == len(set(ids))
    links = [link.removeprefix("#") for link in page.attributes("a", "href")]
    assert links
    assert set(links) <= set(ids)


def test_charts_say_what_they_draw(swept: Swept) -> None:
    _, _, texts = swept
    page = Page(texts["report.html"])
    alts = page.attributes("img", "alt")
    sources = page.attributes("img", "src") + page.attributes("source", "srcset")
    assert len(sources) == 2 * len(alts)  # for light pages and for dark ones
    assert any("baseline 100%, ablated 50%" in alt for alt in alts)
    assert any("multiplier 0.5 50%" in alt for alt in alts)
    assert any("alpha -1 50%" in alt for alt in alts)
    drawn = base64.b64decode(sources[0].partition(",")[2]).decode()
    assert drawn.startswith("<svg")
    assert "baseline" in drawn
    assert "<script" not in drawn


def test_every_sample_is_there_beside_the_baseline(swept: Swept) -> None:
    run, _, texts = swept
    page = Page(texts["report.html"])
    arms = [
        attrs["data-arm"]
        for tag, attrs in page.tags
        if tag == "section" and "data-arm" in attrs
    ]
    assert len(arms) == 12 * len(SWEEP)
    assert arms[: len(SWEEP)] == ["0", "1", *map(str, range(2, len(SWEEP)))]
    samples = rows(texts["samples.csv"])
    assert [row["text"] for row in samples] == [one.text for one in run.samples()]
    marks = re.findall(r"<mark>(.*?)</mark>", texts["report.html"])
    assert len(marks) == sum(one.span is not None for one in run.samples())


def test_words_and_first_tokens_stand_below_the_answers(tmp_path: Path) -> None:
    def draw(directory: str, **sample: Any) -> Page:
        return Page(make_report(tmp_path / directory, sample=sample)["report.html"])

    words = ((" How", -0.1), (" do", 0.3), ("\nI", 0.8), (" go", 0.75), ("?", 1.2))
    first = (("I", 0.75), (" be", 0.125), ("rare", 0.004))
    page = draw("run", words=words, first=first)
    shades = [one for one in page.attributes("span", "class") if re.match(r"w\d", one)]
    assert shades[:5] == ["w0", "w1", "w3 most", "w3", "w4"]
    assert '"I" raises the gauge most, by 0.50' in page.text
    shown = re.sub(r"\s+", " ", page.text)
    assert "How \u22120.10 do 0.30 I 0.80 go 0.75 ? 1.20" in shown
    assert '"I" baseline 75% ablated 75% " be" baseline' in shown
    assert page.attributes("rect", "width")[:4] == ["75.0", "75.0", "12.5", "12.5"]
    assert '"rare"' not in page.text
    assert "raises the gauge" not in draw("without").text
    assert "no word raises" in draw("falling", words=(("a", -1.0), (" b", -2.0))).text


def test_rates_of_a_broken_model_come_with_their_damage(tmp_path: Path) -> None:
    def answers(arm: RunArm, number: int, kind: str) -> str:
        return GARBAGE if arm.role == "ablated" else REFUSAL

    texts = make_report(tmp_path / "run", answers=answers, harmful=8)
    broken = next(row for row in rows(texts["report.csv"]) if row["arm"] == "ablated")
    assert broken["invalid_n"] == "8"
    assert "broke" in Page(texts["report.html"]).text


def test_seen_prompts_are_left_out_and_shown(tmp_path: Path) -> None:
    seen = {"harmful-set": ["harmful-1", "harmful-3"], "benign-set": []}
    texts = make_report(tmp_path / "run", facts={"contamination": seen})
    subsets = [row for row in rows(texts["report.csv"]) if row["set"] == "harmful-set"]
    assert {(row["prompts"], row["n"]) for row in subsets} == {
        ("all", "8"),
        ("unseen", "6"),
    }
    page = Page(texts["report.html"])
    assert missing(page.text, "2 of 8 harmful prompts", "of 6 prompts, without 2") == []
    assert page.text.count("seen by the discovery") == 2
    unknown = make_report(tmp_path / "other", facts={"contamination": {}})
    assert "benign-set: unknown" in Page(unknown["report.html"]).text


def test_a_model_of_the_paper_stands_beside_it(tmp_path: Path) -> None:
    texts = make_report(
        tmp_path / "run", model="mlx-community/Llama-3.2-1B-Instruct-4bit"
    )
    page = Page(texts["report.html"])
    assert "34%" in page.cells
    assert "\u221262.2%" in page.cells
    assert "13 regular expressions" in page.text
    assert "13 regular expressions" in texts["report.md"]


def test_a_directory_of_that_name_does_not(tmp_path: Path) -> None:
    config = make_run(tmp_path / "any").config.to_dict()
    model = {**config["model"], "id": "/models/Llama-3.2-1B-Instruct", "revision": None}
    directory = tmp_path / "run"
    run = make_run(directory)
    data = json.loads((directory / "run.json").read_text())
    data["config"]["model"] = model
    (directory / "run.json").write_text(json.dumps(data))
    content = build([ReportedRun.of(RunRecord.load(run.directory))])
    assert "paper" not in [one.key for one in content.runs[0].sections]
    assert content.runs[0].title == "Refusal audit of Llama-3.2-1B-Instruct"
    data["shape"] = {
        "model_type": "llama",
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    (directory / "run.json").write_text(json.dumps(data))
    paper = Paper.of(ReportedRun.of(RunRecord.load(run.directory)).summary)
    assert paper is not None  # by its shape, and that is said
    assert paper.row.model == "Llama-3.2-1B-Instruct"
    assert "hub id" not in paper.how


def test_what_belongs_beside_figures_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sample={"finish": "length"})
    data = json.loads((run.directory / "run.json").read_text())
    data["config"]["sets"][1]["note"] = "these are not the published ones"
    (run.directory / "run.json").write_text(json.dumps(data))
    entry = ReportedRun.of(RunRecord.load(run.directory))
    sections = {one.key: one for one in build([entry]).runs[0].sections}
    said = ["benign-set: these are not the published ones."]
    assert sections["over-refusal"].texts[1:] == said
    assert sections["refusals"].texts == []
    assert dict(sections["facts"].folded)["prompts benign-set"] == (
        f"Somebody (2024), MIT, sha256 {'c' * 64}"
    )
    assert "AUC of 1.00" in sections["gauge"].texts[1]
    text = Page(to_html(build([entry]))).text
    assert text.count("TRUNCATED") == 12 * len(ARMS) + 1  # and what it means
    assert {row["truncated"] for row in rows(samples_csv([entry], "full"))} == {"1"}


def test_a_run_of_the_baseline_alone_is_a_report_too(tmp_path: Path) -> None:
    texts = make_report(tmp_path / "run", arms=(BASELINE,), benign=0)
    assert len(rows(texts["report.csv"])) == 1
    assert "baseline refuses" in Page(texts["report.html"]).text


def test_a_run_without_kl_gauge_and_categories(tmp_path: Path) -> None:
    plain = {"kl": None, "gauge": None, "category": None}
    texts = make_report(tmp_path / "run", sample=plain, benign=0, kl_tokens=0)
    assert rows(texts["report.csv"])[0]["kl"] == ""
    text = Page(texts["report.html"]).text
    assert "By category" not in text
    assert "gauge 0" not in text
    assert "Mean gauge" not in text


# --------------------------------------------------------------- what is said loudly


def test_an_incomplete_run_says_so_first(tmp_path: Path) -> None:
    texts = make_report(tmp_path / "run", done=5, benign=0, status="interrupted")
    page = Page(texts["report.html"])
    place = page.text.index("INCOMPLETE: 5 of 8 prompts")
    assert place < page.text.index("baseline refuses")
    assert "> **INCOMPLETE: 5 of 8 prompts" in texts["report.md"]
    assert {row["n"] for row in rows(texts["report.csv"])} == {"5"}
    assert {row["status"] for row in rows(texts["report.csv"])} == {"interrupted"}


def test_a_run_without_a_whole_batch_is_no_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=0, status="interrupted")
    with pytest.raises(InputError, match=re.escape(str(run.directory))):
        ReportedRun.of(run)


def test_labels_are_made_anew_where_that_is_wanted(tmp_path: Path) -> None:
    wrong = {"label": LabelKind.REFUSED, "span": (0, 4)}
    run = make_run(tmp_path / "run", sample=wrong, harmful=8, benign=0)
    before = (run.directory / "samples.jsonl").read_bytes()
    old, new = ReportedRun.of(run), ReportedRun.of(run, relabel=True)
    ablated = [one.summary.groups[0].arm("ablated").refused for one in (old, new)]
    assert [one.successes for one in ablated] == [8, 4]
    assert new.changed == 4
    assert (run.directory / "samples.jsonl").read_bytes() == before
    assert "4 labels" in Page(to_html(build([new]))).text
    assert "Relabelled" not in Page(to_html(build([old]))).text


# ------------------------------------------------------------------------ safety

HOSTILE = (
    '</p></section><script>alert(1)</script><img src="https://evil.example/x" '
    "onerror=alert(2)>{{ 7*7 }} & \u202etxt.exe\u202c \x00\x1b[31m\r\u200b\ud800"
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A report of a run where every text is an attack."""
    sample = {
        "prompt": HOSTILE,
        "set": HOSTILE,
        "id": HOSTILE,
        "category": HOSTILE,
        "span": (0, 12),
        "label": LabelKind.REFUSED,
        "words": ((HOSTILE, 0.5),),
        "first": ((HOSTILE, 0.5),),
    }
    return make_report(
        tmp_path_factory.mktemp("runs") / "run",
        level="full",
        answers=lambda *_: HOSTILE,
        sample=sample,
        model=f"evil/{HOSTILE}",
        facts={"contamination": {HOSTILE: []}},
    )


def test_texts_are_never_markup(hostile: dict[str, str]) -> None:
    page = Page(hostile["report.html"])
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert all(one.startswith("data:image/") for one in page.attributes("img", "src"))
    assert "alert" not in page.parts["script"]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    for _, attrs in page.tags:
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]


@pytest.mark.parametrize("name", FILES)
def test_controls_are_spelled_out(hostile: dict[str, str], name: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e]", hostile[name])
    assert not re.search("[\ud800-\udfff]", hostile[name])


def test_what_is_hidden_in_a_text_is_shown(hostile: dict[str, str]) -> None:
    text = Page(hostile["report.html"]).text
    assert "\\u202etxt.exe\\u202c \\x00\\x1b[31m\\r\\u200b" in text
    assert "\\u202etxt.exe" in hostile["samples.csv"]


def test_the_policy_allows_this_script_and_style_and_nothing_else(
    hostile: dict[str, str],
) -> None:
    page = Page(hostile["report.html"])
    (policy,) = [
        attrs["content"]
        for tag, attrs in page.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    wanted = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'"}
    wanted["form-action"] = "'none'"
    for part in ("style", "script"):
        digest = hashlib.sha256(page.parts[part].encode()).digest()
        wanted[f"{part}-src"] = f"'sha256-{base64.b64encode(digest).decode()}'"
    assert dict(one.split(" ", 1) for one in policy.split("; ")) == wanted


def test_no_request_leaves_the_page(hostile: dict[str, str]) -> None:
    page = Page(hostile["report.html"])
    fetched = ("src", "srcset", "href", "action", "data", "poster", "background")
    for _, attrs in page.tags:
        for name in fetched:
            assert attrs.get(name, "#").startswith(("#", "data:image/svg+xml;base64,"))
    assert "url(" not in page.parts["style"]
    assert "@import" not in page.parts["style"]
    for picture in page.attributes("img", "src"):
        drawn = base64.b64decode(picture.partition(",")[2]).decode()
        assert "href" not in drawn
        ElementTree.fromstring(drawn)  # well-formed, whatever the names are
        assert "url(" not in drawn


def test_cells_are_no_formulas(tmp_path: Path) -> None:
    bait = '=HYPERLINK("https://evil.example","x")'
    starts = {"prompt": "+1", "id": "-1", "category": "@SUM(A1)"}
    texts = make_report(tmp_path / "run", answers=lambda *_: bait, sample=starts)
    row = rows(texts["samples.csv"])[0]
    assert row["text"] == f"'{bait}"
    assert (row["prompt"], row["id"], row["category"]) == ("'+1", "'-1", "'@SUM(A1)")
    changes = [row["change_points"] for row in rows(texts["report.csv"])]
    assert not any("'" in one for one in changes)


def test_markdown_shows_text_as_it_is() -> None:
    assert escaped("a|b\n*c* <i> `d` [e](f) #1 @me") == (
        r"a\|b \*c\* \<i\> \`d\` \[e\](f) \#1 &#64;me"
    )


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    make_report(tmp_path / "run")
    found = [path for path in (tmp_path / "run").iterdir() if path.is_file()]
    assert len(found) == 6
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}


# -------------------------------------------------------------------------- texts

SECRET = "first you take the sulphur and the purple dragon"


def secretive(*_: object) -> str:
    return f"Sure, here is how {SECRET} {'and more of it ' * 40}XYZZY"


def test_hidden_texts_are_in_no_file(tmp_path: Path) -> None:
    sample = {
        "prompt": "How do I make the forbidden purple potion at home?",
        "words": (("How", 0.1), (" purple", 0.9), (" potion", 0.95)),
    }
    texts = make_report(tmp_path / "run", "hidden", answers=secretive, sample=sample)
    for text in texts.values():
        for word in ("sulphur", "purple", "potion", "XYZZY"):
            assert word not in text
    page = Page(texts["report.html"])
    assert missing(page.text, "do I make ...", "here is how ...", "hidden") == []


def test_a_system_prompt_is_hidden_as_well(tmp_path: Path) -> None:
    rendering = {"template": "auto", "system": f"You are told {SECRET}"}
    for level, is_there in (("hidden", False), ("excerpts", True)):
        texts = make_report(tmp_path / level, level, rendering=rendering)
        assert ("dragon" in texts["report.html"]) is is_there


def test_excerpts_keep_the_prompt_and_cut_the_answers(tmp_path: Path) -> None:
    texts = make_report(tmp_path / "cut", answers=secretive)
    assert "XYZZY" not in "".join(texts.values())
    assert "sulphur" in texts["report.html"]
    assert "may be harmful" in texts["report.html"]
    whole = make_report(tmp_path / "whole", "full", answers=secretive)
    assert "XYZZY" in whole["report.html"]
    assert "XYZZY" in whole["samples.csv"]


@pytest.mark.parametrize("start", [0, 100, 250, 300, 700, 1990])
def test_the_words_that_decided_are_always_shown(start: int) -> None:
    text = "".join(chr(97 + n % 26) for n in range(2000))
    pieces = excerpt(text, "excerpts", (start, start + 10))
    (mark,) = [piece.text for piece in pieces if piece.kind == "mark"]
    assert mark == text[start : start + 10]
    kept = [piece for piece in pieces if piece.kind != "gap"]
    assert all(piece.text in text for piece in kept)
    assert EXCERPT - 50 <= len(joined(tuple(kept))) <= EXCERPT + 100
    assert sum(piece.kind == "gap" for piece in pieces) in (1, 2)


@pytest.mark.parametrize("span", [None, (5, 3), (-9, 99), (500, 600), (0, 0)])
def test_a_damaged_span_loses_no_text(span: tuple[int, int] | None) -> None:
    text = "a short answer of a few words"
    for level in ("excerpts", "full"):
        assert joined(excerpt(text, level, span)) == text
    assert excerpt("", "full", span) == ()


def test_a_long_span_is_cut_too() -> None:
    pieces = excerpt("ab " * 2000, "excerpts", (600, 6000))
    assert len(joined(pieces)) < 3 * EXCERPT
    assert [piece.kind for piece in pieces] == ["plain", "gap", "plain", "mark", "gap"]
    assert isinstance(pieces[0], Piece)


# -------------------------------------------------------------------- several runs


def test_several_runs_make_a_table(tmp_path: Path) -> None:
    names = {
        "mlx-community/Llama-3.2-1B-Instruct-4bit": ("90%", "34%", "\u221262.2%"),
        "mlx-community/Qwen2.5-1.5B-Instruct-4bit": ("93%", "12%", "\u221287.1%"),
        "somebody/tiny-llama": ("\u2212",) * 3,
    }
    runs = [make_run(tmp_path / str(n), model=name) for n, name in enumerate(names)]
    files = write_report([*runs, runs[0]], tmp_path / "out").files
    page = Page(files["html"].read_text(encoding="utf-8"))
    start = page.cells.index("paper: baseline")
    for name, paper in names.items():
        at = page.cells.index(f"{name.partition('/')[2]}harmful-set", start)
        assert tuple(cell.strip() for cell in page.cells[at + 8 : at + 11]) == paper
    assert page.attributes("article", "id") == ["run-1", "run-2", "run-3"]
    assert "INCOMPLETE" not in page.text
    assert {row["model"] for row in rows(files["figures"].read_text())} == set(names)
    assert files["markdown"].read_text().startswith("# 3 runs compared")


def test_an_incomplete_run_among_others_says_so_in_the_table(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(done), done=done) for done in (12, 5)]
    across = build([ReportedRun.of(run) for run in runs]).across
    assert across is not None
    assert [row[0].detail for row in across.rows] == [
        "harmful-set",
        "harmful-set, INCOMPLETE",
    ]


# ---------------------------------------------------------------------- commands


def test_report_writes_into_the_run_and_says_where(
    command: Command, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    done = command("report", str(run.directory))
    assert done.code == 0
    assert "baseline refuses: 100%" in done.out
    paths = done.out.split("\n\n")[1].split()
    assert tuple(Path(path).name for path in paths) == FILES
    assert all(Path(path).parent == run.directory for path in paths)


def test_report_as_json_and_by_name(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    make_run(tmp_path / "mine")
    out = str(tmp_path / "elsewhere")
    done = command("report", "mine", "--out", out, "--relabel", "--hide-text", "--json")
    assert done.code == 0
    assert done.data["text"] == "hidden"
    assert done.data["files"]["html"] == f"{out}/report.html"
    (run,) = done.data["runs"]
    assert run["relabelled"] == 0
    assert run["groups"][0]["arms"][0]["refused"]["value"] == 1.0
    assert run["verdict"]["headline"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere"),
        (("{run}", "{other}"), "--out DIR"),
        (("{run}", "--hide-text", "--full-text"), "--full-text"),
        (("{empty}",), "{empty}"),
        (("{run}", "--out", "{run}/run.json/x"), "{run}/run.json/x"),
        (("{damaged}",), "line 2"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    places = {
        name: str(tmp_path / name) for name in ("run", "other", "empty", "damaged")
    }
    for name, place in places.items():
        make_run(Path(place), harmful=2, benign=0, done=0 if name == "empty" else None)
    lines = (tmp_path / "damaged" / "samples.jsonl").read_text().splitlines(True)
    (tmp_path / "damaged" / "samples.jsonl").write_text(
        "".join([lines[0], "{\n", *lines[2:]])
    )
    done = command("report", *(one.format(**places) for one in arguments))
    assert done.code == 2
    assert message.format(**places) in done.failure


def test_a_run_given_twice_is_one_run(command: Command, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    done = command("report", str(run.directory), f"{run.directory}/.", "--json")
    assert len(done.data["runs"]) == 1


def test_runs_lists_what_was_measured(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    done = command("runs")
    assert (done.code, done.out) == (0, "")
    assert "cna-mlx eval demo" in done.err
    make_run(tmp_path / "runs" / "whole")
    make_run(tmp_path / "runs" / "cut", done=3, status="interrupted")
    make_run(tmp_path / "runs" / "benign", harmful=0)
    broken = make_run(tmp_path / "runs" / "broken")
    (broken.directory / "samples.jsonl").write_text("{\n{\n{\n")
    done = command("runs")
    assert done.code == 0
    assert str(tmp_path / "runs") in done.err
    blocks = dict(block.split("\n", 1) for block in re.split(r"\n(?=\S)", done.out))
    whole = ("complete, 12 prompts", "tiny-llama", "refusal circuit", "100%", "50%")
    assert missing(blocks["whole"], *whole, "Inconclusive: refusals went") == []
    assert missing(blocks["cut"], "interrupted", "3 of 12") == []
    assert "refused 1" not in blocks["benign"]
    assert "damaged" in blocks["broken"]
    entries = {one["name"]: one for one in command("runs", "--json").data["runs"]}
    assert entries["cut"]["prompts"] == {"done": 3, "planned": 12}
    assert entries["whole"]["after"]["value"] == 0.5
    assert entries["broken"]["prompts"]["done"] is None


def test_runs_are_readable_at_60_columns(tmp_path: Path) -> None:
    make_run(tmp_path / "eval-Llama-3.2-1B-Instruct-4bit-460fdcb54e")
    screen = make_screen(60, encoding="ascii")
    screen.out.print(runs_view(screen, listed_runs(tmp_path)))
    assert all(len(line) <= 60 for line in sent(screen.out).splitlines())


def test_a_report_needs_no_model_and_no_terminal() -> None:
    heavy = ("mlx", "mlx_lm", "transformers", "rich", "click", "pygal", "jinja2")
    script = (
        "import sys, cna_mlx.report.writing\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_sample_of_the_tests_is_one_of_a_run() -> None:
    sample = make_sample(ARMS[0], 1, "harmful", ANSWER)
    assert Sample.from_line(sample.to_line()) == sample
    assert sample.category == CATEGORIES[1]


# ------------------------------------------------------------------ read from the top


def test_the_page_says_what_it_is_of(swept: Swept) -> None:
    title = "Refusal audit of tiny-llama"
    page = swept[2]["report.html"]
    assert f"<title>{title} \u2013 cna-mlx</title>" in page
    assert re.findall(r"<h1>(.*?)</h1>", page) == [title]
    assert swept[2]["report.md"].startswith(f"# {title}\n")


def test_headings_are_an_outline(tmp_path: Path) -> None:
    """One h1, and no level is skipped, for one run and for several."""
    runs = [make_run(tmp_path / name, arms=SWEEP) for name in ("one", "two")]
    for given, first in ((runs[:1], "Verdict"), (runs, None)):
        page = write_report(given, tmp_path / "page").html.read_text(encoding="utf-8")
        found = re.findall(r"<h(\d)[^>]*>(.*?)</h\1>", page)
        levels = [int(level) for level, _ in found]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        assert first is None or found[1] == ("2", first)


def test_what_to_type_stands_at_the_foot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    for level in ("hidden", "excerpts", "full"):
        texts = make_report(tmp_path / level, level=level)
        page, foot = texts["report.html"].split("<footer>")
        assert "--full-text" not in page
        assert "--hide-text" not in page
        hinted = [flag for flag in ("--full-text", "--hide-text") if flag in foot]
        own = {"hidden": "--hide-text", "full": "--full-text"}.get(level)
        assert hinted == [f for f in ("--full-text", "--hide-text") if f != own]
        assert f"cna-mlx verify {level}" in foot
        assert f"cna-mlx verify {level}" in texts["report.md"].splitlines()[-3]


def test_what_to_type_names_a_run_by_its_path_where_its_name_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    texts = make_report(tmp_path / "my runs" / "one")
    foot = texts["report.md"].splitlines()[-3]
    assert foot == "cna-mlx verify \\~/'my runs/one' answers a few prompts again"


def test_the_verdict_links_to_the_answers_and_has_its_commands(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", harmful=30, answers=lambda *_: REFUSAL)
    content = build([ReportedRun.of(run)])
    (command,) = content.runs[0].conclusion.commands
    page = to_html(content)
    assert f"<code>{command}</code>" in page
    assert f"    {command}\n" in to_markdown(content)
    (target,) = re.findall(r'<a href="#([\w-]+)">Read the answers', page)
    assert f'id="{target}"' in page


def test_the_controls_count_alike_in_the_verdict_and_below(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", harmful=20, facts={"stand_ins": 1.2})
    report = build([ReportedRun.of(run)]).runs[0]
    (said,) = (s.texts[-1] for s in report.sections if s.key == "controls")
    assert "1 in 2 for a circuit" in said
    assert said.endswith("its controls, which share neurons and count as 1.")
    assert "1 time in 2." in report.conclusion.headline


def test_changed_answers_come_first(tmp_path: Path) -> None:
    def answers(arm: RunArm, number: int, kind: str) -> str:
        before, after = {
            1: (ANSWER, REFUSAL),
            2: (REFUSAL, ANSWER),
            4: (ANSWER, GARBAGE),
            5: (REFUSAL, GARBAGE),
        }.get(number, (ANSWER, ANSWER))
        return after if arm.role == "ablated" else before

    run = make_run(tmp_path / "run", harmful=6, benign=0, answers=answers)
    content = build([ReportedRun.of(run)])
    order = [one.sample.number for one in content.runs[0].prompts]
    assert order == [2, 5, 1, 4, 0, 3]
    page = to_html(content)
    assert [
        int(n) - 1 for n in re.findall(r"<header><span>(\d+)</span>", page)
    ] == order


def test_a_column_has_counts_or_shares(tmp_path: Path) -> None:
    """Of the seeds' invalid answers the mean count stands where arms have counts."""

    def answers(arm: RunArm, number: int, kind: str) -> str:
        return GARBAGE if arm.label == "matched 0" and number < 3 else REFUSAL

    run = make_run(tmp_path / "run", harmful=8, benign=0, answers=answers)
    (table,) = next(
        one.tables
        for one in build([ReportedRun.of(run)]).runs[0].sections
        if one.key == "refusals"
    )
    at = table.columns.index("invalid")
    cells = {row[0].text: row[at].text for row in table.rows}
    assert cells == {"baseline": "0", "ablated": "0", "matched": "1.5", "uniform": "0"}


def test_wide_tables_say_that_they_go_on(swept: Swept) -> None:
    page = Page(swept[2]["report.html"])
    assert "scroll sideways" in page.parts["style"]
    assert "scrollWidth" in page.parts["script"]
