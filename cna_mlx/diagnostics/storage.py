"""Where things are kept and fetched from: disk, caches, the Hub and its token."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.diagnostics.results import Check, Fact, Item
from cna_mlx.discovery.cache import Store
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.util.environment import attempt
from cna_mlx.util.files import existing

_HUB_SECONDS = 3.0
_SCAN_SECONDS = 1.0
# An 8B model in 4 bits takes 4.5 GB, and is put together beside what is there.
_ROOM = 10_000_000_000


# ----------------------------------------------------------------------- disk


def disk_items(store: Store, hub_cache: Path) -> Iterator[Item]:
    """What this tool and the Hub's client keep, and how much room is left.

    Args:
        store: this tool's.
        hub_cache: where huggingface_hub keeps models.
    """
    yield Fact("cache", str(store.directory))
    files = attempt(store.files) or []
    circuits = [path for path in files if path.parent.name == "circuits"]
    sizes = attempt(lambda: sum(path.stat().st_size for path in files))
    remark = "cna-mlx doctor --clear-cache removes them" if files else ""
    yield Fact("circuits", len(circuits), remark=remark)
    yield Fact("size of cache", sizes, "bytes")
    yield check_writable(store.directory)
    yield Fact("models", str(hub_cache))
    yield Fact("size of models", attempt(lambda: hub_bytes(hub_cache)), "bytes")
    free = attempt(lambda: free_bytes(hub_cache))
    yield Fact("free for models", free, "bytes")
    if free is not None:
        yield check_room(free)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that a path is on, or would be."""
    return shutil.disk_usage(existing(path)).free


def check_writable(directory: Path) -> Check:
    """Whether circuits can be kept; a store that cannot be written says nothing."""
    nearest = existing(directory)
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return Check("cache", "ok", "circuits are kept")
    return Check(
        "cache",
        "warning",
        f"{nearest} cannot be written: circuits are not kept, but discovered each time",
        "make it writable, or set CNA_MLX_CACHE to another directory",
    )


def check_room(free: int) -> Check:
    """Whether a model can be fetched."""
    if free >= _ROOM:
        return Check("disk", "ok", f"{gigabytes(free)} free for models")
    return Check(
        "disk",
        "warning",
        f"{gigabytes(free)} free; an 8B model in 4 bits needs 4.5 GB",
        "free some, or set HF_HOME to a directory on another disk",
    )


def hub_bytes(hub_cache: Path, seconds: float = _SCAN_SECONDS) -> int | None:
    """The bytes of the models in the Hub's cache; None if counting takes long."""
    deadline = time.monotonic() + seconds
    total = 0
    for model in hub_cache.glob("models--*"):
        for blob in (model / "blobs").glob("*"):
            total += blob.stat().st_size
            if time.monotonic() > deadline:
                return None
    return total


# ------------------------------------------------------------------------ Hub


@dataclass(frozen=True)
class Reply:
    """How a server answered: the HTTP status, and whether it sent JSON."""

    status: int
    is_json: bool


Ask = Callable[[str, str | None], Reply]


def hub_items(
    endpoint: str, token: str | None, is_offline: bool, ask: Ask | None = None
) -> Iterator[Item]:
    """Whether the Hub can be reached, and takes the token; shows neither's secrets.

    Args:
        endpoint: the Hub's address.
        token: the user's, or None.
        is_offline: nothing is asked.
        ask: (address, token) to how it answered; over the network if None.
    """
    yield Fact("endpoint", without_login(endpoint))
    yield Fact("token", "there is one" if token else "none")
    if is_offline:
        yield Check(
            "Hub",
            "warning",
            "offline (--offline or HF_HUB_OFFLINE): not asked",
            "go online to fetch models; those in the cache work without",
        )
        return
    reply = _reply(f"{endpoint.rstrip('/')}/api/whoami-v2", token, ask or ask_hub)
    if isinstance(reply, str):
        yield Check(
            "Hub",
            "warning",
            f"cannot be reached ({reply})",
            "check the network, a proxy (HTTPS_PROXY) or HF_ENDPOINT; models in the "
            "cache and in directories work without",
        )
        return
    yield check_hub(reply)
    if token:
        yield check_token(reply)


def without_login(address: str) -> str:
    """An address without a user and password that stand in it."""
    return re.sub(r"//[^/@]*@", "//", address)


def _reply(address: str, token: str | None, ask: Ask) -> Reply | str:
    """The answer, or why there is none; never waits much longer than the timeout."""
    found: list[Reply | str] = ["no answer in time"]

    def work() -> None:
        try:
            found.append(ask(address, token))
        except Exception as error:  # noqa: BLE001  # whatever the client's kind is
            found.append(type(error).__name__)

    # a name server that does not answer heeds no timeout; a daemon holds nothing up
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * _HUB_SECONDS)
    return found[-1]


def ask_hub(address: str, token: str | None) -> Reply:
    """Ask over the network, as huggingface_hub's own client does."""
    from huggingface_hub import get_session

    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer: Any = get_session().get(address, headers=headers, timeout=_HUB_SECONDS)
    return Reply(answer.status_code, "json" in answer.headers.get("content-type", ""))


def check_hub(reply: Reply) -> Check:
    """Whether what answered is a Hub at work."""
    if reply.status < 500 and (reply.is_json or reply.status in (401, 403, 429)):
        return Check("Hub", "ok", "it answers")
    return Check(
        "Hub",
        "warning",
        f"something answers with HTTP {reply.status}, but not as the Hub does",
        "try again later; look for a proxy or a network that wants a login first",
    )


def check_token(reply: Reply) -> Check:
    """Whether the Hub took the token."""
    if reply.status == 200 and reply.is_json:
        return Check("token", "ok", "the Hub accepts it")
    if reply.status in (401, 403):
        return Check(
            "token",
            "warning",
            f"the Hub rejects it (HTTP {reply.status}): nothing can be fetched with it",
            "hf auth login, or mend or unset HF_TOKEN",
        )
    return Check(
        "token",
        "warning",
        f"not known whether the Hub accepts it (HTTP {reply.status})",
        "try again later",
    )
