"""Start the ranks of a group on this machine, over loopback."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from commandline import Outcome

_SECONDS = 240  # for ranks that wait for each other


def start(
    arguments: Sequence[str],
    count: int = 2,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    **environment: str,
) -> list[subprocess.Popen[str]]:
    """Start a Python program once for each rank; rank 0 has the standard input."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump([[f"127.0.0.1:{port}"] for port in _free_ports(count)], file)
    own = {**os.environ, **environment, "MLX_HOSTFILE": file.name}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**own, "MLX_RANK": str(rank)},
            stdin=subprocess.DEVNULL if rank else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[Outcome]:
    """Wait for all ranks; what each left behind."""
    found = []
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        for process in processes:
            out, err = process.communicate(timeout=_SECONDS)
            found.append(Outcome(process.returncode, out, err))
    return found


def run(*arguments: str, text: str | None = None, **environment: str) -> list[Outcome]:
    """Run a command line of ours on two ranks."""
    with ExitStack() as stack:
        stdin: int | IO[bytes] = subprocess.DEVNULL
        if text is not None:
            stdin = stack.enter_context(tempfile.TemporaryFile())
            stdin.write(text.encode())
            stdin.seek(0)
        return ended(start(["-m", "cna_mlx", *arguments], 2, stdin, **environment))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def script(name: str) -> str:
    """The path of a program in this directory."""
    return str(Path(__file__).with_name(name))
