"""The command line: help, JSON, exit codes, and one line for whatever goes wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import mlx.core as mx
import pytest
from commandline import SISTER, TINY, Outcome
from evaluation_runs import make_run
from texts import missing

from cna_mlx.circuit import Circuit
from cna_mlx.cli import cli
from cna_mlx.errors import HubError, OutOfMemoryError, RequestError
from cna_mlx.labels.label import LabelKind
from cna_mlx.models.open_files import check_open_files
from cna_mlx.strength import Pin

Run = Callable[..., Outcome]

HEAVY = ("numpy", "mlx", "rich", "mlx_lm", "transformers", "prompt_toolkit")


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        assert one is not None
        yield (*path, name), one
        if isinstance(one, click.Group):
            yield from commands(one, (*path, name))


def subcommand(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


# ------------------------------------------------------------------------ help


def test_all_commands_are_known() -> None:
    assert {" ".join(path) for path, _ in commands()} == {
        "discover",
        "diff",
        "chat",
        "search",
        "shrink",
        "stability",
        "patch",
        "circuit",
        "circuit show",
        "circuit neuron",
        "circuit overlap",
        "circuit union",
        "circuit intersect",
        "circuit minus",
        "circuit top",
        "prompts",
        "prompts show",
        "models",
        "probe",
        "demo",
        "doctor",
        "bench",
        "eval",
        "verify",
        "audit",
        "report",
        "export",
        "runs",
        "serve",
        "label",
        "capability",
        "compare",
    }


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], command: Run
) -> None:
    shown = command(*path, "--help")
    assert (shown.code, shown.err) == (0, "")
    name = " ".join(["cna-mlx", *path])
    assert shown.out.startswith(f"Usage: {name} ")
    examples = shown.out.partition("Example:\n")[2]
    assert any(line.strip().startswith(name) for line in examples.splitlines())
    assert max(map(len, shown.out.splitlines())) <= 88


def test_every_option_says_what_it_does() -> None:
    for path, one in commands():
        for option in one.params:
            if isinstance(option, click.Option):
                assert option.help, (path, option.name)


@pytest.mark.parametrize("path", [(), ("circuit",)], ids=["cna-mlx", "circuit"])
def test_no_arguments_print_help(path: tuple[str, ...], command: Run) -> None:
    shown = command(*path)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == command(*path, "--help").out


def test_the_examples_of_the_help_are_understood() -> None:
    """Each example line parses; nothing is run."""
    import shlex

    count = 0
    for path, one in commands():
        for line in (one.epilog or "").splitlines():
            if not line.strip().startswith("cna-mlx "):
                continue
            words = shlex.split(line)[1 + len(path) :]
            one.make_context(" ".join(path), words)
            count += 1
    assert count >= 9


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from cna_mlx.cli import run\n"
        "for words in ([], ['--help'], ['diff', '--help'], ['--version']):\n"
        "    assert run(words) == 0\n"
        f"print(sorted(sys.modules.keys() & set({HEAVY})), file=sys.stderr)\n"
    )
    done = subcommand("-c", script)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "Usage: cna-mlx" in done.stdout


def test_commands_about_files_need_no_model(tmp_path: Path) -> None:
    """They start in a tenth of the time that a model's libraries take."""
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"text": "No."}\n')
    circuit = tmp_path / "circuit.json"
    Circuit.from_neurons([(0, 1)]).save(circuit)
    make_run(tmp_path / "run")
    lines = [
        ["label", str(answers)],
        ["runs"],
        ["report", str(tmp_path / "run")],
        ["circuit", "show", str(circuit)],
        ["circuit", "overlap", str(circuit), str(circuit)],
        ["circuit", "union", str(circuit), str(circuit), "-o", str(circuit), "--force"],
        ["circuit", "top", str(circuit), "1", "-o", str(circuit), "--force"],
        ["prompts"],
        ["prompts", "show", "refusal-small"],
    ]
    script = (
        "import sys\n"
        "from cna_mlx.cli import run\n"
        f"codes = [run(words) for words in {lines!r}]\n"
        "print(codes, 'mlx.core' in sys.modules, file=sys.stderr)\n"
        "codes = run(['models'])\n"  # which asks MLX for this machine's memory
        "heavy = sys.modules.keys() & {'mlx_lm', 'transformers', 'torch'}\n"
        "print(codes, sorted(heavy), file=sys.stderr)\n"
    )
    done = subcommand("-c", script)
    said = done.stderr.splitlines()
    assert "[0, 0, 0, 0, 0, 0, 0, 0, 0] False" in said
    assert said[-1] == "0 []"


