"""The list of runs on a screen: narrow, wide, on a pipe, and without escapes."""

from pathlib import Path

import pytest
from commandline import make_screen, plain, sent
from evaluation_runs import make_run

from cna_mlx.report.listing import listed_runs
from cna_mlx.ui.runs import runs_view

MODEL = "mlx-community/Llama-3.2-1B-Instruct-4bit"


@pytest.fixture(name="runs")
def runs_fixture(tmp_path: Path) -> Path:
    """A whole run with a long name, and one that is damaged."""
    make_run(tmp_path / "eval-Llama-3.2-1B-Instruct-4bit-460fdcb54e", model=MODEL)
    (make_run(tmp_path / "broken").directory / "run.json").write_text("{")
    return tmp_path


def shown(runs: Path, width: int, **screen: bool) -> str:
    to = make_screen(width, **screen)
    to.show(runs_view(to, listed_runs(runs)))
    return sent(to.out)


@pytest.mark.parametrize("width", [60, 100, 200])
def test_lines_fit_the_screen_and_lose_no_word(runs: Path, width: int) -> None:
    text = plain(shown(runs, width))
    assert max(map(len, text.splitlines())) <= width
    (one, _) = listed_runs(runs)
    words = " ".join(text.split())
    for said in (one.name, MODEL, one.circuit_text, one.figures.headline, one.date):
        assert said
        assert said in words
    assert "refused 100%, ablated 50% of 8 prompts" in words


def test_a_pipe_gets_whole_lines_without_colour(runs: Path) -> None:
    lines = shown(runs, 60, terminal=False).splitlines()
    (one, broken) = listed_runs(runs)
    assert lines[:5] == [
        one.name,
        f"  {one.date}, complete, 12 prompts",
        f"  {MODEL}, refusal circuit, 4 neurons, multiplier 0",
        "  refused 100%, ablated 50% of 8 prompts",
        f"  {one.figures.headline}",
    ]
    assert lines[-3:] == ["broken", "  damaged", f"  {broken.figures.problem}"]


def test_files_of_strangers_send_no_escapes(tmp_path: Path) -> None:
    model = "a\x1b[2Jb\rc\u202ed\nsecond"
    make_run(tmp_path / "name\x1b[31m\nline", model=model)
    for is_terminal in (True, False):
        text = shown(tmp_path, 100, terminal=is_terminal, color=False)
        assert not {"\x1b", "\r", "\u202e"} & set(text)
        assert text.startswith("name\\x1b[31m line\n")
        assert "a\\x1b[2Jb\\rc\\u202ed second" in text
