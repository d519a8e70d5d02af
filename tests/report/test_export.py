"""A run for other tools: what their readers look for, and our own readers."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome
from evaluation_runs import ANSWER, make_run

from cna_mlx import export_run
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.labels.answer_files import label_file
from cna_mlx.labels.label import LabelKind
from cna_mlx.prompts import read_prompts


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return make_run(tmp_path / "run")


def log_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def rate(samples: list[Any]) -> float:
    return sum(one.label is LabelKind.REFUSED for one in samples) / len(samples)


def test_each_arm_is_a_log_of_inspect(run: RunRecord) -> None:
    paths = export_run(run)
    assert len(paths) == len(run.arms)
    for arm, path in zip(run.arms, paths, strict=True):
        samples = [one for one in run.samples() if one.arm == arm.label]
        log = log_of(path)
        head = log["header.json"]
        assert head["version"] == 2
        assert head["eval"]["model"] == run.config.model.id
        assert head["eval"]["dataset"]["samples"] == len(samples)
        (score,) = head["results"]["scores"]
        assert score["metrics"]["refusal_rate"]["value"] == rate(samples)
        for one in samples:
            row = log[f"samples/{one.id}_epoch_1.json"]
            assert row["input"] == one.prompt
            assert row["output"]["completion"] == one.text
            assert row["scores"]["refusal"]["value"] == int(one.is_refused)
            assert row["metadata"]["label"] == str(one.label)
        assert [row["id"] for row in log["summaries.json"]] == [
            one.id for one in samples
        ]
        assert path.stat().st_mode & 0o777 == 0o600


def test_ids_that_two_sets_share_are_told_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", sample={"id": "same-1"}, harmful=1, benign=1)
    log = log_of(export_run(run)[0])
    ids = log["header.json"]["eval"]["dataset"]["sample_ids"]
    assert ids == ["harmful-set:same-1", "benign-set:same-1"]
    assert [log[f"samples/{one}_epoch_1.json"]["id"] for one in ids] == ids


def test_our_own_readers_read_the_exports(run: RunRecord) -> None:
    baseline = [one for one in run.samples() if one.arm == run.arms[0].label]
    log = export_run(run, "inspect")[0]
    lines = [path for path in export_run(run, "lm-eval") if path.suffix == ".jsonl"]
    by_set = [path for path in lines if path.parent == lines[0].parent]
    texts = [one.text for path in by_set for one in label_file(path)]
    assert texts == [one.text for one in baseline]
    assert [one.text for one in label_file(log)] == texts
    assert read_prompts(log) == [one.prompt for one in baseline]
    kinds = [one.label.kind for one in label_file(log)]
    assert kinds == [one.label for one in baseline]


def test_each_arm_is_a_model_of_lm_eval(run: RunRecord) -> None:
    paths = export_run(run, "lm-eval")
    results = [path for path in paths if path.name.startswith("results_")]
    assert len(results) == len(run.arms)
    for arm, path in zip(run.arms, results, strict=True):
        data = json.loads(path.read_text("utf-8"))
        for name, config in data["configs"].items():
            (file,) = path.parent.glob(f"samples_{name}_*.jsonl")
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            samples = [
                one
                for one in run.samples()
                if one.arm == arm.label and one.set.replace("-", "_") == name
            ]
            assert [row["filtered_resps"] for row in rows] == [
                [one.text] for one in samples
            ]
            assert data["results"][name]["refused,none"] == rate(samples)
            (metric,) = config["metric_list"]
            assert [row[metric["metric"]] for row in rows] == [
                float(one.is_refused) for one in samples
            ]


def test_the_same_run_gives_the_same_bytes(run: RunRecord, tmp_path: Path) -> None:
    once = [path.read_bytes() for path in export_run(run, directory=tmp_path / "a")]
    again = [path.read_bytes() for path in export_run(run, directory=tmp_path / "b")]
    assert once == again


def test_what_cannot_be_exported(run: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inspect and lm-eval"):
        export_run(run, "weave")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made"):
        export_run(run, directory=tmp_path / "file" / "below")
    (run.directory / "samples.jsonl").unlink()
    with pytest.raises(InputError, match="no prompt is answered yet"):
        export_run(run)


@pytest.mark.parametrize("to", ["inspect", "lm-eval"])
def test_the_command(
    to: str, command: Callable[..., Outcome], run: RunRecord, tmp_path: Path
) -> None:
    place = str(tmp_path / "out")
    found = command("export", str(run.directory), "--to", to, "--out", place, "--json")
    assert found.data["format"] == to
    assert all(Path(path).is_file() for path in found.data["files"])
    shown = command("export", str(run.directory), "--to", to, "--out", place)
    assert shown.out.split() == found.data["files"]
    assert ("inspect view" in shown.err) is (to == "inspect")


@pytest.mark.parametrize("to", ["inspect", "lm-eval"])
def test_files_that_exist_stay_unless_told(
    to: str, command: Callable[..., Outcome], run: RunRecord, tmp_path: Path
) -> None:
    line = ["export", str(run.directory), "--to", to, "--out", str(tmp_path / "out")]
    files = [Path(path) for path in command(*line).out.split()]
    before = {path: path.read_bytes() for path in files}
    assert command(*line).code == 0  # the same content: nothing is replaced
    lines = (run.directory / "samples.jsonl").read_text().replace(ANSWER, "No way.")
    (run.directory / "samples.jsonl").write_text(lines)
    assert "--force" in command(*line).failure
    assert {path: path.read_bytes() for path in files} == before
    assert command(*line, "--force").code == 0
    assert {path: path.read_bytes() for path in files} != before
    files[-1].write_text("mine")
    refused = command(*line, "--force")
    assert refused.code == 2
    assert "stays as it is" in refused.failure
    assert files[-1].read_text() == "mine"
