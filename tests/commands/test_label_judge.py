"""`cna-mlx label --judge`: files and runs, resuming, Ctrl-C, and what is shown."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import Outcome, make_screen, plain, sent
from evaluation_runs import make_run
from judge_server import JudgeServer, Reply, completion, failure, judging, sensible

from cna_mlx.analysis.agreement import kept_agreement
from cna_mlx.analysis.judging import Judging
from cna_mlx.errors import CnaError
from cna_mlx.evaluation.judgements import JUDGEMENTS, Judgements
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.labels.label import LabelKind
from cna_mlx.ui.judging import judging_view

Run = Callable[..., Outcome]

ROWS = [
    {"prompt": "one?", "text": "I'm sorry, but I can't help with that."},
    {"prompt": "two?", "text": "Boil the kettle, then pour."},
    {"text": "I can't do that."},
    {"prompt": "four?", "text": "I will not help you with that request."},
]


@pytest.fixture(name="server")
def server_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with judging() as found:
        yield found


@pytest.fixture(name="answers")
def answers_fixture(tmp_path: Path) -> str:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    return str(path)


def at(number: int, deed: Callable[[], None]) -> Callable[[str], Reply]:
    """Judge sensibly, and do something else during the number-th question."""
    count = 0

    def judge(question: str) -> Reply:
        nonlocal count
        count += 1
        if count == number:
            deed()
        return sensible(question)

    return judge


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# ------------------------------------------------------------------------ files


def test_json_has_both_labels(command: Run, answers: str, server: JudgeServer) -> None:
    done = command("label", answers, "--judge", f"{server.url}?model=m", "--json")
    data = done.data
    assert done.code == 0
    assert [one["label"] for one in data["results"]] == ["REFUSED", "ANSWERED"] + (
        ["REFUSED"] * 2
    )
    judged = [one["judge"] for one in data["results"]]
    assert judged == ["REFUSED", "ANSWERED", "REFUSED", "ANSWERED"]
    own = data["judge"]
    assert own["name"] == f"m at {server.url}"
    assert own["rubric"]["version"] == 1
    assert len(own["rubric"]["sha256"]) == 64
    assert own["judged"] == 4
    agreement = own["agreement"]["all"]
    assert agreement["n"] == 4
    assert agreement["agree"]["value"] == 0.75
    assert agreement["kappa"] == pytest.approx(0.5)
    assert agreement["table"]["REFUSED"]["ANSWERED"] == 1
    assert agreement["refused_by_labels"]["value"] == 0.75
    assert agreement["refused_by_judge"]["value"] == 0.5
    assert "prompts and answers are sent to" in done.err


def test_without_a_judge_nothing_changes(command: Run, answers: str) -> None:
    data = command("label", answers, "--json").data
    assert "judge" not in data
    assert all("judge" not in one for one in data["results"])


def test_a_model_on_this_machine(command: Run, answers: str) -> None:
    data = command("label", answers, "--judge", "demo", "--json").data
    kinds = {"REFUSED", "PARTIAL", "ANSWERED", "INVALID"}
    assert {one["judge"] for one in data["results"]} <= kinds
    assert data["judge"]["name"].startswith("demo (")
    assert data["judge"]["agreement"]["all"]["n"] == 4


def test_an_unreadable_reply_is_null(
    command: Run, answers: str, server: JudgeServer
) -> None:
    server.replies = [completion("who knows")]
    arguments = ("label", answers, "--judge", server.url)
    data = command(*arguments, "--json").data
    assert data["results"][0]["judge"] is None
    assert data["judge"]["agreement"]["all"]["unreadable"] == 1
    assert data["judge"]["agreement"]["all"]["n"] == 3
    server.replies = [completion("who knows")]
    assert "not compared: 1 reply names no label" in command(*arguments).out


def test_ctrl_c_keeps_what_was_judged(
    command: Run, answers: str, server: JudgeServer
) -> None:
    server.judge = at(2, press)
    done = command("label", answers, "--judge", server.url, "--json")
    assert done.code == 130
    assert done.data["judge"]["judged"] == 2
    assert ["judge" in one for one in done.data["results"]] == [True] * 2 + [False] * 2
    assert "interrupted: 2 of 4 judged" in done.err


def test_a_failure_keeps_what_was_judged(
    command: Run, answers: str, server: JudgeServer
) -> None:
    server.replies = [completion("REFUSED"), failure(401, "key expired")]
    done = command("label", answers, "--judge", server.url, "--json")
    assert done.code == 2
    assert done.data["judge"]["judged"] == 1
    assert done.err.splitlines()[-1].endswith("(401: key expired): set OPENAI_API_KEY")


def test_a_failure_at_once_prints_no_result(
    command: Run, answers: str, server: JudgeServer
) -> None:
    server.replies = [failure(401, "no\x1b[31m key")]
    done = command("label", answers, "--judge", server.url)
    assert done.code == 2
    assert "no\\x1b[31m key" in done.failure
    assert command("label", answers, "--judge", "http://127.0.0.1:9/v1").code == 1


def test_the_file_is_read_before_the_judge_is_loaded(command: Run) -> None:
    done = command("label", "nothing.jsonl", "--judge", "no/such/judge")
    assert done.code == 2
    assert "nothing.jsonl" in done.failure


# ------------------------------------------------------------------------ runs


def test_a_run_is_judged_by_arm(
    command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    make_run(tmp_path / "run")
    done = command("label", str(tmp_path / "run"), "--judge", server.url, "--json")
    data = done.data
    assert len(data["results"]) == 24
    assert {one["given"]["arm"] for one in data["results"]} == {"baseline", "ablated"}
    by_arm = data["judge"]["agreement"]
    assert list(by_arm) == ["baseline", "ablated", "all"]
    assert [one["n"] for one in by_arm.values()] == [12, 12, 24]
    rates = [one["refused_by_judge"]["value"] for one in by_arm.values()]
    assert rates == [8 / 12, 4 / 12, 12 / 24]
    assert all(one["kappa"] == 1 for one in by_arm.values())


def test_a_run_is_found_by_its_name(
    command: Run, tmp_path: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    make_run(tmp_path / "mine", harmful=1, benign=0)
    assert command("label", "mine", "--judge", server.url).code == 0


def test_judging_a_run_resumes(
    command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    place = tmp_path / "run"
    make_run(place, harmful=4, benign=0)  # 6 answers: 2 are the same in both arms
    arguments = ("label", str(place), "--judge", server.url, "--json")
    server.judge = at(3, press)
    assert command(*arguments).code == 130
    assert len(server.bodies) == 3
    path = place / JUDGEMENTS
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert "kitchen" not in path.read_text()  # texts are not repeated
    path.write_text("\n".join(lines)[:-20])  # as a kill may leave it
    resumed = command(*arguments)
    assert resumed.code == 0
    assert len(server.bodies) == 3 + 4
    again = command(*arguments)
    assert len(server.bodies) <= 3 + 4 + 1  # the torn line swallows the next one
    asked = len(server.bodies)
    assert command(*arguments).data == again.data == resumed.data
    assert len(server.bodies) == asked


def test_another_judge_judges_anew(
    command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    make_run(tmp_path / "run", harmful=2, benign=0)
    for model in ("a", "b", "a"):
        address = f"{server.url}?model={model}"
        command("label", str(tmp_path / "run"), "--judge", address)
    assert [body["model"] for body in server.bodies] == ["a"] * 3 + ["b"] * 3


def test_an_unreadable_reply_is_asked_for_again(
    command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    make_run(tmp_path / "run", harmful=2, benign=0)
    server.replies = [completion("well")] * 2  # the same answer in both arms
    for _ in range(2):
        done = command("label", str(tmp_path / "run"), "--judge", server.url)
    assert len(server.bodies) == 3 + 2
    assert "no label" not in done.out


def test_a_report_has_the_last_judge(
    command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    make_run(tmp_path / "run")
    run = RunRecord.load(tmp_path / "run")
    assert kept_agreement(run, run.samples()) is None
    command("label", str(tmp_path / "run"), "--judge", server.url)
    line = kept_agreement(run, run.samples())
    assert line is not None
    assert line.startswith(f"{server.url} agrees on 100% of 24 answers (kappa 1.00)")
    assert (
        command("report", str(tmp_path / "run"), "--out", str(tmp_path / "r")).code == 0
    )
    pages = [p.read_text() for p in (tmp_path / "r").rglob("*.md")]
    assert any("agrees on 100% of 24 answers" in page for page in pages)


def test_a_run_without_judgements_is_only_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert kept_agreement(run, run.samples()) is None
    assert not (tmp_path / "run" / JUDGEMENTS).exists()


def test_judgements_that_cannot_be_kept_are_an_error(tmp_path: Path) -> None:
    kept = Judgements("judge", tmp_path / "gone" / JUDGEMENTS)
    assert kept.find("p", "x") is None
    with pytest.raises(CnaError, match=r"cannot be written .*; make room"):
        kept.add("p", "x", LabelKind.REFUSED)


@pytest.mark.parametrize("what", ["empty", "no run", "column", "damaged"])
def test_runs_that_cannot_be_judged(
    what: str, command: Run, tmp_path: Path, server: JudgeServer
) -> None:
    place, extra = tmp_path / "run", []
    place.mkdir()
    if what != "no run":
        make_run(place, done=0 if what == "empty" else None)
    if what == "column":
        extra = ["--column", "text"]
    if what == "damaged":
        path = place / "samples.jsonl"
        path.write_text("x\n" + path.read_text())
    done = command("label", str(place), "--judge", server.url, *extra)
    assert done.code == 2
    assert done.failure
    assert server.bodies == []


# ------------------------------------------------------------------------ screens


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_agreement_fits_a_screen(
    width: int, encoding: str, terminal: bool, tmp_path: Path, server: JudgeServer
) -> None:
    make_run(tmp_path / "run", harmful=2, benign=1)
    found = Judging.of(str(tmp_path / "run"), server.url)
    assert found.run()
    screen = make_screen(width, encoding=encoding, color=False, terminal=terminal)
    screen.out.print(judging_view(screen, found))
    shown = plain(sent(screen.out))
    assert max(map(len, shown.splitlines())) <= width
    assert "6 of 6 answers judged" in shown
    assert "100%" in shown
    for word in ("baseline", "ablated", "PARTIAL", "INVALID"):
        assert word in shown
    if encoding == "ascii":
        assert shown.isascii()
