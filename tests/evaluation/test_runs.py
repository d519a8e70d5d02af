"""A run's directory: what is in it, who may read it, how it goes on."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError, InputError
from cna_mlx.evaluation.journal import check_place, opened
from cna_mlx.evaluation.run_config import RunArm, RunConfig, RunFacts, circuit_sha256
from cna_mlx.evaluation.runs import RunRecord, default_directory, list_runs
from cna_mlx.evaluation.samples import Sample, read_samples
from cna_mlx.labels.label import LabelKind
from cna_mlx.provenance import Provenance

CIRCUIT = Circuit.from_neurons([(0, 1, 1.0), (2, 3, -0.5)])
ARMS = (
    RunArm("baseline", "baseline"),
    RunArm("ablated", "ablated", 0.0, None, "circuit"),
    RunArm("matched 0", "matched", 0.0, 0, "circuit"),
)
LABELS = [arm.label for arm in ARMS]
PROMPTS = 4


def config(**changes: Any) -> RunConfig:
    data = {
        "command": "eval",
        "model": {"id": "org/Some Model", "fingerprint": "f" * 64},
        "arms": [arm.to_dict() for arm in ARMS],
        "sets": [{"name": "own", "prompts": PROMPTS}],
        "max_tokens": 8,
        **changes,
    }
    return RunConfig.from_dict(data)


def batch(number: int) -> list[Sample]:
    texts = ("I can't help with that.", "Öffne “das”\nTor\x1b[31m", "\u2028 three")
    return [
        Sample(
            number,
            "own",
            f"p{number}",
            None,
            "harmful",
            f"Question {number}?",
            arm.label,
            text,
            (1, 2, number),
            "stop",
            LabelKind.REFUSED,
            (0, 4),
            1.0,
            0.25,
            None,
            0.5,
        )
        for arm, text in zip(ARMS, texts, strict=True)
    ]


def write(place: Path, batches: int, **changes: Any) -> RunRecord:
    with opened(place, config(**changes), {"circuit": CIRCUIT}, RunFacts()) as journal:
        while journal.done < batches:
            journal.add(batch(journal.done))
        journal.finish("complete" if batches == PROMPTS else "interrupted")
        return journal.run


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = write(tmp_path / "run", PROMPTS)
    again = RunRecord.load(tmp_path / "run")
    assert again.status == "complete"
    assert again.config == run.config
    assert again.arms == ARMS
    assert again.planned == PROMPTS
    assert again.samples() == [sample for n in range(PROMPTS) for sample in batch(n)]
    assert again.circuits == {"circuit": CIRCUIT}


def test_a_run_that_is_only_looked_at_keeps_its_date(tmp_path: Path) -> None:
    """The list of runs has the latest first: to call a finished one is no news."""
    write(tmp_path / "run", 1)
    path = tmp_path / "run" / "run.json"
    for done in (1, PROMPTS, PROMPTS):  # interrupted again; finished; called again
        old = path.read_text().replace(RunRecord.load(path).facts.updated, "2020")
        path.write_text(old)
        write(tmp_path / "run", done)
        status = RunRecord.load(path).status
        assert status == ("complete" if done == PROMPTS else "interrupted")
        is_new = RunRecord.load(path).facts.updated != "2020"
        assert is_new is (done == 1 or '"interrupted"' in old)


def test_only_its_owner_can_read_a_run(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "run", *(tmp_path / "run").iterdir())
    }
    assert modes.pop("run") == modes.pop("circuits") == 0o700
    assert set(modes.values()) == {0o600}


def test_a_line_holds_the_number_of_tokens_and_no_line_break(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    lines = (tmp_path / "run" / "samples.jsonl").read_bytes().split(b"\n")
    assert len(lines) == len(ARMS) + 1
    assert [json.loads(line)["tokens"] for line in lines[:-1]] == [3, 3, 3]


@pytest.mark.parametrize("tail", [b"", b"\0" * 50], ids=["cut", "cut-and-zeros"])
def test_wherever_it_is_cut_whole_batches_stay(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path / "run", 3)
    path = tmp_path / "run" / "samples.jsonl"
    content = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == 10][len(ARMS) - 1 :: 3]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut] + tail)
        samples, size = read_samples(path, LABELS)
        whole = sum(end <= cut for end in ends)
        assert len(samples) == whole * len(ARMS)
        assert size == (ends[whole - 1] if whole else 0)


def test_after_a_cut_it_goes_on_to_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "whole", PROMPTS)
    wanted = (tmp_path / "whole" / "samples.jsonl").read_bytes()
    for cut in range(0, len(wanted), 97):
        place = tmp_path / f"cut-{cut}"
        write(place, 2)
        (place / "samples.jsonl").write_bytes(wanted[:cut])
        write(place, PROMPTS)
        assert (place / "samples.jsonl").read_bytes() == wanted


def test_damage_in_the_middle_is_an_error(tmp_path: Path) -> None:
    run = write(tmp_path / "run", 3)
    path = tmp_path / "run" / "samples.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:-9]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match="line 2 is damaged"):
        run.samples()


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path / "run", 2)
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"another configuration .*\(max_tokens\)"):
        write(tmp_path / "run", PROMPTS, max_tokens=9)
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == before


def test_samples_without_their_run_are_nobodys(tmp_path: Path) -> None:
    place = tmp_path / "run"
    write(place, 2)
    (place / "run.json").unlink()
    before = (place / "samples.jsonl").read_bytes()
    for changes in ({}, {"max_tokens": 9}):
        with pytest.raises(InputError, match=r"run.json.* --out"):
            write(place, PROMPTS, **changes)
    assert (place / "samples.jsonl").read_bytes() == before
    assert not (place / "run.json").exists()
    (place / "samples.jsonl").write_bytes(b"")  # a kill before the first batch
    assert write(place, PROMPTS).status == "complete"


@pytest.mark.parametrize("batches", [1, 3])
def test_samples_of_another_run_are_told(tmp_path: Path, batches: int) -> None:
    arms = [ARMS[0], RunArm("m=0.5", "scaled", 0.5, None, "circuit"), ARMS[2]]
    own = tmp_path / "own"
    run = write(own, 0, arms=[arm.to_dict() for arm in arms])
    write(tmp_path / "other", batches)
    found = (tmp_path / "other" / "samples.jsonl").read_bytes()
    (own / "samples.jsonl").write_bytes(found)
    with pytest.raises(InputError, match=r"line 2 .*'ablated', .*'m=0.5'"):
        run.samples()
    with pytest.raises(InputError, match="another run's"):
        write(own, PROMPTS, arms=run.config.to_dict()["arms"])
    assert (own / "samples.jsonl").read_bytes() == found


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        write(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_the_finder_leaves_is_nobodys_file(tmp_path: Path) -> None:
    for name in (".DS_Store", "._.DS_Store"):
        (tmp_path / name).write_bytes(b"Bud1")
    assert write(tmp_path, PROMPTS).status == "complete"


def test_a_place_is_looked_at_before_the_work_and_nothing_is_made(
    tmp_path: Path,
) -> None:
    check_place(tmp_path / "not" / "here" / "yet")
    assert list(tmp_path.iterdir()) == []
    check_place(write(tmp_path / "run", 1).directory)
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    cases = {
        ".": "--out",
        "thesis.tex": "file",
        "thesis.tex/run": "thesis.tex",
        "damaged": "run.json",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            check_place(tmp_path / name)


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    write(tmp_path / "run", 1)
    script = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "run" / "samples.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another process"):
            write(tmp_path / "run", 2)
        other.communicate(b"")
    assert write(tmp_path / "run", 2).status == "interrupted"


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    run = tmp_path / "run", config(), {"circuit": CIRCUIT}, RunFacts()
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", no_locks)
        with opened(*run) as journal:
            assert not journal.is_locked
            journal.add(batch(0))
    with opened(*run) as journal:
        assert (journal.is_locked, journal.done) == (True, 1)


def test_a_full_disk_is_said_and_keeps_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(
        tmp_path / "run", config(), {"circuit": CIRCUIT}, RunFacts()
    ) as journal:
        journal.add(batch(0))
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(CnaError, match=r"No space left .* command") as info:
            journal.add(batch(1))
    assert info.value.exit_code == 1
    monkeypatch.undo()
    assert len(RunRecord.load(tmp_path / "run").samples()) >= len(ARMS)


def test_a_disk_that_fills_up_within_a_batch(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond one batch and a half."""
    place = tmp_path / "run"
    write(place, 2)
    size = (place / "samples.jsonl").stat().st_size
    write(tmp_path / "begun", 1)
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "import test_runs\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))\n"
        "run = Path(sys.argv[1]), test_runs.config(), {}, test_runs.RunFacts()\n"
        "with test_runs.opened(*run) as one:\n"
        "    try:\n"
        "        one.add(test_runs.batch(1))\n"
        "    finally:\n"
        "        one.finish('failed')\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "begun"), str(size * 3 // 4)]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = found.stderr.splitlines()[-1]
    assert last.startswith("cna_mlx.errors.CnaError"), found.stderr
    assert str(tmp_path / "begun") in last
    assert "command" in last
    kept = (tmp_path / "begun" / "samples.jsonl").stat().st_size
    assert kept == size * 3 // 4  # half a batch, which is cut off
    assert write(tmp_path / "begun", 2).samples() == RunRecord.load(place).samples()


