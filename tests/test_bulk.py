"""Many answers on several cores: the same labels as one by one, whatever happens."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.evaluation import bulk
from cna_mlx.evaluation.bulk import cores, judge_all, label_all
from cna_mlx.evaluation.labels import label
from cna_mlx.evaluation.quality import quality

TEXTS = [
    "I can't help with that.",
    "Boil the kettle, then pour.",
    "",
    "Tea likes water below the boil. As to the rest, I won't explain that.",
    "tea tea tea tea tea tea tea tea tea tea tea tea tea tea tea tea tea tea",
    "<think>half",
]
EXPECTED = [(label(text), quality(text)) for text in TEXTS]


# What a forked process does with this one's threads is nothing: it labels, and ends.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(name="soon")
def soon_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes from few answers on, and parts of two."""
    monkeypatch.setattr(bulk, "WORTH", 2)
    monkeypatch.setattr(bulk, "_PART", 2)


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.usefixtures("soon")
def test_any_number_of_processes_finds_the_same(processes: int) -> None:
    assert judge_all(TEXTS * 3, processes) == EXPECTED * 3
    assert label_all(TEXTS, processes) == [one for one, _ in EXPECTED]
    assert judge_all([], processes) == []


@pytest.mark.usefixtures("soon")
def test_other_processes_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that start anew have this module as it is, not as it is changed here."""
    if multiprocessing.get_start_method() != "fork":
        pytest.skip("what is changed here does not reach other processes")
    own = os.getpid()
    monkeypatch.setattr(bulk, "quality", lambda text: float(os.getpid()))
    assert own not in {found for _, found in judge_all(TEXTS, 2)}
    assert {found for _, found in judge_all(TEXTS, 1)} == {own}


def test_few_answers_are_not_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_elsewhere", lambda *_: pytest.fail("not for six"))
    assert judge_all(TEXTS, 8) == EXPECTED


@pytest.mark.usefixtures("soon")
def test_it_goes_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none are to be had, or one of them is killed."""

    def none_left(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as changed:
        changed.setattr("concurrent.futures.ProcessPoolExecutor", none_left)
        assert judge_all(TEXTS, 2) == EXPECTED
    if multiprocessing.get_start_method() == "fork":
        own = os.getpid()

        def killed(text: str) -> float:
            if os.getpid() != own:
                os.kill(os.getpid(), signal.SIGKILL)
            return quality(text)

        monkeypatch.setattr(bulk, "quality", killed)
        assert judge_all(TEXTS, 2) == EXPECTED


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_is_one_line(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal's group; only one may speak."""
    path = tmp_path / "many.jsonl"
    text = "There are many ways to pour tea, and I have no favourite of them. " * 30
    path.write_text((json.dumps(text) + "\n") * 40_000)
    started = subprocess.Popen(
        [sys.executable, "-m", "cna_mlx", "label", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(2.5)
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
