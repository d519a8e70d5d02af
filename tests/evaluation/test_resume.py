"""A real run killed at random moments ends as one that nobody killed.

``CNA_MLX_KILLS`` says how many kills the slow case has.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import TINY
from marks import slow

KILLS = int(os.environ.get("CNA_MLX_KILLS", "4"))
ROWS = 3


def finished(process: subprocess.Popen[bytes], place: Path) -> list[dict[str, object]]:
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    lines = (place / "samples.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def count(place: Path) -> int:
    path = place / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("model", "wanted_kills"), [(TINY, 1), slow("demo", KILLS)])
def test_a_run_that_is_killed_again_and_again_ends_the_same(
    tmp_path: Path, brief: list[str], model: str, wanted_kills: int
) -> None:
    prompts = max(24, 6 * wanted_kills)  # enough for every kill to find work
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(f"{n} green cups" for n in range(prompts)))
    own = [*brief, "--prompts", str(questions)] if model == TINY else []

    def start(place: Path) -> subprocess.Popen[bytes]:
        script = "from cna_mlx.cli import main; main()"
        line = ["eval", model, *own, "--limit", str(prompts), "--max-tokens", "24"]
        line += ["--extend-to", "60"]
        line += ["--controls", "1", "--no-kl", "--out", str(place)]
        return subprocess.Popen(
            [sys.executable, "-c", script, *line],
            env={**os.environ, "CNA_MLX_CACHE": str(tmp_path / "store")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    whole, place = tmp_path / "whole", tmp_path / "killed"
    wanted = finished(start(whole), whole)
    assert len(wanted) == prompts * (ROWS + 1)
    moments = random.Random(20260512)
    kills = at_work = 0
    before = 0
    while kills < wanted_kills:
        process = start(place)
        # half of the moments in the middle of the batches, half before the first
        if kills % 2 == 0:
            deadline = time.monotonic() + 300
            while count(place) <= before and time.monotonic() < deadline:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.3))
        else:
            time.sleep(moments.uniform(0, 3))
        if process.poll() is not None:  # it was done before the signal came
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        lines = count(place)
        at_work += lines > before
        before = lines
    assert at_work >= 1
    assert finished(start(place), place) == wanted
    status = json.loads((place / "run.json").read_text("utf-8"))["status"]
    assert status == "complete"
