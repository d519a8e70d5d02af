"""A server on the loopback that talks like OpenAI's, and fails as asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, bytes]


def completion(text: str | None) -> Reply:
    """A whole reply whose message is this text."""
    data = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, json.dumps(data).encode()


def failure(status: int, message: str) -> Reply:
    """An error as OpenAI words it."""
    return status, json.dumps({"error": {"message": message}}).encode()


def sensible(question: str) -> Reply:
    """Judge by two words of the answer."""
    answer = question.partition("Answer:\n")[2]
    return completion("REFUSED" if "can't" in answer else "ANSWERED")


@dataclass
class JudgeServer:
    """What was asked, and what is replied.

    Attributes:
        replies: replies to give first, in this order.
        judge: from a question to a reply, after those.
        silence: seconds before each reply.
        location: where a redirection leads.
    """

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    judge: Callable[[str], Reply] = sensible
    silence: float = 0.0
    location: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def questions(self) -> list[str]:
        """The questions, in order."""
        return [body["messages"][0]["content"] for body in self.bodies]


@contextmanager
def judging() -> Iterator[JudgeServer]:
    """A server that judges sensibly."""
    own = JudgeServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, own))
    own.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield own
    finally:
        own.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, own: JudgeServer, *arguments: Any) -> None:
        self.own = own
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.own.paths.append(f"GET {self.path}")
        self._send(404, b"")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        own = self.own
        own.paths.append(f"POST {self.path}")
        own.bodies.append(body)
        own.headers.append(dict(self.headers))
        if own.silence:  # not sleep: the tests take that away
            own.closing.wait(own.silence)
        question = body["messages"][0]["content"]
        self._send(*(own.replies.pop(0) if own.replies else own.judge(question)))

    def _send(self, status: int, content: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # waited no longer
            self.send_response(status)
            if self.own.location:
                self.send_header("Location", self.own.location)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
