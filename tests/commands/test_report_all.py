"""`report --all` and `runs`: the same list as a page, as text and as JSON."""

import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Outcome
from evaluation_runs import make_circuit, make_run

from cna_mlx.report.circuit_page import write_circuit_page

Command = Callable[..., Outcome]


@pytest.fixture(name="place")
def place_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of runs."""
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_the_page_and_the_list_have_the_same_data(
    command: Command, place: Path
) -> None:
    make_run(place / "one")
    make_run(place / "two", done=3, status="interrupted")
    (make_run(place / "lost").directory / "run.json").unlink()
    page, listed = command("report", "--all", "--json"), command("runs", "--json")
    assert (page.code, listed.code) == (0, 0)
    assert page.data["runs"] == listed.data["runs"]
    assert page.data["directory"] == listed.data["directory"] == str(place)
    assert page.data["file"] == str(place / "index.html")
    keys = [set(one) for one in listed.data["runs"]]
    assert keys[0] == keys[1] == keys[2]
    assert keys[0] >= {
        *("name", "model", "circuit", "verdict", "before", "after", "state"),
        *("prompts", "problem", "report", "report_command", "updated"),
    }


def test_the_command_says_what_is_on_the_page_and_where(
    command: Command, place: Path, tmp_path: Path
) -> None:
    make_run(place / "one")
    done = command("report", "--all")
    assert done.out == f"1 run\n{place / 'index.html'}\n"
    out = tmp_path / "deep" / "page"
    assert command("report", "--all", "--out", str(out)).code == 0
    assert (out / "index.html").is_file()
    # the list itself is not disturbed by its page
    assert [one["name"] for one in command("runs", "--json").data["runs"]] == ["one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--all", "one"), "give RUNs or --all, not both"),
        (("--all", "--relabel"), "--all shows no answers: leave out --relabel"),
        (("--all", "--hide-text"), "leave out"),
        (("--all", "--full-text"), "leave out"),
        ((), "give a RUN (cna-mlx runs lists them), or --all"),
    ],
)
def test_what_contradicts_itself_is_one_line(
    command: Command, place: Path, arguments: tuple[str, ...], message: str
) -> None:
    make_run(place / "one")
    done = command("report", *arguments)
    assert done.code == 2
    assert message in done.failure
    assert not (place / "index.html").exists()


def test_without_a_run_one_line_says_what_makes_one(
    command: Command, place: Path
) -> None:
    done = command("report", "--all")
    assert done.code == 2
    assert done.failure.endswith("cna-mlx eval demo makes one in a few minutes")
    assert not place.exists()


def test_its_own_page_is_replaced_unasked_and_no_other_file(
    command: Command, place: Path
) -> None:
    make_run(place / "one")
    index = place / "index.html"
    index.write_text("<title>mine</title>")
    assert "not a page file of cna-mlx" in command("report", "--all", "--force").failure
    assert index.read_text() == "<title>mine</title>"
    write_circuit_page(make_circuit(), index)
    assert "--force" in command("report", "--all").failure
    assert "cna-mlx circuit" in index.read_text("utf-8")
    assert command("report", "--all", "--force").code == 0
    make_run(place / "two")
    done = command("report", "--all")
    assert (done.code, done.out.splitlines()[0]) == (0, "2 runs")
    assert 'data-name="two"' in index.read_text("utf-8")


def test_the_page_is_opened(
    command: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("cna_mlx.commands.values.sys.platform", "linux")
    monkeypatch.setattr(webbrowser, "open", lambda uri: opened.append(uri) or True)
    make_run(place / "one")
    assert command("report", "--all", "--open").code == 0
    assert opened == [f"file://{place}/index.html"]