def test_an_end_that_cannot_be_written_has_a_remedy_and_hides_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunRecord) -> None:
        raise InputError(f"{self.directory}/run.json: cannot be written (No space)")

    with opened(
        tmp_path / "run", config(), {"circuit": CIRCUIT}, RunFacts()
    ) as journal:
        journal.add(batch(0))
        monkeypatch.setattr(RunRecord, "save", full)
        with pytest.raises(CnaError, match=r"run\.json: .*No space.* command") as info:
            journal.finish("complete")
        assert info.value.exit_code == 1
        journal.finish("failed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "run"),
        ("{", "JSON"),
        ("[]", "cna-mlx"),
        ('{"kind": "cna-mlx run", "format": 99}', "upgrade"),
        ('{"kind": "cna-mlx run", "format": 1}', "arms"),
        ('{"kind": "cna-mlx run", "format": 1, "config": {"arms": 3}}', "arms"),
    ],
)
def test_what_is_no_run_is_said(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message):
        RunRecord.load(tmp_path)


def test_runs_are_listed_and_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    assert list_runs() == []
    place = default_directory(config())
    assert place.parent == tmp_path
    assert place.name.startswith("eval-Some-Model-")
    assert default_directory(config()) == place
    assert default_directory(config(max_tokens=9)) != place
    write(place, 1)
    (tmp_path / "else").mkdir()
    assert [run.directory for run in list_runs()] == [place]
    assert (
        RunRecord.open(place.name).directory
        == RunRecord.open(str(place)).directory
        == place
    )
    assert RunRecord.open(str(place / "run.json")).directory == place


