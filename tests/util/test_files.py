"""Paths as people type them: where they lead nowhere, one line says so."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import TINY, Outcome
from evaluation_runs import make_run
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from texts import missing

from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.ui.line_editor import CommandCompleter
from cna_mlx.util.files import check_writable, is_there, typed_path, write_atomically

Command = Callable[..., Outcome]

NOBODY = "~nobody-of-that-name/x"
LONG = "x" * 300
MESSAGES = {NOBODY: "user", LONG: "too long"}


def test_a_path_is_what_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert typed_path("~/run") == tmp_path / "run"
    assert typed_path("a/../b") == Path("a/../b")
    assert typed_path(tmp_path / "file" / "below") == tmp_path / "file" / "below"
    (tmp_path / "run").mkdir()
    assert is_there("~/run")
    assert not is_there("~/other")


def test_a_file_has_its_mode_from_its_creation_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    inner = os.fsync

    def watched(handle: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        inner(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomically(tmp_path / "secret", "text", 0o600)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    for path in (Path(), Path("/")):
        with pytest.raises(InputError, match="cannot be written"):
            write_atomically(path, "text")


@pytest.mark.parametrize("text", [NOBODY, LONG])
def test_a_path_to_nowhere_is_told(text: str) -> None:
    with pytest.raises(InputError, match=MESSAGES[text]) as info:
        typed_path(text, "--out")
    assert str(info.value).startswith(f"--out {text}: ")
    assert not is_there(text)
    typed = Document(f"/load {text}")
    assert list(CommandCompleter().get_completions(typed, CompleteEvent())) == []


@pytest.mark.parametrize("text", [NOBODY, LONG])
def test_no_command_trips_over_one(
    command: Command,
    brief: list[str],
    selection: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    run = str(make_run(tmp_path / "run").directory)
    questions = tmp_path / "questions.txt"
    questions.write_text("five red cats", encoding="utf-8")
    evaluating = [*brief, "--prompts", str(questions)]
    lines = [
        ["report", text],
        ["report", run, "--out", text],
        ["verify", text],
        ["compare", "demo", text, *evaluating],
        ["eval", text, *evaluating],
        ["eval", TINY, *evaluating, "--limit", "1", "--max-tokens", "1", "--out", text],
        ["discover", TINY, *selection, "-o", text],
        ["diff", TINY, "-p", "why?", "--circuit", f"{text}@0.5"],
        ["diff", TINY, "-p", "why?", "--svg", text],
        ["chat", text],
    ]
    for line in lines:
        found = command(*line)
        assert found.code == 2, (line, found.err)
        assert "unexpected" not in found.failure
        assert text in found.failure
    for name, line in {
        "CNA_MLX_RUNS": ["runs"],
        "CNA_MLX_CACHE": ["discover", TINY, *selection],
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, text)
            found = command(*line)
            assert found.code == 2
            assert missing(found.failure, f"{name} {text}: ", MESSAGES[text]) == []


def test_a_run_that_is_named_by_its_path_needs_no_directory_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    monkeypatch.setenv("CNA_MLX_RUNS", NOBODY)
    assert RunRecord.open(str(run.directory)) == run


def test_a_directory_is_no_file_to_write(
    command: Command, selection: list[str], tmp_path: Path
) -> None:
    """It is said before the work, and not after it."""
    found = command("discover", TINY, *selection, "-o", str(tmp_path))
    assert found.code == 2
    assert missing(found.failure, str(tmp_path), "directory") == []
    assert "discovered" not in found.err


def test_a_circle_of_links_is_no_file_to_write(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    for write in (check_writable, lambda path: write_atomically(path, "x")):
        with pytest.raises(InputError, match="one: a symbolic link that leads back"):
            write(one)
    assert one.is_symlink()
