"""Hostile input and damaged weights: one clear line, or the right value."""

import errno
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from commandline import TINY, Outcome, make_screen, sent
from evaluation_runs import make_run
from tiny_models import LAYERS, VOCABULARY, make_model

from cna_mlx import Circuit, PromptSet
from cna_mlx.chat.commands import run_command
from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.journal import ChatJournal
from cna_mlx.chat.transcripts import as_json, load_into
from cna_mlx.circuit import Neuron
from cna_mlx.discovery.cache import Store, _read_neurons
from cna_mlx.discovery.gauge import gauges
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import (
    CircuitError,
    CnaError,
    InputError,
    ModelError,
    NonFiniteError,
)
from cna_mlx.labels.answer_files import label_file
from cna_mlx.models import loading
from cna_mlx.neurons import MOST_LAYERS
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.prompts.files import read_prompts
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.gauge_scale import Scale
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import steered
from cna_mlx.strength import check_strength
from cna_mlx.ui.chat import run_chat

Command = Callable[..., Outcome]


# ------------------------------------------------------------------ wrong, silently


def answers(model: Any, tokenizer: Any, arms: list[Arm], **rest: Any) -> list[Answer]:
    events = generate_arms(model, tokenizer, [[1, 2, 3]], arms, max_tokens=4, **rest)
    return [event for event in events if isinstance(event, Answer)]


def test_nan_logits_are_no_answer(tokenizer: Any) -> None:
    model = make_model()
    assert len(answers(model, tokenizer, [BASELINE])) == 1
    model.model.norm.weight[3] = mx.nan
    with pytest.raises(CnaError, match=r"logits of baseline .* fetch"):
        answers(model, tokenizer, [BASELINE])


def test_a_multiplier_that_overflows_is_told(llama: Any, tokenizer: Any) -> None:
    circuit = Circuit.from_neurons((layer, 5, 1.0) for layer in range(LAYERS))
    arms = [BASELINE, Arm.of(circuit, 3.4e38)]
    with pytest.raises(CnaError, match=r"logits of m=3.4e\+38 .* smaller"):
        answers(llama, tokenizer, arms)


def test_a_later_token_without_a_finite_logit_is_told(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = make_model(), []
    inner = type(model).__call__

    def damaged(self: Any, *args: Any, **rest: Any) -> Any:
        calls.append(1)
        logits = inner(self, *args, **rest)
        return logits * mx.nan if len(calls) > 3 else logits

    monkeypatch.setattr(type(model), "__call__", damaged)
    with pytest.raises(CnaError, match="NaN"):
        answers(model, tokenizer, [BASELINE])


@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**31])
def test_a_token_without_an_embedding_is_refused(
    llama: Any, tokenizer: Any, token: int
) -> None:
    for ids in ([token, 1], [1, token]):
        with pytest.raises(InputError, match=f"token {token}.*{VOCABULARY} tokens"):
            next(generate_arms(llama, tokenizer, [ids], [BASELINE]))


def test_a_gauge_has_a_value(tiny: tuple[Any, Any], circuit_text: str) -> None:
    circuit = Circuit.from_text(circuit_text, "here")
    for delta in (1e200, 1e-200):
        odd = tuple(one._replace(delta=delta) for one in circuit.neurons)
        with pytest.raises(CircuitError, match="deltas"):
            Scale(replace(circuit, neurons=odd))
    far = circuit.moments[0]._replace(negative_mean=1e308)
    odd_moments = replace(circuit, moments=(far,) * len(circuit.neurons))
    with pytest.raises(
        CnaError, match="gauge is NaN or infinite: a multiplier is too large"
    ):
        gauges(tiny[0], odd_moments, [[1, 2, 3]])
    with pytest.raises(CnaError, match="gauge is NaN or infinite"):
        answers(*tiny, [BASELINE], gauge=odd_moments)


def test_a_gauge_of_damaged_weights_is_told(circuit_text: str) -> None:
    model, _ = loading.load(TINY)
    model.model.layers[0].mlp.gate_proj.weight[2] = mx.nan
    with pytest.raises(NonFiniteError):
        gauges(model, Circuit.from_text(circuit_text, "here"), [[1, 2, 3]])


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (LAYERS, 0), (0, 10**6)])
def test_a_neuron_that_is_not_there_is_not_steered(
    llama: Any, place: tuple[int, int]
) -> None:
    circuit = Circuit((Neuron(*place, 1.0),))
    with pytest.raises(CircuitError, match="names neuron"), steered(llama, circuit):
        pass


@pytest.mark.parametrize("multiplier", [b"0", "0", None, 1j, [b"0"]])
def test_a_multiplier_is_a_number(
    llama: Any, circuit: Circuit, multiplier: Any
) -> None:
    with (
        pytest.raises(InputError, match="finite number"),
        steered(llama, circuit, multiplier),
    ):
        pass
    assert check_strength(np.float32(0.5)) == 0.5  # type: ignore[arg-type]


