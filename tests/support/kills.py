"""Kill an evaluation at random moments, and resume it until it is complete."""

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def start(arguments: Sequence[str]) -> int:
    """Run a command line in a fork of this process; return its number.

    This process must not have computed with MLX: its threads do not survive a fork.
    """
    from cna_mlx.cli import run

    if (process := os.fork()) == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(run(arguments))
    return process


def killed(arguments: Sequence[str], draw: random.Random, longest: float) -> bool:
    """Start a command and kill it; return whether it was complete before."""
    process = start(arguments)
    deadline = time.monotonic() + draw.uniform(0, longest)
    while time.monotonic() < deadline:
        if os.waitpid(process, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.WIFEXITED(os.waitpid(process, 0)[1])


def whole(arguments: Sequence[str]) -> float:
    """Run a command to its end; return the seconds that it takes."""
    started = time.monotonic()
    status = os.waitpid(start(arguments), 0)[1]
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(arguments)}: {status}")
    return time.monotonic() - started


def answers(run: Path) -> list[dict[str, Any]]:
    """The samples of a run without what differs between two runs: the seconds."""
    lines = (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": 0} for line in lines]


def survives(
    arguments: Sequence[str], place: Path, kills: int, seed: int
) -> tuple[int, int]:
    """Kill runs until there were enough kills; each must end as an undisturbed one.

    Returns:
        How many kills there were, and how many runs they were of.

    Raises:
        AssertionError: a run ends with other answers, or leaves files behind.
    """
    draw, done, runs = random.Random(seed), 0, 0
    longest = whole([*arguments, "--out", str(place / "whole")])
    wanted = answers(place / "whole")
    names = sorted(path.name for path in (place / "whole").iterdir())
    while done < kills:
        runs += 1
        own = place / f"run-{runs}"
        for _ in range(min(15, kills - done)):
            if killed([*arguments, "--out", str(own)], draw, longest):
                break
            done += 1
        whole([*arguments, "--out", str(own)])
        assert answers(own) == wanted, own
        assert sorted(path.name for path in own.iterdir()) == names, own
    return done, runs
