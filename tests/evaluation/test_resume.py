"""A real run killed at random moments ends as one that nobody killed.

``CNA_MLX_KILLS`` says how many kills there are at least; a few unless told.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

KILLS = int(os.environ.get("CNA_MLX_KILLS", "2"))
PROMPTS = max(24, 6 * KILLS)  # enough for every kill to find work
ROWS = 3
LINE = ["eval", "demo", "--limit", str(PROMPTS), "--max-tokens", "24", "--controls"]


def started(place: Path, store: Path) -> subprocess.Popen[bytes]:
    script = "from cna_mlx.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", script, *LINE, "1", "--no-kl", "--out", str(place)],
        env={**os.environ, "CNA_MLX_CACHE": str(store)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(place: Path, store: Path) -> list[dict[str, object]]:
    process = started(place, store)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    lines = (place / "samples.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def count(place: Path) -> int:
    path = place / "samples.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path: Path) -> None:
    store = tmp_path / "store"
    wanted = finished(tmp_path / "whole", store)
    assert len(wanted) == PROMPTS * (ROWS + 1)
    moments = random.Random(20260512)
    place = tmp_path / "killed"
    kills = at_work = 0
    before = 0
    while kills < KILLS:
        process = started(place, store)
        # half of the moments in the middle of the batches, half before the first
        if kills % 2 == 0:
            deadline = time.monotonic() + 120
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
    assert finished(place, store) == wanted
    status = json.loads((place / "run.json").read_text("utf-8"))["status"]
    assert status == "complete"
