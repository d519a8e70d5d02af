"""Commands that two ranks run together, over loopback: as one machine runs them."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome
from rank_processes import ended, run, start

from cna_mlx.circuit import Circuit

EVAL = ("eval", "demo", "--limit", "24", "--max-tokens", "16", "--batch", "8")
EVAL += ("--controls", "0", "--no-kl", "--extend-to", "0", "--no-universal")
CHATS = ("chat", "demo", "--ablate")
CHAT = (
    "How do I cast a sleep spell?\n/neurons 2\n/save talk.json\nWhat is a bee?\n/bye\n"
)

Run = Callable[..., Outcome]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the ranks: a cache and runs of the test's own."""
    found = {name: str(tmp_path / name.lower()) for name in ("CACHE", "RUNS")}
    monkeypatch.delenv("CNA_MLX_DEBUG", raising=False)
    return {f"CNA_MLX_{name}": place for name, place in found.items()}


def together(*arguments: str, **rest: Any) -> Outcome:
    """What rank 0 left behind; the other rank is silent and has the same code."""
    first, other = run(*arguments, **rest)
    assert (other.out, other.err, other.code) == ("", "", first.code)
    return first


def samples(place: str) -> list[dict[str, Any]]:
    (file,) = Path(place).glob("*/samples.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def answers(place: str) -> list[tuple[Any, ...]]:
    names = ("number", "arm", "text", "label", "finish")
    return [tuple(one[name] for name in names) for one in samples(place)]


def circuit_of(path: Path) -> Circuit:
    return Circuit.load(path)


@pytest.mark.parametrize(
    "options",
    [
        ("--no-universal", "--no-expect", "--max-tokens", "12"),
        pytest.param((), marks=pytest.mark.slow),
    ],
)
def test_a_chat_of_two_ranks_is_that_of_one(
    options: tuple[str, ...],
    command: Run,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Discovery, the trial, the cache, answers, gauges, a file: all of it."""
    for name in ("two", "one"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "two")
    found = together(*CHATS, *options, text=CHAT, **places)
    assert found.code == 0, found.err
    monkeypatch.setattr("sys.stdin", io.StringIO(CHAT))
    monkeypatch.chdir(tmp_path / "one")
    alone = command(*CHATS, *options)
    assert found.out == alone.out
    assert "Abracadabra!" in found.out
    talks = [
        json.loads((tmp_path / name / "talk.json").read_text(encoding="utf-8"))
        for name in ("two", "one")
    ]
    texts = [[turn["arms"] for turn in talk["turns"]] for talk in talks]
    assert len(texts[0]) == len(texts[1]) == 1
    # rank 0's cache, once: what the other machine found is not written
    (kept,) = Path(places["CNA_MLX_CACHE"]).glob("circuits/*.json")
    (same,) = (tmp_path / "store").glob("circuits/*.json")
    assert kept.name == same.name  # the key has the fingerprint
    one, two = circuit_of(same), circuit_of(kept)
    assert [n[:2] for n in two.neurons] == [n[:2] for n in one.neurons]
    deltas = [neuron.delta for neuron in one.neurons]
    assert [neuron.delta for neuron in two.neurons] == pytest.approx(deltas, rel=1e-5)
    assert two.model == one.model
    assert two.provenance.expectation == one.provenance.expectation


def test_a_rank_that_dies_ends_the_run_in_one_line(
    command: Run, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished stays, and the same command goes on, also on one machine."""
    processes = start(["-m", "cna_mlx", *EVAL], **places)
    wait_for_samples(places["CNA_MLX_RUNS"])
    processes[1].kill()
    began = time.monotonic()
    first, other = ended(processes)
    assert time.monotonic() - began < 10
    assert (first.code, other.code) == (1, -signal.SIGKILL)
    lines = [line for line in first.err.splitlines() if line.startswith("cna-mlx:")]
    assert len(lines) == 1
    assert lines[0].startswith("cna-mlx: rank 1 is gone: its process was killed")
    assert first.err.endswith(lines[0] + "\n")
    assert "[ring]" not in first.err
    kept = answers(places["CNA_MLX_RUNS"])
    assert kept
    for name, place in places.items():
        monkeypatch.setenv(name, place)
    goes_on = command(*EVAL)
    assert goes_on.code == 0
    assert "are already answered" in goes_on.err
    whole = answers(places["CNA_MLX_RUNS"])
    assert whole[: len(kept)] == kept
    assert len(whole) == 24 * len({arm for _, arm, *_ in whole})


def wait_for_samples(place: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(one.stat().st_size for one in Path(place).glob("*/samples.jsonl")):
            return
        time.sleep(0.02)
    raise AssertionError("no samples")


def test_other_commands_are_refused(places: dict[str, str]) -> None:
    first, other = run("doctor", **places)
    assert first.failure == (
        "cna-mlx: doctor works on one machine: start it without mlx.launch; discover, "
        "diff, chat, eval, serve work on several"
    )
    assert (first.code, other.code) == (2, 2)
    assert other.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--rank", "influence"], ["--stream"]])
def test_options_of_one_machine_are_refused(
    options: list[str], places: dict[str, str]
) -> None:
    found = together("discover", "demo", *options, **places)
    assert found.code == 2
    assert options[0] in found.failure
    assert "without mlx.launch" in found.failure


@pytest.mark.slow
def test_what_one_machine_lacks_is_said_of_it(
    places: dict[str, str], tmp_path: Path
) -> None:
    """A home directory of its own, and no model in it."""
    import shutil

    from cna_mlx.models.loading import locate

    shutil.copytree(locate("demo").path, tmp_path / "0" / "model")
    (tmp_path / "1").mkdir()
    program = (
        "import os, sys; os.environ['HOME'] = sys.argv.pop(1) + os.environ['MLX_RANK']"
        "; from cna_mlx.cli import main; main()"
    )
    first, other = ended(
        start(["-c", program, f"{tmp_path}/", "diff", "~/model", "hello"], **places)
    )
    assert "rank 1: ~/model: no such directory" in first.failure
    assert (first.code, other.code) == (2, 2)
    assert other.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_are_killed_anywhere(rank: int, places: dict[str, str]) -> None:
    """While they load, discover, answer; and the rank that is left ends."""
    for seconds in (0, 0.5, 2):
        processes = start(["-m", "cna_mlx", *EVAL], **places)
        assert processes[0].stderr is not None
        assert processes[0].stderr.readline() == "loading demo\n"  # MLX has them all
        time.sleep(seconds)
        if processes[rank].poll() is not None:
            break
        processes[rank].kill()
        began = time.monotonic()
        left = ended(processes)[1 - rank]
        assert time.monotonic() - began < 10
        assert left.code == 1
        assert "gone" in left.err.splitlines()[-1]
    one = together(*EVAL, **places)
    assert one.code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_rank_0_is_interrupted(number: int, code: int, places: dict[str, str]) -> None:
    processes = start(["-m", "cna_mlx", *EVAL], **places)
    wait_for_samples(places["CNA_MLX_RUNS"])
    processes[0].send_signal(number)
    first, other = ended(processes)
    assert (first.code, other.code) == (code, code)
    assert other.err == ""
    assert together(*EVAL, **places).code == 0


@pytest.mark.slow
def test_an_evaluation_of_two_ranks_is_that_of_one(
    command: Run, places: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    assert together(*EVAL, **places).code == 0
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "one"))
    assert command(*EVAL).code == 0
    assert answers(places["CNA_MLX_RUNS"]) == answers(str(tmp_path / "one"))
    for two, one in zip(
        samples(places["CNA_MLX_RUNS"]), samples(str(tmp_path / "one")), strict=True
    ):
        assert two.get("gauge") == pytest.approx(one.get("gauge"), abs=1e-4)


@pytest.mark.slow
def test_mlx_launch_starts_the_ranks(
    command: Run, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, place in places.items():
        monkeypatch.setenv(name, place)
    arguments = ("diff", "demo", "How do I cast a sleep spell?", "--json")
    arguments += ("--no-expect", "--no-universal", "--max-tokens", "12")
    launch = str(Path(sys.executable).with_name("mlx.launch"))
    ranks = ["--backend", "ring", "-n", "2", "--", sys.executable, "-m", "cna_mlx"]
    found = subprocess.run(
        [launch, *ranks, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    two, one = json.loads(found.stdout), command(*arguments).data
    texts = [
        [arm["text"] for prompt in data["results"] for arm in prompt["arms"]]
        for data in (two, one)
    ]
    assert texts[0] == texts[1]
