"""Many answers on several cores: the same labels as one by one, whatever happens."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cna_mlx.labels import parallel as bulk
from cna_mlx.labels.label import label
from cna_mlx.labels.parallel import cores, judge_all, label_all
from cna_mlx.labels.repetition import quality

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


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


# -------------------------------- by themselves: what could leave one hanging

METHODS = multiprocessing.get_all_start_methods()

BEGINNING = """
import errno, multiprocessing, os, signal, sys, time
from cna_mlx.labels import parallel as bulk

bulk.WORTH = bulk._PART = 1
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
"""

SLOW = """
def work(texts):
    os.write(1, b"at work\\n")  # in one piece: several are at it
    time.sleep(120)

if __name__ == "__main__":
    try:
        bulk._shared(work, ["a"] * 40, 2)
    except KeyboardInterrupt:
        sys.exit(130)
"""

KILLED = """
def work(texts):
    if os.getpid() != int(os.environ["OWN"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return list(texts)

if __name__ == "__main__":
    os.environ["OWN"] = str(os.getpid())
    print("".join(bulk._shared(work, list("abcd"), 2)))
"""

NONE_LEFT = """
def work(texts):
    return list(texts)

if __name__ == "__main__":
    fork, forked = os.fork, []

    def one_only():
        if forked:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(True)
        return fork()

    os.fork = one_only
    print("".join(bulk._shared(work, list("abcd"), 2)))
"""

NO_THREAD = """
import threading

def work(texts):
    return list(texts)

def none_left(self):
    raise RuntimeError("can't start new thread")

if __name__ == "__main__":
    threading.Thread.start = none_left
    print("".join(bulk._shared(work, list("abcd"), 2)))
"""


@contextmanager
def started(
    directory: Path, script: str, method: str
) -> Iterator[subprocess.Popen[str]]:
    """A script in a process group of its own, of which nothing may be left."""
    path = directory / "script.py"
    path.write_text(BEGINNING + script)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(path), method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
        pytest.fail("a process is left")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("script", [KILLED, NONE_LEFT, NO_THREAD])
def test_it_goes_without_processes(script: str, method: str, tmp_path: Path) -> None:
    """One of them is killed, or is not to be had."""
    if script is NONE_LEFT and method != "fork":
        pytest.skip("such processes begin in another way")
    with started(tmp_path, script, method) as process:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode) == ("abcd\n", 0)
        assert "Traceback" not in err


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_interruption_ends_them_all(times: int, method: str, tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal's group; only one may speak."""
    with started(tmp_path, SLOW, method) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        for _ in range(times):
            with suppress(ProcessLookupError):  # it was quick
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        if times == 1:
            assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_none_outlives_the_one_that_began_them(
    number: int, method: str, tmp_path: Path
) -> None:
    with started(tmp_path, SLOW, method) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode == -number