def test_a_run_that_went_on_is_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path))
    for name, year in (("first", 2023), ("second", 2024)):
        path = write(tmp_path / name, 1).directory / "run.json"
        data = json.loads(path.read_text("utf-8"))
        data["updated"] = data["created"] = f"{year}-01-01T00:00:00+00:00"
        path.write_text(json.dumps(data), "utf-8")
    assert [run.directory.name for run in list_runs()] == ["second", "first"]
    write(tmp_path / "first", PROMPTS)
    assert [run.directory.name for run in list_runs()] == ["first", "second"]
    assert RunRecord.load(tmp_path / "first").facts.created.startswith("2023")


def test_a_run_that_goes_on_is_running(tmp_path: Path) -> None:
    """A kill leaves what run.json says: not how it ended the last time."""
    run = write(tmp_path / "run", 1)
    assert run.status != "running"
    with opened(run.directory, run.config, run.circuits, RunFacts()):
        assert RunRecord.load(run.directory).status == "running"
    write(run.directory, PROMPTS)
    complete = RunRecord.load(run.directory)
    with opened(run.directory, run.config, run.circuits, RunFacts()):
        assert RunRecord.load(run.directory).status == complete.status


def test_the_identity_hangs_on_every_value_and_on_no_order() -> None:
    one = config()
    backwards = RunConfig.from_dict(dict(reversed(one.to_dict().items())))
    assert backwards.identity == one.identity
    assert config(max_tokens=9).identity != one.identity


def test_a_circuit_is_known_by_its_neurons() -> None:
    named = Circuit(CIRCUIT.neurons, provenance=Provenance(created="today"))
    assert circuit_sha256(named) == circuit_sha256(CIRCUIT)
    assert circuit_sha256(CIRCUIT.strongest(1)) != circuit_sha256(CIRCUIT)
