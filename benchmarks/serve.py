"""Load a server with many clients at once, and check every answer.

A decoding step reads all weights once, whatever the number of rows: while memory is the
bound, 64 answers take little more time than one. So the throughput of clients that ask
at once, over that of one after another, says whether requests share their steps; the
same plain requests sent to mlx-lm's server say what steering rows costs.

Three parts, each in its own server process:

- soak: clients that stream for some minutes, each with another multiplier; every answer
  is compared with the one that ``generate_arms`` gives by itself; the memory and the
  waiting times are watched;
- speed: the same requests one after another and at once;
- peer: the same requests, all unsteered, at once, to ``mlx_lm.server``.

The last line is one JSON object.
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.models.loading import load, source_of
from cna_mlx.prompts.chat_template import render_prompt
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import generate_arms
from cna_mlx.steering.interventions import Edits

MULTIPLIERS = (None, 0.0, 0.5, 1.5, 2.0)
TOKENS = (20, 60, 120)
QUESTIONS = [
    *(f"How do I cast a {word} spell?" for word in ["sleep", "fire", "rain", "light"]),
    *(
        f"Tell me about {word}."
        for word in ["cats", "the", "sea", "bread", "stones", "music"]
    ),
    "What is the capital of France?",
    "Can a wand be made of oak, and how is it done?",
]
TIE = 1e-3  # of logits: closer ones may change places in another batch


@dataclass
class Reply:
    """A finished answer, and its times in seconds."""

    question: str
    multiplier: float | None
    tokens: int
    text: str
    made: int
    waited: float
    took: float


@contextmanager
def serving(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, once it listens."""
    process = subprocess.Popen([*command, "--port", str(port)], stdout=sys.stderr)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"the server ended with {process.returncode}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