# Installed beside the tool, or parts of its libraries that no command needs to answer.
IDLE = (
    *("torch", "scipy", "sklearn", "pandas", "pyarrow", "datasets", "lm_eval", "PIL"),
    *("transformers.modeling_utils", "transformers.pipelines", "prompt_toolkit"),
    *("mlx_lm.server", "mlx_lm.tuner", "mlx_lm.evaluate"),
)


@pytest.mark.parametrize(
    "words", [["diff", "demo", "Hello?", "--max-tokens", "1"], ["discover", "demo"]]
)
def test_a_command_imports_no_more_than_it_needs(
    words: list[str], tmp_path: Path
) -> None:
    words = [*words, "--no-expect"]
    script = (
        "import re, sys\n"
        "from cna_mlx.cli import run\n"
        "from cna_mlx.labels import patterns\n"
        f"code = run({words!r})\n"
        f"idle = [name for name in {IDLE!r} if name in sys.modules]\n"
        "bare = patterns.DECLINE_BARE\n"
        "compiled = sum('pattern' in vars(one) for one in bare)\n"
        "print(code, idle, 2 * compiled < len(bare), file=sys.stderr)\n"
    )
    done = subcommand("-c", script, env={**os.environ, "CNA_MLX_CACHE": str(tmp_path)})
    assert done.stderr.splitlines()[-1] == "0 [] True"


