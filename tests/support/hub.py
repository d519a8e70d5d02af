"""As much of the Hub as its client asks for, on the loopback."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paths import PARITY as STORED

PARITY = STORED / "qwen2_bias"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "89abcdef0123456789abcdef0123456789abcdef"

_CUT = ("safetensors", ".csv")
TEMPLATE = "/{repo_id}/resolve/{revision}/{filename}"

Answer = tuple[int, dict[str, str]]
Point = Callable[[str], None]


@dataclass
class Repository:
    """What the Hub holds under a name, and how it behaves.

    Attributes:
        commits: files by commit.
        branches: commits by branch.
        refusal: status and headers of every answer about it, instead of one.
        file_refusal: likewise, of its files alone.
        moved: the name it has now; its own address leads there.
        cut: the connection breaks in the middle of the weights, or of a table.
        sizes: sizes to claim, by file.
        delay: seconds before each answer.
        bare: it does not say what it lacks, as a mirror may not.
    """

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    refusal: Answer | None = None
    file_refusal: Answer | None = None
    moved: str | None = None
    cut: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    delay: float = 0.0
    bare: bool = False


@dataclass
class LocalHub:
    """The server's repositories, its address, and what it was asked for."""

    url: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def add(self, name: str, **changes: Any) -> Repository:
        """A repository with the files of a tiny model, under org/NAME."""
        one = Repository({COMMIT: model_files()}, **changes)
        self.repositories[name] = one
        return one

    def add_dataset(self, name: str, **changes: Any) -> Repository:
        """A dataset without files, under any organisation: ORG/NAME is NAME's."""
        one = Repository({COMMIT: {}}, **changes)
        self.repositories[name] = one
        return one

    def asked(self) -> list[str]:
        """The requests since the last call, sorted: files come in any order."""
        found, self.requests[:] = sorted(self.requests), []
        return found


def model_files(directory: Path = PARITY) -> dict[str, bytes]:
    """The files of a tiny model."""
    kinds = ("config.json", "model.safetensors", "tokenizer*")
    files = (file for kind in kinds for file in directory.glob(kind))
    return {file.name: file.read_bytes() for file in files}


@contextmanager
def serving() -> Iterator[LocalHub]:
    """A Hub without repositories."""
    hub = LocalHub("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: LocalHub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        is_api = parts[0] == "api"
        start = 2 if is_api else int(parts[0] == "datasets")
        # the client also asks for things that are no repository's
        name, rest = "/".join(parts[start + 1 : start + 2]), parts[start + 2 :]
        one = self.hub.repositories.get(name)
        if one and one.delay:  # not sleep: the tests take that away
            self.hub.closing.wait(one.delay)
        if one is None:
            self._refuse((404, {"X-Error-Code": "RepoNotFound"}))
        elif one.moved:
            there = self.path.replace(f"/{name}", f"/{one.moved}", 1)
            self._answer(307, b"", {"Location": there})
        elif one.refusal:
            self._refuse(one.refusal)
        elif is_api:
            self._api(name, one, rest)
        else:
            self._file(one, rest[1], "/".join(rest[2:]))

    def _api(self, name: str, one: Repository, rest: list[str]) -> None:
        revision = rest[1] if rest else "main"
        commit = one.branches.get(revision, revision)
        if commit not in one.commits:
            self._refuse((404, {"X-Error-Code": "RevisionNotFound"}))
            return
        entries = [_entry(one, *item) for item in one.commits[commit].items()]
        if rest[:1] == ["tree"]:
            self._json([entry["tree"] for entry in entries])
            return
        siblings = [entry["sibling"] for entry in entries]
        self._json({"id": f"org/{name}", "sha": commit, "siblings": siblings})

    def _file(self, one: Repository, revision: str, name: str) -> None:
        commit = one.branches.get(revision, revision)
        if one.file_refusal:
            self._refuse(one.file_refusal)
            return
        if commit not in one.commits:
            code = {} if one.bare else {"X-Error-Code": "RevisionNotFound"}
            self._refuse((404, code))
            return
        content = one.commits[commit].get(name)
        if content is None:
            self._refuse((404, {"X-Error-Code": "EntryNotFound"}))
            return
        headers = {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": commit}
        if one.cut and self.command == "GET" and name.endswith(_CUT):
            self.close_connection = True
            self._answer(200, content[: len(content) // 2], headers, len(content))
        else:
            self._answer(200, content, headers)

    def _refuse(self, answer: Answer) -> None:
        self._answer(answer[0], b'{"error": "no"}', answer[1])

    def _json(self, data: Any) -> None:
        content = json.dumps(data).encode()
        # the client prints the first of each topic
        warning = {"X-HF-Warning": f"{len(self.hub.requests)}; please log in"}
        kind = {"Content-Type": "application/json"}
        self._answer(200, content, kind | warning)

    def _answer(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str],
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        if self.command == "GET":
            with suppress(BrokenPipeError, ConnectionResetError):  # waited no longer
                self.wfile.write(content)


def _entry(one: Repository, name: str, content: bytes) -> dict[str, Any]:
    """A file as the two listings have it: large ones by their SHA-256."""
    size, digest = one.sizes.get(name, len(content)), _hash(content)
    sibling = {"rfilename": name, "size": size, "blobId": digest}
    tree = {"type": "file", "path": name, "size": size, "oid": digest}
    if name.endswith("safetensors"):
        large = {"size": size, "pointerSize": 134}
        sibling |= {"blobId": "0" * 40, "lfs": {**large, "sha256": digest}}
        tree |= {"oid": "0" * 40, "lfs": {**large, "oid": digest}}
    return {"sibling": sibling, "tree": tree}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
