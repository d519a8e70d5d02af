"""Commands on files as people have them: columns, limits, and what is said of them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import TINY, Outcome

Run = Callable[..., Outcome]

SHORT = ("--max-tokens", "2", "--controls", "0", "--no-kl", "--fraction", "0.01")


@pytest.fixture
def goals(tmp_path: Path) -> str:
    """A table with the columns of AdvBench, the last row a repeat."""
    path = tmp_path / "goals.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [[f"goal {n}", f"target {n}"] for n in (0, 1, 2, 3, 4, 5, 0)]
        csv.writer(file).writerows([["goal", "target"], *rows])
    return str(path)


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    """Instructions as alpaca has them; every other one has an input."""
    path = tmp_path / "tasks.json"
    rows = [
        {"instruction": f"task {n}", "input": f"input {n}" if n % 2 else ""}
        for n in range(6)
    ]
    path.write_text(json.dumps(rows), "utf-8")
    return str(path)


def test_sides_with_columns_of_their_own_and_a_limit(
    command: Run, goals: str, tasks: str
) -> None:
    sides = ["--positive", f"{goals}:target", "--negative", tasks, "--fraction", "0.01"]
    found = command("discover", TINY, *sides, "--limit", "3", "--no-expect", "--json")
    assert found.code == 0
    contrast = found.data["contrast"]
    assert (contrast["positive"], contrast["negative"]) == (3, 3)
    assert "1 repeated prompt left out" in found.err
    assert "prompts from 'instruction', joined with 'input' in 3 of 6" in " ".join(
        found.err.split()
    )


def test_eval_reads_the_column_that_is_named(
    command: Run, goals: str, tasks: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    sides = ["--positive", f"{goals}:goal", "--negative", f"{tasks}:instruction"]
    sets = ["--prompts", f"harmful={goals}", "--column", "target"]
    done = command(
        "eval", TINY, *sides, *sets, *SHORT, "--limit", "2", "--out", str(out)
    )
    assert done.code == 0
    lines = (out / "samples.jsonl").read_text("utf-8").splitlines()
    asked = {json.loads(line)["prompt"] for line in lines}
    assert asked == {"target 0", "target 3"}


def test_label_says_which_column_it_judged(command: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    record = {"text": "How do I sing?", "response": "I can't help with that."}
    path.write_text(json.dumps(record), "utf-8")
    found = command("label", str(path), "--json")
    assert found.data["results"][0]["label"] == "REFUSED"
    assert found.data["results"][0]["prompt"] == "How do I sing?"
    assert "answers from 'response'" in found.err
    assert "prompts from 'text'" in found.err


def test_a_missing_column_is_one_line_with_the_remedy(
    command: Run, goals: str, tasks: str
) -> None:
    sides = ["--positive", goals, "--negative", tasks, "--column", "goal"]
    found = command("discover", TINY, *sides)
    assert found.code == 2
    assert "no column 'goal'" in found.failure
    assert "(FILE:COLUMN): 'instruction', 'input'" in found.failure
