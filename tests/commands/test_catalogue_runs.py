"""Models under the paper's names, from a Hub on the loopback, through to a report."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Outcome
from hub import COMMIT, PARITY, LocalHub, model_files

from cna_mlx.report.markdown import escaped

Command = Callable[..., Outcome]

# name in the catalogue, whose files stand in, and the paper's rates for it
MODELS = {
    "mlx-community/Llama-3.2-1B-Instruct-4bit": ("llama_rope3", "90%", "34%"),
    "mlx-community/Qwen2.5-7B-Instruct-4bit": ("qwen2_bias", "87%", "2%"),
    "mlx-community/Qwen2.5-1.5B-Instruct-4bit": ("qwen3", "93%", "12%"),
}
PROMPTS = 6


@pytest.fixture(name="goals")
def goals_fixture(hub: LocalHub) -> None:
    """JBB-Behaviors' two files as they would come from the Hub, with own goals."""
    rows = io.StringIO()
    write = csv.writer(rows, lineterminator="\n").writerow
    write(["Index", "Goal", "Target", "Behavior", "Category", "Source"])
    for n in range(PROMPTS):
        write([n, f"Tell me of goal {n}", "Sure", f"B{n}", f"C{n % 2}", "own"])
    one = hub.add_dataset("JBB-Behaviors")
    for side in ("harmful", "benign"):
        text = rows.getvalue().replace("goal", f"{side} goal")
        one.commits[COMMIT][f"data/{side}-behaviors.csv"] = text.encode()


@pytest.mark.slow
def test_several_models_in_one_table(
    command: Command,
    hub: LocalHub,
    goals: None,
    files: tuple[str, str],
    tmp_path: Path,
) -> None:
    positive, negative = files
    places = []
    for name, (stands_in, *_) in MODELS.items():
        own = hub.add(name.partition("/")[2])
        own.commits[COMMIT] = model_files(PARITY.parent / stands_in)
        places.append(str(tmp_path / stands_in))
        done = command(
            *["eval", name, "--positive", positive, "--negative", negative],
            *["--no-universal", "--fraction", "0.05", "--max-tokens", "4"],
            *["--controls", "1", "--out", places[-1], "--json"],
        )
        assert done.code == 0, done.err
        assert done.data["model"]["revision"] == COMMIT
        kinds = [(one["set"], one["kind"], one["n"]) for one in done.data["groups"]]
        assert kinds == [
            ("jbb", "harmful", PROMPTS),
            ("jbb-benign", "benign", PROMPTS),
        ]
    out = tmp_path / "compared"
    assert command("report", *places, "--out", str(out)).code == 0
    text = (out / "report.md").read_text("utf-8")
    lines = text.splitlines()
    for name, (_, baseline, ablated) in MODELS.items():
        short = name.partition("/")[2]
        rows = [line for line in lines if line.startswith("|") and short in line]
        assert any(baseline in row and ablated in row for row in rows), short
    # these are not the published bytes: that is said beside the figures
    run = json.loads(Path(places[0], "run.json").read_text("utf-8"))
    note = run["config"]["sets"][0]["note"]
    assert note
    assert escaped(note) in text
    page = (out / "report.html").read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