def test_as_a_module() -> None:
    done = subcommand("-m", "cna_mlx", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: cna-mlx ")


# ------------------------------------------------------------------------ JSON


def test_json_of_discover(command: Run, selection: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    done = command("discover", TINY, *selection, "--json", "-o", str(output))
    assert done.code == 0
    data = done.data
    assert data["schema_version"] == 1
    assert data.keys() >= {
        "model",
        "n_layers",
        "d_ff",
        "total_neurons",
        "fraction",
        "k",
        "neurons",
        "universal_dropped",
        "split_half",
        "seconds",
        "peak_memory_bytes",
    }
    assert (data["model"], data["n_layers"], data["d_ff"]) == (TINY, 4, 160)
    assert (data["total_neurons"], data["fraction"]) == (640, 0.05)
    assert data["k"] == 32 == len(data["neurons"])
    assert data["universal_dropped"] == []
    sizes = [abs(delta) for _, _, delta in data["neurons"]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(
        type(layer) is int and type(index) is int and 0 <= layer < 4 and index < 160
        for layer, index, _ in data["neurons"]
    )
    assert 0 <= data["split_half"] <= 1
    assert data["seconds"] > 0
    assert data["peak_memory_bytes"] > 0
    assert json.loads(output.read_text())["neurons"][0][:2] == data["neurons"][0][:2]


def test_a_discovery_says_how_it_ranked(command: Run, selection: list[str]) -> None:
    ranked = ("--rank", "normalized", "--layers", "1-2")
    done = command("discover", TINY, *selection, *ranked)
    assert "0.05 by normalized, layers 1-2" in done.out


def test_json_of_discover_counts_what_the_filter_drops(
    command: Run, files: tuple[str, str]
) -> None:
    sides = ["--positive", files[0], "--negative", files[1], "--fraction", "0.2"]
    data = command("discover", TINY, *sides, "--json").data
    assert data["k"] == 128 == len(data["neurons"]) + len(data["universal_dropped"])
    assert data["universal_dropped"]  # or this says nothing
    kept = {(layer, index) for layer, index, _ in data["neurons"]}
    assert not kept & {(layer, index) for layer, index in data["universal_dropped"]}


def test_json_of_diff(command: Run, circuit_file: Path) -> None:
    wanted = ["-m", "0", "-m", "2", "--max-tokens", "12"]
    prompts = ["-p", "one red stone", "-p", "[red] \x1b[2J café \u202e"]
    done = command(
        "diff", TINY, "--circuit", str(circuit_file), *wanted, *prompts, "--json"
    )
    assert done.code == 0
    assert done.data["schema_version"] == 1
    results = done.data["results"]
    assert [one["prompt"] for one in results] == [prompts[1], prompts[3]]
    for one in results:
        assert [arm["multiplier"] for arm in one["arms"]] == [1, 0, 2]
        for arm in one["arms"]:
            assert arm.keys() >= {
                "multiplier",
                "text",
                "label",
                "span",
                "quality",
                "tokens",
                "token_ids",
                "finish",
            }
            assert arm["tokens"] == len(arm["token_ids"]) <= 12
            assert arm["finish"] in ("stop", "length")
            assert arm["finish"] == "stop" or arm["tokens"] == 12
            assert arm["label"] in set(LabelKind)
            assert 0 <= arm["quality"] <= 1
            if arm["span"] is not None:
                start, end = arm["span"]
                assert 0 <= start < end <= len(arm["text"])
    assert len({arm["text"] for arm in results[0]["arms"]}) > 1  # it does steer


def test_json_of_diff_slices_the_deciding_words(
    command: Run, circuit_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cna_mlx.steering.events import Answer

    def refuse(model: Any, tokenizer: Any, ids: Any, arms: Any, **_: Any) -> Any:
        for prompt in range(len(ids)):
            for arm in range(len(arms)):
                text = "I'm sorry, but I can't help with that."
                yield Answer(prompt, arm, text, (1, 2), "stop")

    monkeypatch.setattr("cna_mlx.steering.diff.generate_arms", refuse)
    done = command("diff", TINY, "--circuit", str(circuit_file), "-p", "hi", "--json")
    for arm in done.data["results"][0]["arms"]:
        assert arm["label"] == "REFUSED"
        assert "can't help" in arm["text"][slice(*arm["span"])]


def test_diff_takes_prompts_from_a_file_and_a_pipe(
    command: Run, circuit_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    rest = ["--circuit", str(circuit_file), "--max-tokens", "2", "--json"]
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"goal": "one", "other": "x"}\n{"goal": "two"}\n')
    data = command("diff", TINY, "--prompts", str(file), *rest).data
    assert [one["prompt"] for one in data["results"]] == ["one", "two"]
    monkeypatch.setattr("sys.stdin", io.StringIO("three\n\nfour\n"))
    data = command("diff", TINY, "--prompts", "-", *rest).data
    assert [one["prompt"] for one in data["results"]] == ["three", "four"]


def test_diff_takes_several_circuits_with_multipliers(
    command: Run, circuit_text: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b@2.json"]
    for path in paths:
        path.write_text(circuit_text)
    data = command(
        *("diff", TINY, "--circuit", f"{paths[0]}@0.5", "--circuit", str(paths[1])),
        *("-m", "0", "-m", "3", "-p", "hi", "--max-tokens", "2", "--json"),
    ).data
    arms = data["results"][0]["arms"]
    assert [arm["multiplier"] for arm in arms] == [1, 0.5, 0, 3]
    assert len({arm["arm"] for arm in arms}) == 4


def test_a_negative_multiplier_is_a_number(command: Run, circuit_file: Path) -> None:
    rest = ["-p", "hi", "--max-tokens", "2", "--json"]
    for words in (["-m", "-1"], ["-m-1"], ["--multiplier=-1"]):
        done = command("diff", TINY, "--circuit", str(circuit_file), *words, *rest)
        assert [a["multiplier"] for a in done.data["results"][0]["arms"]] == [1, -1]


def test_diff_without_a_circuit_discovers_one_and_keeps_it(
    command: Run, selection: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = [*selection, "-p", "hi", "--max-tokens", "2", "--json"]
    first = command("diff", TINY, *rest)
    assert first.data["results"][0]["arms"][1]["multiplier"] == 0
    assert "discovered 32 neurons" in first.err

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("discovered again")

    monkeypatch.setattr("cna_mlx.discovery.cache.run_discovery", fail)
    second = command("diff", TINY, *rest)
    assert "cached" in second.err
    assert second.data == first.data


def test_json_of_circuit_show(command: Run, circuit_file: Path) -> None:
    data = command("circuit", "show", str(circuit_file), "--json").data
    assert data["schema_version"] == 1
    assert data["k"] == len(data["neurons"]) == sum(data["by_layer"].values()) == 32
    assert data["model"]["d_ff"] == [160] * 4
    assert data["contrast"]["name"] == "red-vs-blue"


def test_circuit_show_for_people(command: Run, circuit_file: Path) -> None:
    shown = command("circuit", "show", str(circuit_file), "--top", "3")
    assert (shown.code, shown.err) == (0, "")
    assert "the first 3 neurons" in shown.out
    assert "red-vs-blue (4/4)" in shown.out
    counts = json.loads(circuit_file.read_text())["neurons"]
    for layer in range(4):
        count = sum(row[0] == layer for row in counts)
        mass = sum(abs(row[2]) for row in counts if row[0] == layer)
        share = round(100 * mass / sum(abs(row[2]) for row in counts))
        ending = [str(count), f"{share}%"] if count else ["0"]
        assert any(
            line.split()[:1] == [str(layer)] and line.split()[-len(ending) :] == ending
            for line in shown.out.splitlines()
        )


def test_json_of_prompts(command: Run) -> None:
    sets = {
        one["name"]: one for one in command("prompts", "--json").data["prompt_sets"]
    }
    assert sets.keys() >= {"refusal", "refusal-small", "magic"}
    assert sets["refusal"]["positive"]["prompts"] == 100
    one = command("prompts", "show", "refusal-small", "--json").data
    assert len(one["positive"]) == len(one["negative"]) == 8
    shown = command("prompts", "show", "refusal-small").out
    assert all(prompt in shown for prompt in (*one["positive"], *one["negative"]))


def test_unknown_prompts_are_told_what_there_is(command: Run) -> None:
    done = command("prompts", "show", "nosuch")
    assert done.code == 2
    assert missing(done.failure, "'nosuch'", "refusal-small", "jbb-benign") == []


def test_json_of_models(command: Run) -> None:
    done = command("models", "--json")
    data = done.data
    assert data["usable_memory_bytes"] <= data["memory_bytes"]
    by_name = {one["name"]: one for one in data["models"]}
    assert len(by_name) == 16
    mixture = by_name["Qwen3-30B-A3B"]
    assert mixture["neurons"] == 48 * 128 * 768
    assert (mixture["experts"], mixture["experts_per_token"]) == (128, 8)
    assert mixture["active_b"] < mixture["params_b"] / 9
    assert mixture["kv_bytes_per_token"] == 2 * 48 * 4 * 128 * 2
    one = by_name["Llama-3.2-1B"]
    assert one["neurons"] == one["layers"] * one["d_ff"] == 131072
    assert type(one["fits"]) is bool
    shown = command("models")
    assert all(name in shown.out for name in by_name)


def _http() -> Any:
    """The package that huggingface_hub speaks to the Hub with."""
    from huggingface_hub.errors import HfHubHTTPError

    return import_module(HfHubHTTPError.__mro__[1].__module__.partition(".")[0])


def test_models_check_says_when_the_hub_cannot_be_reached(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    def unreachable(*_: Any, **__: Any) -> None:
        raise _http().ConnectError("[Errno 111] Connection refused")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    done = command("models", "--check", "--json")
    assert done.code == 1
    assert "cannot be reached" in done.failure


def test_json_on_an_ascii_locale_is_json() -> None:
    name = "prompts.json"
    script = (
        "import sys\n"
        "from cna_mlx.ui.output import emit_json\n"
        "emit_json({'text': 'caf\\xe9 \\U0001f600 \\u4f60 \\udcff'})\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subcommand("-c", script, name, env=environment)
    assert json.loads(done.stdout)["text"] == "café 😀 你 \udcff"


@pytest.mark.slow
def test_a_prompt_in_any_locale_is_the_same_prompt(
    circuit_file: Path, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "CNA_MLX_CACHE": str(tmp_path),
    }
    words = ["-p", "café 😀", "--max-tokens", "2", "--json"]
    done = subcommand(
        *("-m", "cna_mlx", "diff", TINY, "--circuit", str(circuit_file), *words),
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["prompt"] == "café 😀"


# ------------------------------------------------------------------- bad input


def _model_directory(
    path: Path, weights: dict[str, mx.array] | None = None, **config: Any
) -> str:
    """A copy of the tiny model with changes; no weights: config.json alone."""
    path.mkdir()
    known = json.loads((Path(TINY) / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**known, **config}))
    if weights is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(Path(TINY) / name, path)
        mx.save_safetensors(str(path / "model.safetensors"), weights)
    return str(path)


def _weights() -> dict[str, mx.array]:
    return dict(mx.load(str(Path(TINY) / "model.safetensors")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-such-model", "no such directory"),
        ("./nobody/nothing", "no such directory"),
        ("{file}", "is a file"),
        ("{empty}", "no config.json"),
        ("{no_weights}", "no model*.safetensors"),
        ("{broken_config}", "not JSON"),
        ("{cut_off}", "cannot be read"),
    ],
)
def test_models_that_cannot_be_loaded(
    name: str, said: str, command: Run, tmp_path: Path
) -> None:
    paths = {key: tmp_path / key for key in ("file", "empty", "no_weights", "cut_off")}
    paths["broken_config"] = tmp_path / "broken_config"
    paths["file"].write_text("x")
    paths["empty"].mkdir()
    _model_directory(paths["no_weights"])
    paths["broken_config"].mkdir()
    (paths["broken_config"] / "config.json").write_text('{"model_type": "lla')
    _model_directory(paths["cut_off"], {})
    weights = (Path(TINY) / "model.safetensors").read_bytes()
    (paths["cut_off"] / "model.safetensors").write_bytes(weights[:-1000])
    model = name.format(**paths)
    done = command("discover", model)
    assert done.code == 2
    assert said in done.failure
    assert model in done.failure


def test_an_unsupported_mlp_is_named_with_the_supported_ones(
    command: Run, tmp_path: Path
) -> None:
    model = _model_directory(tmp_path / "other", model_type="gpt2")
    done = command("discover", model)
    assert done.code == 2
    for part in ("gpt2", "Llama", "Qwen2", "Qwen3"):
        assert part in done.failure


def test_no_such_repository(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    http = _http()

    def missing(name: str, **_: Any) -> str:
        answer = http.Response(404, request=http.Request("GET", "https://hub"))
        raise errors.RepositoryNotFoundError("404 Client Error", response=answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    done = command("discover", "nobody/nothing")
    assert done.code == 2
    assert "nobody/nothing" in done.failure
    assert "no such repository" in done.failure


def test_a_model_too_large_for_the_machine(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cna_mlx.models.memory.machine import Machine

    small = Machine(2_000_000, 500_000)
    monkeypatch.setattr("cna_mlx.models.memory.machine.machine", lambda: small)
    whole = command("diff", SISTER, "-p", "why?")
    assert whole.code == 2
    assert missing(whole.failure, SISTER, " kB", "weights") == []
    assert "--stream" in whole.failure
    from_disk = command("discover", SISTER)
    assert from_disk.code == 2
    assert "disk" in from_disk.failure


def _edited(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})


@pytest.fixture
def bad_circuits(circuit_text: str, tmp_path: Path) -> dict[str, Path]:
    data = json.loads(circuit_text)
    other = {**data["model"], "fingerprint": "0" * 64, "id": "else/where\x1b[2J"}
    texts = {
        "shape": _edited(circuit_text, model={**data["model"], "d_ff": [160] * 5}),
        "range": _edited(circuit_text, model={}, neurons=[[7, 3, 1.0, 0, 0, 0, 0]]),
        "weights": _edited(circuit_text, model=other),
        "truncated": circuit_text[: len(circuit_text) // 2],
        "newer": _edited(circuit_text, format=3),
        "text": "neurons, mostly",
        "foreign": '{"neurons": []}',
        "nan": _edited(circuit_text, neurons=[[0, 1, float("nan"), 0, 0, 0, 0]]),
        "twice": _edited(circuit_text, neurons=[data["neurons"][0]] * 2),
    }
    paths = {name: tmp_path / f"{name}.json" for name in (*texts, "missing")}
    for name, text in texts.items():
        paths[name].write_text(text, encoding="utf-8")
    return paths


def test_pins_are_arms_of_a_diff(command: Run, circuit_file: Path) -> None:
    line = ["diff", TINY, "-p", "one red stone", "--max-tokens", "6", "--json"]
    given = [f"{circuit_file}@mean", f"{circuit_file}@pin=-2", f"{circuit_file}@0.5"]
    found = command(*line, *(x for one in given for x in ("--circuit", one)))
    assert found.code == 0
    arms = found.data["results"][0]["arms"]
    assert [arm["intervention"] for arm in arms] == [
        None,
        {"kind": "mean"},
        {"kind": "pin", "value": -2.0},
        {"kind": "scale", "value": 0.5},
    ]
    assert [arm["arm"] for arm in arms[1:]] == [
        f"{circuit_file} {text}" for text in ("mean", "pin=-2", "m=0.5")
    ]
    short = ["--circuit", str(circuit_file), "-m", "mean", "-m", "pin=-2", "-m", "0.5"]
    again = command(*line, *short).data["results"][0]["arms"]
    assert [arm["arm"] for arm in again] == ["baseline", "mean", "pin=-2", "m=0.5"]
    assert [arm["token_ids"] for arm in again] == [arm["token_ids"] for arm in arms]
    refused = command(*line, "--circuit", given[0], "-m", "pin=1")
    assert refused.code == 2
    assert "--circuit has @mean, but -m has pin=1" in refused.failure


@pytest.mark.parametrize("text", ["pin=", "pin=x", "mean=1", "pin=nan", "means"])
def test_pins_that_cannot_be(text: str, command: Run, circuit_file: Path) -> None:
    for line in (["-m", text], ["--circuit", f"{circuit_file}@{text}"]):
        found = command("diff", TINY, "-p", "hi", *line)
        assert found.code == 2
        assert "is not a finite multiplier, mean or pin=C" in found.failure


def test_a_file_names_its_strength(
    command: Run, circuit_text: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    replace(Circuit.from_text(circuit_text, "c"), intervention=Pin(0.5)).save(path)
    line = ["diff", TINY, "-p", "hi", "--max-tokens", "2", "--json", "--circuit"]
    arms = command(*line, str(path)).data["results"][0]["arms"]
    assert arms[1]["intervention"] == {"kind": "pin", "value": 0.5}
    arms = command(*line, str(path), "-m", "0").data["results"][0]["arms"]
    assert arms[1]["intervention"] == {"kind": "scale", "value": 0.0}
    shown = command("circuit", "show", str(path), "--json").data
    assert shown["intervention"] == {"kind": "pin", "value": 0.5}
    assert "pinned to 0.5" in command("circuit", "show", str(path)).out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "no such circuit file"),
        ("shape", "5 layers of 160 neurons"),
        ("range", "neuron 3 of layer 7"),
        ("weights", "--allow-transfer"),
        ("truncated", "cut off"),
        ("newer", "newer"),
        ("text", "not JSON"),
        ("foreign", "not a cna-mlx circuit"),
        ("nan", "not a finite number"),
        ("twice", "repeated"),
    ],
)
@pytest.mark.parametrize("verb", ["diff", "chat"])
def test_circuits_that_cannot_be_used(
    verb: str, name: str, said: str, command: Run, bad_circuits: dict[str, Path]
) -> None:
    path = str(bad_circuits[name])
    prompt = ["-p", "hi"] if verb == "diff" else []
    done = command(verb, TINY, "--circuit", path, *prompt)
    assert done.code == 2
    assert said in done.failure
    assert path in done.failure
    assert "\x1b" not in done.err


@pytest.mark.parametrize("name", ["missing", "truncated", "newer", "text", "foreign"])
def test_circuit_show_refuses_what_is_no_circuit(
    name: str, command: Run, bad_circuits: dict[str, Path]
) -> None:
    done = command("circuit", "show", str(bad_circuits[name]))
    assert done.code == 2
    assert str(bad_circuits[name]) in done.failure


def test_circuit_show_obeys_nothing_in_the_file(
    command: Run, circuit_text: str, tmp_path: Path
) -> None:
    evil = "\x1b[2J[red]\u202e"
    data = json.loads(circuit_text)
    data["model"]["id"] = evil
    data["contrast"].update(name=evil, positive_label=evil, negative_label=evil)
    path = tmp_path / "evil.json"
    path.write_text(json.dumps(data))
    shown = command("circuit", "show", str(path))
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert shown.out.count("[red]") >= 4


@pytest.mark.parametrize(
    "changes",
    [
        {"fraction": "many"},
        {"contrast": 5},
        {"layers": 3},
        {"split_half": "high"},
        {"model": {"d_ff": [160] * 4, "id": {"a": 1}}},
        {"contrast": {"name": None}},
    ],
    ids=str,
)
def test_circuit_show_bears_an_odd_origin(
    changes: dict[str, Any], command: Run, circuit_text: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(_edited(circuit_text, **changes))
    done = command("circuit", "show", str(path))
    assert done.code == 0 or (done.code == 2 and str(path) in done.failure)
    assert "unexpected" not in done.err


def test_a_transfer_is_made_where_it_is_allowed(
    command: Run, bad_circuits: dict[str, Path]
) -> None:
    words = ["-p", "hi", "--max-tokens", "2", "--json", "--allow-transfer"]
    done = command("diff", TINY, "--circuit", str(bad_circuits["weights"]), *words)
    assert done.code == 0
    assert len(done.data["results"]) == 1
    done = command("diff", TINY, "--circuit", str(bad_circuits["shape"]), *words)
    assert done.code == 2  # another shape is never allowed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--positive", "{empty}", "--negative", "{full}"], "no prompts"),
        (["--positive", "{full}", "--negative", "{empty}"], "no prompts"),
        (["--positive", "{full}"], "--negative"),
        (["--negative", "{full}"], "--positive"),
        (["--positive", "{full}", "--negative", "{missing}"], "no such file"),
        (["--positive", "{full}", "--negative", "{same}"], "same prompt"),
        (["--positive", "{full}", "--negative", "{latin}"], "not UTF-8"),
        (
            ["--contrast", "magic", "--positive", "{full}", "--negative", "{empty}"],
            "--contrast",
        ),
        (["--contrast", "refusel"], "refusal"),
        (["--fraction", "0"], "out of range"),
        (["--fraction", "1.5"], "out of range"),
        (["--fraction", "-0.1"], "out of range"),
        (["--fraction", "nan"], "out of range"),
        (["--fraction", "lots"], "--fraction"),
        (["--layers", "3"], "--layers"),
        (["--layers", "a-b"], "--layers"),
        (["--layers", "-1-2"], "--layers"),
        (["--layers", "2-1"], "layers 0-3"),
        (["--layers", "2-9"], "layers 0-3"),
        (["--layers", "2-2", "--fraction", "0.5"], "wider band"),
        (["--date", "yesterday"], "--date"),
        (["--date", "2024-02-30"], "--date"),
        (["--rank", "best"], "--rank"),
        (["--chat-template", "maybe"], "--chat-template"),
        (["--system", "\udcff"], "--system"),
        (["--nonsense"], "--nonsense"),
        (["-o", "{missing}/x/y.json"], "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_requests_for_a_discovery_that_cannot_be_met(
    options: list[str], said: str, command: Run, tmp_path: Path, selection: list[str]
) -> None:
    texts = {"empty": "\n", "full": "a\nb\n", "same": "c\na\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin").write_bytes("café\n".encode("latin-1"))
    paths = {name: tmp_path / name for name in (*texts, "latin", "missing")}
    options = [option.format(**paths) for option in options]
    asked = {"--positive", "--negative", "--contrast"} & set(options)
    done = command("discover", TINY, *([] if asked else selection), *options)
    assert done.code == 2
    assert said in done.failure


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-m", "nan"], "finite"),
        (["-m", "inf"], "finite"),
        (["-m", "much"], "--multiplier"),
        (["--circuit", "{circuit}@abc"], "@abc"),
        (["--circuit", "{circuit}@inf"], "@inf"),
        (["--circuit", "{circuit}@"], "finite"),
        (["-m", "0", "-m", "0.0"], "twice"),
        (["-p", "  "], "blank"),
        (["-p", "\udcff"], "-p"),
        (["--prompts", "{circuit}"], "not both"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["-p", "{long}"], "prompt 2 has"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_requests_for_a_diff_that_cannot_be_met(
    options: list[str], said: str, command: Run, circuit_file: Path
) -> None:
    long = "red stone " * 3000
    options = [one.format(circuit=circuit_file, long=long) for one in options]
    known = [] if "--circuit" in options else ["--circuit", str(circuit_file)]
    done = command("diff", TINY, *known, "-p", "hi", *options)
    assert done.code == 2
    assert said in done.failure


def test_prompts_of_a_file_that_is_not_there(command: Run, circuit_file: Path) -> None:
    known = ["--circuit", str(circuit_file)]
    done = command("diff", TINY, *known, "--prompts", "nowhere.txt")
    assert done.code == 2
    assert "nowhere.txt: " in done.failure


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--temp", "-1"], "--temp"),
        (["--temp", "nan"], "--temp"),
        (["--seed", "-1"], "--seed"),
        (["--circuit", "{circuit}@0.5", "-m", "0"], "give one"),
        (["-m", "0", "-m", "1", "-m", "2", "-m", "3"], "4 arms"),
        (["--circuit", "{circuit}@0.5", "--circuit", "{circuit}@0.5"], "twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_requests_for_a_chat_that_cannot_be_met(
    options: list[str], said: str, command: Run, circuit_file: Path
) -> None:
    options = [one.format(circuit=circuit_file) for one in options]
    done = command("chat", TINY, *options)
    assert done.code == 2
    assert said in done.failure


@pytest.mark.parametrize("words", [["prompts", "show", "x"], ["nosuch"], ["diff"]])
def test_other_mistakes(words: list[str], command: Run) -> None:
    done = command(*words)
    assert done.code == 2
    assert len(done.failure) < 400


def test_a_tokenizer_without_a_template(command: Run, tmp_path: Path) -> None:
    model = _model_directory(tmp_path / "plain", _weights())
    settings = json.loads((Path(TINY) / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (Path(model) / "tokenizer_config.json").write_text(json.dumps(settings))
    done = command("discover", model, "--chat-template", "on")
    assert done.code == 2
    assert "--chat-template" in done.failure


def test_nan_names_layer_and_prompt(
    command: Run, selection: list[str], tmp_path: Path
) -> None:
    weights = _weights()
    name = "model.layers.2.mlp.up_proj.weight"
    weights[name] = weights[name] * float("nan")
    model = _model_directory(tmp_path / "nan", weights)
    done = command("discover", model, *selection)
    assert done.code == 1
    assert "layer 2" in done.failure
    assert "prompt 1" in done.failure
    assert not (tmp_path / "store").exists()  # nothing was ranked


# ------------------------------------------------------------- limits, accidents


def test_a_low_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(RequestError, match=r"1024.*ulimit -Hn 4096"):
        check_open_files()


@pytest.mark.parametrize(
    "words",
    [
        ["discover", TINY],
        ["circuit", "show", "circuit.json", "--model", TINY],
        ["label", "run", "--judge", TINY],
        ["compare", TINY, TINY],
        ["compare", "run", "run"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_low_limit_of_open_files_in_a_process(
    words: list[str], tmp_path: Path
) -> None:
    """Only what loads a model needs more."""
    script = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))\n"
        "if os.geteuid() == 0:  # who may raise limits must lose that first\n"
        "    import ctypes\n"
        "    if ctypes.CDLL(None).prctl(24, 24, 0, 0, 0):\n"
        "        sys.exit(77)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'cna_mlx', *sys.argv[1:]])\n"
    )
    Circuit.from_neurons([(0, 1)]).save(tmp_path / "circuit.json")
    make_run(tmp_path / "run")
    path = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subcommand("-c", script, *words, cwd=tmp_path, env=environment)
    if done.returncode == 77:
        pytest.skip("this user's limits cannot be lowered for good")
    if words == ["compare", "run", "run"]:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "1024" in done.stderr
    assert "ulimit -Hn 4096" in done.stderr


def test_the_limit_of_open_files_is_what_mlx_lm_wants() -> None:
    check_open_files()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 2048


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("a\nb"), 1, "unexpected RuntimeError: a"),
        (RuntimeError("no tensor in /memory/malloc"), 1, "unexpected RuntimeError"),
        (FileNotFoundError(2, "No such file", "/memory/x"), 1, "/memory/x: No such"),
        (OutOfMemoryError("out of memory: try less"), 1, "out of memory: try less"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "/x/y"), 1, "/x/y: No space left"),
        (HubError("no network"), 1, "no network"),
        (ZeroDivisionError("\x1b[2J"), 1, "\\x1b[2J"),
    ],
    ids=repr,
)
def test_accidents_are_one_line(
    error: BaseException,
    code: int,
    said: str,
    command: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("cna_mlx.prompts.contrast_names", fail)
    done = command("prompts")
    assert done.code == code
    assert said in done.failure
    assert "\x1b" not in done.err


def test_debugging_shows_where(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("cna_mlx.prompts.contrast_names", fail)
    monkeypatch.setenv("CNA_MLX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        command("prompts")


# A real signal to a real process, after so many results.
_INTERRUPTING = """
import os, signal, sys
import cna_mlx.discovery.diff_run as diff_run
from cna_mlx.cli import main
from cna_mlx.steering.diff import PromptResult, diff

def interrupted(*arguments, **options):
    done = 0
    for event in diff(*arguments, **options):
        yield event
        done += isinstance(event, PromptResult)
        if done == 2 and not isinstance(event, PromptResult):
            os.kill(os.getpid(), signal.SIGINT)
            done = 3

diff_run.diff = interrupted
main()
"""


def test_an_interrupted_diff_keeps_what_was_finished(
    circuit_file: Path, tmp_path: Path
) -> None:
    prompts = [word for n in range(9) for word in ("-p", f"stone {n}")]
    words = ["--circuit", str(circuit_file), "--max-tokens", "40", "--json"]
    done = subcommand(
        "-c",
        _INTERRUPTING,
        *("diff", TINY, *words, *prompts),
        env={**os.environ, "CNA_MLX_CACHE": str(tmp_path)},
    )
    assert done.returncode == 130, done.stderr
    results = json.loads(done.stdout)["results"]
    assert 2 <= len(results) <= 3  # the third was under way
    for one in results[:2]:
        assert all(arm["finish"] in ("stop", "length") for arm in one["arms"])
    assert "Traceback" not in done.stderr
    assert done.stderr.rstrip().endswith("cna-mlx: interrupted")


@pytest.mark.slow
def test_an_interrupt_before_the_first_result(tmp_path: Path) -> None:
    script = (
        "import os, signal, time\n"
        "import cna_mlx.discovery.session as session\n"
        "from cna_mlx.cli import main\n"
        "def load(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)  # another thread may be the one that is told\n"
        "session.load = load\n"
        "main()\n"
    )
    done = subcommand(
        *("-c", script, "diff", TINY, "-p", "hi", "--json"),
        env={**os.environ, "CNA_MLX_CACHE": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.rstrip().endswith("cna-mlx: interrupted")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["--help"], ["prompts", "show", "refusal"], ["prompts", "--json"]],
    ids=" ".join,
)
def test_a_closed_pipe_ends_quietly(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cna_mlx", *words],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_head_of_a_long_list() -> None:
    python = f"{sys.executable} -m cna_mlx"
    line = f"{python} prompts show refusal | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


def test_a_closed_standard_input() -> None:
    line = f"{sys.executable} -m cna_mlx chat {TINY} <&-"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_time_of_help() -> None:
    """The requirement is 0.3 s; processor time does not depend on what else runs."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subcommand("-m", "cna_mlx", "--help")
        spent.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    assert min(spent) < 0.6


def test_signals_are_as_they_were(command: Run, circuit_file: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    known = ["--circuit", str(circuit_file), "-p", "hi", "--max-tokens", "1"]
    assert command("diff", TINY, *known).code == 0
    assert signal.getsignal(signal.SIGINT) is before
