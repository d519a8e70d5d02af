"""The command: what it says, whom it lets ask, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from commandline import Outcome

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.serve.api_error import ApiError
from cna_mlx.serve.opening import Address, open_service, served_arms
from cna_mlx.strength import MEAN
from cna_mlx.util.progress import Reporter

CHAT = "/v1/chat/completions"


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cna_mlx", "serve", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+(?=/v1)", process.stdout.readline())
        assert found, process.stderr and process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what was said on stderr."""
    assert process.stderr is not None
    code = process.wait(30)
    return code, process.stderr.read()


@pytest.fixture(scope="module")
def circuits(
    magic: Circuit, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A circuit of the demo, and half of it."""
    place = tmp_path_factory.mktemp("circuits")
    files = place / "magic.json", place / "half.json"
    magic.save(files[0])
    magic.part(range(0, len(magic.neurons), 2)).save(files[1])
    return files


def test_it_serves_logs_and_ends_with_ctrl_c(
    circuits: tuple[Path, Path], tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    options = ("--circuit", f"{circuits[0]}@0.25", "--log", str(log))
    with started("demo", *options) as (process, url):
        with httpx.Client(base_url=url, timeout=60) as web:
            names = [one["id"] for one in web.get("/v1/models").json()["data"]]
            assert names == ["demo", "demo@0.25", "demo@0", "demo@0.5"]
            messages = [{"role": "user", "content": "How do I cast a sleep spell?"}]
            body = {"model": "demo@0.25", "messages": messages}
            text = web.post(CHAT, json=body).json()["choices"][0]["message"]["content"]
        process.send_signal(signal.SIGINT)
        code, said = ended(process)
    assert code == 0
    assert "1 answer with" in said
    (line,) = log.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["answers"][0]["text"] == text


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_finishes_what_runs_and_a_second_one_ends_it(
    presses: int, circuits: tuple[Path, Path]
) -> None:
    with started("demo", "--circuit", str(circuits[0])) as (process, url):
        body = {
            "model": "demo@-3",
            "prompt": ["The"] * 16,
            "max_tokens": 400,
            "temperature": 3,
            "stream": True,
        }
        with (
            httpx.Client(base_url=url, timeout=60) as web,
            web.stream("POST", "/v1/completions", json=body) as reply,
        ):
            lines = (line for line in reply.iter_lines() if line)
            first = [next(lines) for _ in range(40)]
            process.send_signal(signal.SIGINT)
            if presses == 2:
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
            rest = list(lines)
        code, said = ended(process)
    assert len(first) == 40
    assert re.search(r"finishing \d+ answers?; Ctrl-C again ends them", said)
    assert "Traceback" not in said
    if presses == 1:
        assert (code, rest[-1]) == (0, "data: [DONE]")
    else:
        assert code == 130
        assert "the server was stopped" in rest[-1]


def test_sigterm_ends_it_at_once(circuits: tuple[Path, Path]) -> None:
    with started("demo", "--circuit", str(circuits[0])) as (process, url):
        assert httpx.get(f"{url}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        code, said = ended(process)
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in said


def test_another_address_needs_a_key(command: Callable[..., Outcome]) -> None:
    found = command("serve", "demo", "--host", "0.0.0.0")
    assert found.code == 2
    assert "give --api-key" in found.err
    assert found.err.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(command: Callable[..., Outcome]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = command("serve", "demo", "--port", port)
    assert found.code == 2
    assert f"cannot listen at 127.0.0.1 port {port}" in found.err
    assert "--port 0" in found.err
    assert found.err.count("\n") == 1


def test_a_log_that_is_a_pipe_is_refused(
    command: Callable[..., Outcome], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = command("serve", "demo", "--port", "0", "--log", str(pipe))
    assert found.code == 2
    assert "is a pipe" in found.err
    assert found.err.count("\n") == 1


def test_a_host_that_does_not_exist_is_one_line(
    command: Callable[..., Outcome],
) -> None:
    found = command("serve", "demo", "--host", "no.such.host.invalid", "--api-key", "k")
    assert found.code == 2
    assert "cannot listen at no.such.host.invalid" in found.err
    assert found.err.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(
    command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cna_mlx.serve.extra.find_spec", lambda name: None)
    found = command("serve", "demo")
    assert found.code == 2
    assert "pip install 'cna-mlx[serve]'" in found.err
    assert found.err.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("mac.local", False),
    ],
)
def test_only_this_machines_own_addresses_need_no_key(
    host: str, is_local: bool
) -> None:
    if is_local:
        assert host in (Address(host, 1).names or ())
    else:
        with pytest.raises(InputError, match="--api-key"):
            Address(host, 1)
        assert Address(host, 1, "key").names is None


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        Address("0.0.0.0", 1, " ")


@pytest.mark.parametrize("key", ["schl\u00fcssel", "a\nb", "key ", "\udcff"])
def test_a_key_that_no_client_can_send_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="--api-key: use ASCII"):
        Address("0.0.0.0", 1, key)


def test_circuits_are_named_after_their_files(
    demo: tuple[Any, Any], circuits: tuple[Path, Path]
) -> None:
    session, options = Session.of(*demo), DiscoveryOptions(expect=False)
    whole, half = map(str, circuits)
    arms = served_arms(session, options, [f"{whole}@2", half], [0.0, MEAN])
    assert arms.listed() == [
        "demo",
        "demo@2",
        "demo@0",
        "demo@0.5",
        "demo@half@0",
        "demo@half@mean",
        "demo@half@0.5",
    ]
    arm = arms.arm("demo", circuits={"half": 0.5, "magic": 0.0})
    assert arms.strengths_of(arm) == {"magic": "0", "half": "0.5"}
    assert [strength for _, strength in arm.steering] == [0.0, 0.5]


def test_a_name_that_is_not_text_can_be_sent(
    demo: tuple[Any, Any], circuits: tuple[Path, Path], tmp_path: Path
) -> None:
    """A file's name may be any bytes; JSON holds text."""
    odd = tmp_path / "x@\udcff.json"
    try:
        odd.write_bytes(circuits[0].read_bytes())
    except OSError:
        pytest.skip("the file system takes text alone")
    arms = served_arms(Session.of(*demo), DiscoveryOptions(expect=False), [str(odd)])
    assert list(arms.circuits) == ["x-?"]


def test_a_warning_is_one_line(demo: tuple[Any, Any]) -> None:
    said: list[str] = []
    reporter = Reporter(warn=said.append)
    service = open_service(
        Session.of(*demo, reporter=reporter),
        DiscoveryOptions(expect=False),
        Address("::1", 1),
    )
    said.clear()
    service.warn("KeyError: 'a'\n  and more")
    reply = ApiError.of(ValueError("a\nb"), service)
    assert said == ["KeyError: 'a' and more", "unexpected ValueError: a b"]
    assert str(reply) == "unexpected ValueError: a b; please report it"
    service.texts.close()


def test_the_default_circuit_has_the_name_of_its_contrast(
    demo: tuple[Any, Any],
) -> None:
    service = open_service(
        Session.of(*demo), DiscoveryOptions(expect=False), Address("::1", 1), rows=3
    )
    assert list(service.arms.circuits) == ["magic"]
    assert service.engine.most_rows == 3
    assert service.engine.most_tokens > 4096
    service.texts.close()