def test_a_cached_circuit_is_what_its_name_says(
    tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    contrast = PromptSet.from_prompts(["one red", "two red"], ["one blue", "two blue"])
    selection, store = Selection(0.05, universal=False), Store(tmp_path)

    def find() -> Any:
        return store.find_or_discover(*tiny, contrast, selection, Rendering())

    first = find()
    assert find().discovery is None
    own = first.circuit
    one = Circuit.from_neurons([(0, 0, 1.0)]).neurons
    others = [
        replace(own, neurons=one, moments=(), details=(), model=other)
        for other in (
            replace(own.model, fingerprint="f" * 64),
            replace(own.model, fingerprint=None),
            replace(own.model, d_ff=(8, 8)),
        )
    ]
    for other in others:
        first.path.write_text(other.to_text(), encoding="utf-8")
        again = find()
        assert again.discovery is not None
        assert again.circuit.neurons == own.neurons


def test_universal_neurons_of_another_model_count_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "universal.json"
    for text, wanted in {
        "[[0, 5], [2, 7]]": {(0, 5), (2, 7)},
        "[]": set(),
        "[[0, 8]]": None,
        "[[-1, 0]]": None,
        "[[0.5, 0]]": None,
        '"ab"': None,
    }.items():
        path.write_text(text, encoding="utf-8")
        assert _read_neurons(path, (8, 8, 8)) == wanted


# ------------------------------------------------------------------ limits


def test_prompts_and_answers_have_a_length(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("x" * 1_000_001, encoding="utf-8")
    with pytest.raises(InputError, match=r"long.txt, line 1: 1,000,001 characters"):
        read_prompts(path)
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps("x" * 1_000_001), encoding="utf-8")
    with pytest.raises(InputError, match="1,000,001 characters"):
        label_file(path)


def test_no_input_is_waited_for(command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", Path("/dev/zero")):
        for line in (["label", str(path)], ["circuit", "show", str(path)]):
            found = command(*line)
            assert found.code == 2
            assert "a device or a pipe" in found.failure


def test_a_circuit_of_a_layer_that_no_model_has(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "deep.json"
    text = Circuit.from_neurons([(MOST_LAYERS - 1, 5, 1.0)]).to_text()
    path.write_text(text, encoding="utf-8")
    assert len(command("circuit", "show", str(path)).out.splitlines()) < 30
    path.write_text(text.replace("9999", "10000000"), encoding="utf-8")
    found = command("circuit", "show", str(path))
    assert found.code == 2
    assert "no model has neuron 5 of layer 10000000" in found.failure


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny model with other settings."""

    def copy(name: str = "config.json", **settings: Any) -> Path:
        place = tmp_path / "model"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(TINY, place)
        data = json.loads((place / name).read_text())
        (place / name).write_text(json.dumps({**data, **settings}))
        return place

    return copy


@pytest.mark.parametrize("count", [5, 10_000_000])
def test_layers_that_the_weights_lack(copied: Callable[..., Path], count: int) -> None:
    place = copied(num_hidden_layers=count)
    before = json.loads((Path(TINY) / "config.json").read_text())["num_hidden_layers"]
    assert before < count
    with pytest.raises(ModelError, match=f"says {count:,} layers.*have {before}"):
        loading.load(str(place))


def test_settings_are_not_nested_without_end(copied: Callable[..., Path]) -> None:
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        place = copied()
        (place / name).write_text("[" * 100_000)
        with pytest.raises(ModelError, match=f"{name} has more than 64 lists"):
            loading.load(str(place))
    place = copied()
    header = b"[" * 100_000
    (place / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header
    )
    with pytest.raises(ModelError, match=r"header of model.safetensors has more than"):
        loading.load(str(place))


@pytest.mark.parametrize("name", ["..models.llama", "a.b", "nothing_of_the_kind"])
def test_a_template_module_is_a_name_that_exists(
    copied: Callable[..., Path], name: str
) -> None:
    place = copied("tokenizer_config.json", chat_template_type=name)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        loading.load(str(place))


TEMPLATES = {
    "divides": "{{ 1 // 0 }}",
    "beyond floating point": "{{ 1e999 + messages | length }}",
    "recurses": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "is endless": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "is large": "{{ 'x' * 3000000000 }}",
    "grows": "{% set n = namespace(x='x' * 1000) %}{% for i in range(40) %}"
    "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "counts": "{{ 10 ** 100000000 }}",
    "lacks": "{{ nothing.there.at.all }}",
    "adds": "{{ messages + 1 }}",
}


@pytest.mark.parametrize("what", TEMPLATES)
def test_a_template_ends_in_one_line(
    tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("cna_mlx.models.template_limits.MOST_SECONDS", 0.5)
    monkeypatch.setattr("cna_mlx.models.template_limits.MOST_BYTES", 1 << 28)
    tokenizer = tiny[1]
    monkeypatch.setattr(tokenizer._tokenizer, "chat_template", TEMPLATES[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(InputError, match="the chat template"):
        render_prompt(tokenizer, "one red stone")
    assert time.perf_counter() - started < 20
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 1 << 31
    monkeypatch.undo()
    assert render_prompt(tokenizer, "one red stone")  # nothing is left behind


# ------------------------------------------------------------------ files of a run


def test_a_run_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("samples.jsonl", "run.json", "circuits"):
        place = tmp_path / f"of-{name}"
        place.mkdir()
        (place / name).symlink_to(tmp_path / "mine")
        with pytest.raises(InputError, match=f"{name}: a symbolic link"):
            make_run(place)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("text", ["my notes", "my notes\n", "{}\n", "[]", '{"a": 1}\n'])
def test_a_line_that_is_no_sample_is_not_cut_off(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run", done=0, status="interrupted")
    samples = run.directory / "samples.jsonl"
    samples.write_text(text)
    with pytest.raises(InputError, match="line 1 is damaged"):
        make_run(run.directory)
    assert samples.read_text() == text


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", done=1, status="interrupted")
    left = [".run.json.0a1b2c3d", "circuits/.circuit.json.0a1b2c3d"]
    kept = [".notes.json", ".run.json.txt"]
    for name in (*left, *kept):
        (run.directory / name).write_text("{")
    make_run(run.directory)
    assert [(run.directory / name).exists() for name in (*left, *kept)] == [
        *(False, False),
        *(True, True),
    ]


def test_one_damaged_run_hides_no_other(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNA_MLX_RUNS", str(tmp_path / "runs"))
    make_run(tmp_path / "runs" / "whole")
    for number, line in enumerate((b"1\n", b"null\n", b'{"label": []}\n', b"[" * 9999)):
        run = make_run(tmp_path / "runs" / f"damaged-{number}")
        (run.directory / "samples.jsonl").write_bytes(line)
    (tmp_path / "runs" / "strange").mkdir()
    (tmp_path / "runs" / "strange" / "run.json").write_bytes(b"[" * 100_000)
    found = command("runs", "--json")
    assert found.code == 0
    done = {one["name"]: one["prompts"]["done"] for one in found.data["runs"]}
    damaged = ("strange", *(f"damaged-{n}" for n in range(4)))
    assert done == {"whole": 12, **dict.fromkeys(damaged)}
    problems = {one["name"]: one["problem"] for one in found.data["runs"]}
    assert [name for name, problem in problems.items() if not problem] == ["whole"]


# ------------------------------------------------------------------ the process


def test_commands_without_a_model_need_no_open_files(
    tmp_path: Path, circuit_file: Path
) -> None:
    run = str(make_run(tmp_path / "run").directory)
    lines = [
        ["circuit", "show", str(circuit_file)],
        ["prompts"],
        ["runs"],
        ["models"],
        ["report", run],
    ]
    for line in lines:
        script = (
            "import resource, sys\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
            "from cna_mlx.cli import main\n"
            "sys.argv = ['cna-mlx', *sys.argv[1:]]\n"
            "main()\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", script, *line], capture_output=True, text=True
        )
        assert found.returncode == 0, (line, found.stderr)


def test_closed_streams_are_no_failure(circuit_file: Path) -> None:
    command = f'"{sys.executable}" -m cna_mlx circuit show "{circuit_file}"'
    for closed in (">&-", "<&-", "2>&-", "<&- >&- 2>&-"):
        found = subprocess.run(
            ["sh", "-c", f"{command} {closed}"], capture_output=True, text=True
        )
        assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_a_destructor_is_not_lost(number: int) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from cna_mlx.util.interrupt import Terminated, obey_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup ignores it
        "obey_signals()\n"
        "class Slow:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), {int(number)})\n"
        "        time.sleep(0.1)\n"
        "try:\n"
        "    Slow()\n"
        "    time.sleep(20)\n"
        "except (Terminated, KeyboardInterrupt) as error:\n"
        "    print(type(error).__name__)\n"
    )
    started = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    wanted = "KeyboardInterrupt" if number == signal.SIGINT else "Terminated"
    assert (found.stdout, found.stderr) == (f"{wanted}\n", "")
    assert time.perf_counter() - started < 15


def test_the_home_directory_is_in_no_run(
    monkeypatch: pytest.MonkeyPatch, copied: Callable[..., Path], tmp_path: Path
) -> None:
    place = copied()
    monkeypatch.setenv("HOME", str(tmp_path))
    model, _ = loading.load(str(place))
    source = loading.source_of(model)
    assert source is not None
    assert source.name == "~/model"
    assert loading.load("~/model")


@pytest.mark.slow
def test_an_evaluation_survives_its_kills(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "kills.py"
    command = [sys.executable, str(script), "--kills", "10", "--seed", "3"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])["kills"] == 10


# ------------------------------------------------------------------ the chat


@pytest.fixture
def chat(tiny: tuple[Any, Any]) -> Conversation:
    return Conversation(Session.of(*tiny), max_tokens=2)


LINES = "\n".join(
    [
        *(f"/{name} a\0b" for name in ("save", "load", "circuit", "export")),
        "/sweep " + " ".join(map(str, range(500))),
        "/multiplier 1e999",
        "one red stone",
    ]
)


def test_nothing_typed_ends_a_chat(chat: Conversation) -> None:
    screen = make_screen(terminal=False)
    run_chat(screen, chat, io.StringIO(LINES + "\n"))
    assert len(chat.turns) == 1
    assert "unexpected" not in sent(screen.err)


def test_what_should_not_happen_ends_no_chat(
    chat: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr("cna_mlx.ui.chat.run_command", broken)
    screen = make_screen(terminal=False)
    run_chat(screen, chat, io.StringIO("/show\none red stone\n"))
    assert len(chat.turns) == 1
    assert "unexpected ZeroDivisionError: odd; please report it" in sent(screen.err)


def crashed(journal: ChatJournal) -> None:
    """The system closes what a process had open."""
    assert journal._lock is not None
    journal._lock.close()


def test_a_conversation_outlives_a_crash(
    chat: Conversation, tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    journal = ChatJournal(tmp_path)
    journal.write(chat)
    assert not list(tmp_path.iterdir())  # nothing was said
    list(chat.turn("one red stone"))
    journal.write(chat)
    (own,) = tmp_path.glob("*.json")
    assert own.stat().st_mode & 0o777 == 0o600
    crashed(journal)  # and its process's number belongs to a running process
    other = Conversation(Session.of(*tiny), max_tokens=2)
    screen = make_screen(terminal=False)
    run_chat(screen, other, io.StringIO("hello\n"), journals=tmp_path)
    assert re.search(
        r"a chat was killed or crashed \(\S+, 1 turn, last written \d{4}-.*\): "
        rf"/load {tmp_path / 'last.json'} continues it\n",
        sent(screen.err),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["last.json"]
    run_command(other, f"/load {tmp_path / 'last.json'}")
    assert [turn.result.prompt for turn in other.turns] == ["one red stone"]


def test_only_what_a_crash_left_is_offered(chat: Conversation, tmp_path: Path) -> None:
    """Not the conversation of a running chat, and one after the other, newest first."""
    list(chat.turn("one red stone"))
    running, *ended = journals = [ChatJournal(tmp_path) for _ in range(3)]
    for journal in journals:
        journal.write(chat)
    assert ChatJournal(tmp_path).recover() is None
    ours = running._path
    assert ours is not None
    for age, journal in enumerate(ended):
        assert journal._path is not None
        os.utime(journal._path, (1e9 - age, 1e9 - age))
        crashed(journal)
    found = [ChatJournal(tmp_path).recover() for _ in range(3)]
    assert [one and one.others for one in found] == [1, 0, None]
    assert {path.name for path in tmp_path.glob("*.json")} == {ours.name, "last.json"}
    running.close()
    assert [path.name for path in tmp_path.iterdir()] == ["last.json"]


def test_without_locks_the_number_of_the_process_tells(
    chat: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    list(chat.turn("one red stone"))
    journal = ChatJournal(tmp_path)
    journal.write(chat)
    assert ChatJournal(tmp_path).recover() is None
    crashed(journal)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (own,) = tmp_path.glob("*.json")
    own.rename(tmp_path / f"{ended.pid}.json")
    assert ChatJournal(tmp_path).recover() is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", float("inf")),
        ("seed", -1),
        ("temperature", float("nan")),
        ("max_tokens", 0),
        ("max_tokens", 10**400),
        ("turns", [{"prompt": "x", "gauge": None, "arms": [], "dropped_turns": 0}]),
        ("rendering", {"template": "auto", "system": 5, "thinking": 0, "date": "x"}),
    ],
)
def test_a_strange_conversation_is_refused(
    chat: Conversation, tmp_path: Path, name: str, value: Any
) -> None:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps({**json.loads(as_json(chat)), name: value}))
    with pytest.raises(InputError, match=r"chat\.json") as caught:
        load_into(chat, path)
    assert len(str(caught.value)) < len(str(path)) + 200
