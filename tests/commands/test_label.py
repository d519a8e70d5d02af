"""`cna-mlx label`: any file of answers in, labels in the file's order out."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Outcome, make_screen, plain, sent
from paths import DATA

from cna_mlx.analysis.statistics import label_shares
from cna_mlx.labels.answer_files import label_file
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.ui.labels import labels_view

Run = Callable[..., Outcome]

TEXTS = [
    "I\u2019m sorry, but I can\u2019t help with that.",
    "Boil the kettle, then pour.",
    "",
    "Tea likes water below the boil. Pour it slowly, and wait for three minutes. Warm "
    "cups keep it hot for longer. As to the rest, I won't explain how to brew poison.",
]
VERDICTS = ["REFUSED", "ANSWERED", "INVALID", "PARTIAL"]


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(name="answers")
def answers_fixture(tmp_path: Path) -> str:
    rows = [
        {"id": n, "prompt": f"tea {n}?", "text": text, "label": "human"}
        for n, text in enumerate(TEXTS)
    ]
    return write(tmp_path / "answers.jsonl", rows)


def test_json_keeps_the_order_and_what_was_given(command: Run, answers: str) -> None:
    data = command("label", answers, "--json").data
    assert data["schema_version"] == 1
    assert data["answers"] == 4
    assert [one["label"] for one in data["results"]] == VERDICTS
    assert data["counts"] == {**dict.fromkeys(VERDICTS, 1), "UNJUDGED": 0}
    for number, (one, text) in enumerate(zip(data["results"], TEXTS, strict=True)):
        assert one["text"] == text
        assert one["prompt"] == f"tea {number}?"
        assert one["given"] == {"id": number, "label": "human"}
        span = one["span"]
        assert one["decided_by"] == (None if span is None else text[slice(*span)])
        assert (span is None) == (label(text).span is None)


def test_labels_are_those_of_the_function(command: Run) -> None:
    own = DATA / "labels" / "own-answers.jsonl"
    texts = [json.loads(line)["text"] for line in own.read_text("utf-8").splitlines()]
    found = command("label", str(own), "--json").data["results"]
    assert [one["label"] for one in found] == [label(text).kind for text in texts]


@pytest.mark.parametrize("key", ["Text", "ANSWER", "response", "Completion", "output"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_every_format_gives_the_same_labels(
    key: str, suffix: str, tmp_path: Path
) -> None:
    import csv

    path = tmp_path / f"answers{suffix}"
    rows = [{"": str(n), "Id": f"x{n}", key: text} for n, text in enumerate(TEXTS)]
    if suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif suffix == ".jsonl":
        write(path, list(rows))
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    found = label_file(path)
    assert [one.label.kind for one in found] == VERDICTS
    assert [one.text for one in found] == TEXTS
    assert [one.given["Id"] for one in found] == ["x0", "x1", "x2", "x3"]


def test_a_column_that_is_named(command: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": TEXTS[1], "Reply": TEXTS[0]}])
    found = command("label", path, "--column", "reply", "--json").data["results"]
    assert found[0]["label"] == "REFUSED"
    assert found[0]["given"] == {"text": TEXTS[1]}


def test_standard_input(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(json.dumps(text) + "\n" for text in TEXTS)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    found = command("label", "-", "--json").data["results"]
    assert [one["label"] for one in found] == VERDICTS


BAD = {
    "not json": ("a.jsonl", '{"text": "x"}\nnope\n', "line 2: not JSON"),
    "no answer": ("a.jsonl", '{"text": "x"}\n{"id": 1}\n', "line 2: no text"),
    "null": ("a.jsonl", '{"text": null}\n', "line 1: null, not a string"),
    "number": ("a.jsonl", "7\n", "line 1: a number; an object"),
    "surrogate": ("a.jsonl", '{"text": "\\ud800"}\n', "line 1: character 1 is half"),
    "prompt": ("a.jsonl", '{"text": "x", "prompt": 3}\n', "line 1: a number, not a"),
    "fields": ("a.csv", "id,text\n1,x\n2\n", "line 3: 1 fields where the header has 2"),
    "quote": ("a.csv", 'id,text\n1,"x\n', "line 2: unexpected end of data"),
    "header": ("a.csv", "id,said\n1,x\n", "line 2: no text"),
    "twice": ("a.csv", "text,text\n1,x\n", "line 1: two columns are named 'text'"),
    "empty": ("a.jsonl", "\n", "no answers"),
    "list": ("a.json", "{}", "an object; a list"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_with_its_remedy(
    name: str, command: Run, tmp_path: Path
) -> None:
    file, content, message = BAD[name]
    path = tmp_path / file
    path.write_text(content, encoding="utf-8")
    done = command("label", str(path))
    assert done.code == 2
    assert message in done.failure
    assert file in done.failure


def test_bytes_that_are_no_text(command: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\n{"text": "\xff"}\n')
    done = command("label", str(path))
    assert done.code == 2
    assert "line 2: byte" in done.failure
    assert command("label", str(tmp_path / "none.csv")).code == 2


def test_people_see_counts_and_what_decided(command: Run, answers: str) -> None:
    shown = command("label", answers)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0].startswith("4 answers")
    for verdict in VERDICTS:
        assert any(verdict in line and "1 of 4" in line for line in lines[1:5])
    assert "1  REFUSED" in lines[6]
    assert "[I\u2019m sorry, but I can\u2019t help]" in lines[6] or (
        "[I can\u2019t help]" in lines[6]
    )
    assert "(empty)" in lines[8]


@pytest.mark.parametrize("hidden", [True, False])
def test_hidden_text_is_hidden(hidden: bool, command: Run, answers: str) -> None:
    options = ["--hide-text"] if hidden else []
    for extra in ([], ["--json"]):
        shown = command("label", answers, *options, *extra).out
        assert ("explain" in shown) is not hidden
        assert "REFUSED" in shown


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_lines_fit_the_terminal(width: int, encoding: str, answers: str) -> None:
    screen = make_screen(width, encoding=encoding, color=False)
    found = label_file(answers)
    screen.out.print(
        labels_view(screen, found, label_shares(answer.label for answer in found))
    )
    lines = plain(sent(screen.out)).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 4 + 2 + 4
    if encoding == "ascii":
        assert all(map(str.isascii, lines))


def test_model_text_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    text = "\x1b[31m[bold]I can't help\x07 with that.[/bold]\r"
    path = write(tmp_path / "a.jsonl", [text])
    screen = make_screen(terminal=False)
    found = label_file(path)
    screen.out.print(
        labels_view(screen, found, label_shares(answer.label for answer in found))
    )
    shown = sent(screen.out)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]" in shown


def test_shares_have_intervals() -> None:
    found = label_file("-", stdin=io.StringIO('"I can\'t help."\n"Yes."\n'))
    rates = label_shares(answer.label for answer in found)
    assert rates[LabelKind.REFUSED].value == 0.5
    assert rates[LabelKind.REFUSED].low < 0.5 < rates[LabelKind.REFUSED].high
    assert sum(rate.successes for rate in rates.values()) == 2
