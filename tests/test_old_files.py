"""Runs and circuits that version 0.1.0 wrote: they open, and their command goes on.

The files were made by ``cna-mlx eval demo --circuit circuit.json`` with the options of
:data:`OPTIONS`, at commit d64a003; the direction of CAA is left out.
"""

import json
import shutil
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from commandline import make_screen
from marks import slow

from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import conclude
from cna_mlx.circuit import Circuit
from cna_mlx.cli import run
from cna_mlx.errors import CircuitError, CnaError
from cna_mlx.evaluation.run_config import RunConfig
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report.build import ReportedRun, build
from cna_mlx.report.markdown import to_markdown
from cna_mlx.report.writing import write_report
from cna_mlx.ui.tables import circuit_view

OLD = Path(__file__).parent / "data" / "version_0_1_0"
CIRCUIT = OLD / "circuit.json"
OPTIONS = ("--limit", "6", "--max-tokens", "8", "--controls", "1", "--caa", "-1")
RUN = next(OLD.glob("eval-demo-*"))


@pytest.fixture(name="old")
def old_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old run in the directory of runs, as its command left it."""
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "runs" / RUN.name
    shutil.copytree(RUN, place)
    return place


def test_an_old_circuit_loses_nothing() -> None:
    circuit = Circuit.load(CIRCUIT)
    assert circuit.to_text() == CIRCUIT.read_text(encoding="utf-8")
    assert circuit.provenance.contrast is not None
    assert circuit.provenance.contrast.name == "magic"
    assert circuit.provenance.held_out is not None
    assert circuit.model.d_ff == (512,) * 6


def test_an_old_run_is_the_same_run(old: Path) -> None:
    text = (old / "run.json").read_text(encoding="utf-8")
    opened = RunRecord.load(old)
    assert opened.config.identity == json.loads(text)["identity"]
    assert old.name.endswith(opened.config.identity[:10])
    opened.save()
    before, after = json.loads(text), json.loads((old / "run.json").read_text("utf-8"))
    assert after.pop("updated") >= before.pop("updated")
    assert after == before


def test_an_old_run_is_summarized_and_reported(old: Path, tmp_path: Path) -> None:
    opened = RunRecord.load(old)
    summary = summarize(opened)
    assert [(group.kind, group.n) for group in summary.groups] == [
        ("harmful", 3),
        ("benign", 3),
    ]
    assert conclude(summary).outcome.name == "TOO_FEW"
    page = write_report(opened, tmp_path / "report").html
    assert "magic circuit" in page.read_text(encoding="utf-8")


def test_the_same_command_finds_an_old_run(old: Path, capsys) -> None:
    command = ["eval", "demo", "--circuit", str(CIRCUIT), "--prompts", "demo", *OPTIONS]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == str(old)
    assert found["prompts"] == {"done": 6, "planned": 6}
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_an_old_run_that_was_interrupted_keeps_its_order(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = old / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
    command = ["eval", "demo", "--circuit", str(CIRCUIT), "--prompts", "demo", *OPTIONS]
    assert run(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "is of version 0.1 and goes on as it began" in said
    assert [path.name for path in old.parent.iterdir()] == [old.name]
    found = RunRecord.load(old)
    wanted = [Sample.from_line(line) for line in lines]
    assert found.status == "complete"
    assert [(one.id, one.arm) for one in found.samples()] == [
        (one.id, one.arm) for one in wanted
    ]
    assert found.config.order is found.config.extend_to is None
    assert not any(
        (one.extended, one.opened, one.opening) != (None, None, None)
        for one in found.samples()
    )


def test_the_same_command_in_another_place_is_a_run_of_today(
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # version 0.1 drew its controls with this function
    monkeypatch.delattr("cna_mlx.evaluation.arms.matched_control")
    command = ["eval", "demo", "--circuit", str(CIRCUIT), "--prompts", "demo", *OPTIONS]
    place = tmp_path / "fresh"
    assert run([*command, "--extend-to", "12", "--out", str(place), "--json"]) == 0
    harmful_group = json.loads(capsys.readouterr().out)["groups"][0]
    found = RunRecord.load(place)
    rows, samples = len(found.arms), found.samples()
    assert rows == len(RunRecord.load(old).arms)
    assert (found.config.order, found.config.extend_to) == ("grouped", 12)
    kinds = [one.kind for one in samples[::rows]]
    assert kinds == ["harmful", "benign"] * 3
    assert found.facts.openings == {"I": (43,)}
    assert [one.opening is not None for one in samples] == ([True] + [False] * 4) * 6
    harmful, benign = samples[:: 2 * rows], samples[rows :: 2 * rows]
    assert min(one.opening for one in harmful) > max(one.opening for one in benign)  # type: ignore[type-var]
    assert any(one.extended for one in samples)
    opened = [one for one in samples if one.opened and one.kind == "harmful"]
    assert harmful_group["openings"]["n"] == len(opened) >= 1


def test_what_is_not_known_here_is_kept() -> None:
    data = {
        "command": "eval",
        "model": {"id": "a", "parameters": 7, "d_ff": "many"},
        "arms": [{"label": "baseline", "role": "baseline", "shift": 1}],
        "sets": [{"name": "own", "prompts": 2}],
        "limit": None,
        "judge": {"name": "b"},
    }
    config = RunConfig.from_dict(data)
    assert config.model.d_ff is None
    assert config.to_dict() == data


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value in a JSON document."""
    if path:
        yield path
    items = enumerate(value) if isinstance(value, list) else ()
    for key, one in value.items() if isinstance(value, dict) else items:
        yield from _places(one, (*path, key))


@pytest.mark.parametrize("junk", ["x", *map(slow, (None, -1, [[]], {"x": 1}))])
def test_damaged_values_are_never_a_crash(tmp_path: Path, junk: Any) -> None:
    """Each value in turn: the run opens and is reported without it, or is refused."""
    place = tmp_path / "run"
    shutil.copytree(RUN, place)
    text = (RUN / "run.json").read_text(encoding="utf-8")
    for path in _places(json.loads(text)):
        data = json.loads(text)
        *parents, last = path
        reduce(getitem, parents, data)[last] = junk
        (place / "run.json").write_text(json.dumps(data), encoding="utf-8")
        try:
            opened = RunRecord.load(place)
            assert opened.config.to_dict() == data["config"]
            report = to_markdown(build([ReportedRun.of(opened)]))
        except CnaError:
            continue
        assert "magic" in report or "hand-made" in report


@pytest.mark.parametrize("junk", [None, "x", -1, [[]], {"x": 1}], ids=repr)
def test_a_damaged_circuit_is_shown_or_refused(junk: Any) -> None:
    text = CIRCUIT.read_text(encoding="utf-8")
    for path in _places(json.loads(text)):
        data = json.loads(text)
        *parents, last = path
        reduce(getitem, parents, data)[last] = junk
        try:
            circuit = Circuit.from_text(json.dumps(data), "it")
        except CircuitError:
            continue
        assert json.loads(circuit.to_text()) == data
        screen = make_screen()
        screen.out.print(circuit_view(screen, circuit))