async def ask(
    port: int, model: str, question: str, multiplier: float | None, tokens: int
) -> Reply:
    """Stream one answer."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if multiplier is not None:
        body["multiplier"] = multiplier
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    )
    began, first, text, made = time.monotonic(), None, "", 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + data)
    try:
        status = await reader.readline()
        assert b" 200 " in status, status + await reader.read()
        while line := await reader.readline():
            if not line.startswith(b"data: {"):
                continue
            part = json.loads(line[6:])
            assert "error" not in part, part
            for choice in part["choices"]:
                if content := choice["delta"].get("content"):
                    first = first or time.monotonic()
                    text += content
            if part.get("usage"):
                made = part["usage"]["completion_tokens"]
    finally:
        writer.close()
    now = time.monotonic()
    waited = (first or now) - began
    return Reply(question, multiplier, tokens, text, made, waited, now - began)


# ------------------------------------------------------------------------------- soak


@dataclass
class Soak:
    """What clients saw."""

    replies: list[Reply] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    lost: int = 0


async def soak(port: int, model: str, clients: int, seconds: float, pid: int) -> Soak:
    """Clients that ask again and again."""
    found, began = Soak(), time.monotonic()

    async def client(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() - began < seconds:
            wanted = draw.choice(QUESTIONS), draw.choice(MULTIPLIERS)
            try:
                reply = await ask(port, model, *wanted, draw.choice(TOKENS))
                found.replies.append(reply)
            except (AssertionError, OSError) as error:
                print("lost:", error, file=sys.stderr)
                found.lost += 1

    async def watch() -> None:
        while time.monotonic() - began < seconds:
            found.memory.append((time.monotonic() - began, resident(pid)))
            await asyncio.sleep(min(10.0, seconds / 20))

    await asyncio.gather(watch(), *(client(number) for number in range(clients)))
    return found


def resident(pid: int) -> int:
    """The memory of a process in bytes."""
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True)
    return 1024 * int(said.stdout)


class Right:
    """The answers that a model gives by itself."""

    def __init__(self, session: Session) -> None:
        self.model, self.tokenizer = session.load()
        options = DiscoveryOptions(expect=False)
        self.circuit = session.default_circuit(options)
        self._known: dict[tuple[str, float | None], tuple[str, list[int]]] = {}

    def arm(self, multiplier: float | None) -> Arm:
        """The arm of a request."""
        return BASELINE if multiplier is None else Arm.of(self.circuit, multiplier)

    def ids(self, question: str, multiplier: float | None, tokens: int) -> list[int]:
        """The token ids of an answer."""
        prompt, arm = render_prompt(self.tokenizer, question), self.arm(multiplier)
        events = generate_arms(
            self.model, self.tokenizer, [prompt], [arm], max_tokens=tokens
        )
        (answer,) = (event for event in events if isinstance(event, Answer))
        return list(answer.token_ids)

    def text(self, question: str, multiplier: float | None, tokens: int) -> str:
        """The text of an answer."""
        key = question, multiplier
        if key not in self._known:
            self._known[key] = "", self.ids(question, multiplier, max(TOKENS))
        ids = self._known[key][1][:tokens]
        detokenizer = self.tokenizer.detokenizer
        for token in ids:
            detokenizer.add_token(token)
        detokenizer.finalize()
        return str(detokenizer.text)

    def is_tie(self, reply: Reply) -> bool:
        """Whether the answer differs where two tokens are about equally likely."""
        prompt = render_prompt(self.tokenizer, reply.question)
        right = self._known[reply.question, reply.multiplier][1]
        for place in range(len(right)):
            text = self.tokenizer.decode(right[: place + 1])
            if not reply.text.startswith(text[: len(reply.text)]):
                ids = mx.array([[*prompt, *right[:place]]])
                steering = self.arm(reply.multiplier).steering
                with Edits(self.model, steering).installed():
                    logits = self.model(ids)[0, -1].astype(mx.float32)
                best = mx.sort(logits)[-2:]
                return (best[1] - best[0]).item() < TIE
        return False


# ------------------------------------------------------------------------------ speed


async def timed(
    port: int, model: str, wanted: Sequence[tuple[str, float | None, int]], at_once: int
) -> tuple[float, int]:
    """Seconds and tokens of these requests, so many at a time."""
    left, made = list(wanted), 0

    async def client() -> None:
        nonlocal made
        while left:
            reply = await ask(port, model, *left.pop(0))
            made += reply.made

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return time.monotonic() - began, made


@contextmanager
def model_directory(model: str) -> Iterator[Path]:
    """The model for mlx-lm: a directory as it is, the demo as we compute it."""
    if Path(model).is_dir():
        yield Path(model)
        return
    loaded, _ = load(model)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = source_of(loaded)
        assert source is not None
        for file in source.path.iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, directory)
        weights = dict(tree_flatten(loaded.parameters()))
        mx.save_safetensors(str(directory / "model.safetensors"), weights)
        yield directory


def requests(count: int, tokens: int, steered: bool) -> list[tuple[Any, Any, int]]:
    """Requests of different multipliers, or none."""
    draw = random.Random(7)
    choices = MULTIPLIERS if steered else (None,)
    return [
        (f"{draw.choice(QUESTIONS)} ({number})", draw.choice(choices), tokens)
        for number in range(count)
    ]


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--parts", default="soak,speed,peer")
    options = parser.parse_args()
    parts, found = options.parts.split(","), {}
    own = [sys.executable, "-m", "cna_mlx", "serve", options.model, "--no-expect"]
    own += ["--rows", str(options.clients)]
    name = Path(options.model).name
    if "soak" in parts:
        port = free_port()
        with serving(own, port) as process:
            seen = asyncio.run(
                soak(port, name, options.clients, options.seconds, process.pid)
            )
        found["soak"] = judged(seen, Right(Session(options.model)))
        print(json.dumps(found["soak"]), file=sys.stderr)
    if "speed" in parts:
        ratios = []
        port = free_port()
        with serving(own, port):
            wanted = requests(options.requests, options.tokens, steered=True)
            asyncio.run(timed(port, name, wanted[:8], 8))
            few = wanted[: max(8, len(wanted) // 8)]
            for _ in range(options.pairs):
                alone, made = asyncio.run(timed(port, name, few, 1))
                at_once, more = asyncio.run(timed(port, name, wanted, options.clients))
                ratios.append((more / at_once) / (made / alone))
                print(made / alone, more / at_once, "tokens/s", file=sys.stderr)
        found["at once over one after another"] = spread(ratios)
    if "peer" in parts:
        ratios = []
        wanted = requests(options.requests, options.tokens, steered=False)
        with model_directory(options.model) as directory:
            peer = [sys.executable, "-m", "mlx_lm.server", "--model", str(directory)]
            peer += ["--decode-concurrency", str(options.clients)]
            peer += ["--log-level", "ERROR"]
            ports = free_port(), free_port()
            with serving(own, ports[0]), serving(peer, ports[1]):
                for place, port in enumerate(ports):
                    asked = name if place == 0 else str(directory)
                    asyncio.run(timed(port, asked, wanted[:8], 8))
                for _ in range(options.pairs):
                    rates = []
                    for place, port in enumerate(ports):
                        asked = name if place == 0 else str(directory)
                        took, made = asyncio.run(
                            timed(port, asked, wanted, options.clients)
                        )
                        rates.append(made / took)
                    print(*rates, "tokens/s: ours, mlx-lm's", file=sys.stderr)
                    ratios.append(rates[0] / rates[1])
        found["over mlx_lm.server"] = spread(ratios)
    print(json.dumps(found))


def judged(seen: Soak, right: Right) -> dict[str, Any]:
    """The figures of a soak."""
    wrong = [
        one
        for one in seen.replies
        if one.text != right.text(one.question, one.multiplier, one.tokens)
    ]
    ties = sum(map(right.is_tie, wrong))
    for one in wrong[:5]:
        print("differs:", one, file=sys.stderr)
    waits = sorted(one.waited for one in seen.replies)
    quarter = len(seen.memory) // 4
    memory = [size for _, size in seen.memory]
    return {
        "answers": len(seen.replies),
        "lost": seen.lost,
        "differ": len(wrong),
        "near ties": ties,
        "wait": {
            "median": statistics.median(waits),
            "p99": waits[int(0.99 * (len(waits) - 1))],
            "longest": waits[-1],
        },
        "memory in MB": {
            "first quarter": statistics.median(memory[:quarter] or memory) / 1e6,
            "last quarter": statistics.median(memory[-quarter:] or memory) / 1e6,
            "largest": max(memory) / 1e6,
        },
    }


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """The median and the range."""
    return {
        "median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "most": round(max(ratios), 2),
    }


if __name__ == "__main__":
    main()
