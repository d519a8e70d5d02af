"""Check the disk, the caches, the Hub and its token."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.diagnostics.results import Check, Fact, Item, checked, ok, warning
from cna_mlx.discovery.cache import Store
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.util.environment import attempt
from cna_mlx.util.files import existing

_HUB_SECONDS = 3.0
_SCAN_SECONDS = 1.0
# An 8B model in 4 bits takes 4.5 GB, and a download needs room for a copy.
_ROOM = 10_000_000_000


# ----------------------------------------------------------------------- disk


def disk_items(store: Store, hub_cache: Path) -> Iterator[Item]:
    """Report what this tool and huggingface_hub store, and the free space."""
    yield Fact("cache", str(store.directory))
    files = attempt(store.files) or []
    circuits = [path for path in files if path.parent.name == "circuits"]
    sizes = attempt(lambda: sum(path.stat().st_size for path in files))
    remark = "cna-mlx doctor --clear-cache removes them" if files else ""
    yield Fact("circuits", len(circuits), remark=remark)
    yield Fact("size of cache", sizes, "bytes")
    yield checked("cache", check_cache, store.directory)
    yield Fact("models", str(hub_cache))
    yield Fact("size of models", attempt(lambda: hub_bytes(hub_cache)), "bytes")
    free = attempt(lambda: shutil.disk_usage(existing(hub_cache)).free)
    yield Fact("free for models", free, "bytes")
    if free is not None:
        yield checked("disk", check_room, free)


def check_cache(directory: Path) -> Check:
    """Check that circuits can be cached; the store ignores failed writes."""
    nearest = existing(directory)
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return ok("circuits are cached")
    return warning(
        f"cannot write to {nearest}: circuits are discovered again each time",
        "make it writable, or set CNA_MLX_CACHE to another directory",
    )


def check_room(free: int) -> Check:
    """Check that a model fits on the disk."""
    if free >= _ROOM:
        return ok(f"{gigabytes(free)} free for models")
    return warning(
        f"{gigabytes(free)} free; an 8B model in 4 bits needs 4.5 GB",
        "free disk space, or set HF_HOME to a directory on another disk",
    )


def hub_bytes(hub_cache: Path, seconds: float = _SCAN_SECONDS) -> int | None:
    """Return the bytes of the models in the Hub's cache; None if counting times out."""
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
class HubReply:
    """A server's HTTP status, and whether it sent JSON."""

    status: int
    is_json: bool


Ask = Callable[[str, str | None], HubReply]


def hub_items(
    endpoint: str, token: str | None, is_offline: bool, ask: Ask | None = None
) -> Iterator[Item]:
    """Check that the Hub is reachable and accepts the token; show no secrets.

    `ask` turns an address and a token into a reply; None asks over the network.
    """
    yield Fact("endpoint", without_login(endpoint))
    yield Fact("token", "set" if token else "not set")
    if is_offline:
        detail = "not checked: --offline or HF_HUB_OFFLINE is set"
        remedy = "go online to download models; cached models work offline"
        yield checked("Hub", warning, detail, remedy)
        return
    reply = _reply(f"{endpoint.rstrip('/')}/api/whoami-v2", token, ask or ask_hub)
    yield checked("Hub", check_hub, reply)
    if token and isinstance(reply, HubReply):
        yield checked("token", check_token, reply)


def without_login(address: str) -> str:
    """Remove the user name and password from an address."""
    return re.sub(r"//[^/@]*@", "//", address)


def _reply(address: str, token: str | None, ask: Ask) -> HubReply | str:
    """Return the reply, or why it is missing, soon after the timeout at the latest."""
    found: list[HubReply | str] = ["timed out: no answer in time"]

    def work() -> None:
        try:
            found.append(ask(address, token))
        except Exception as error:  # noqa: BLE001  # any HTTP client's error
            found.append(type(error).__name__)

    # name resolution ignores timeouts; a daemon thread does not block the exit
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2 * _HUB_SECONDS)
    return found[-1]


def ask_hub(address: str, token: str | None) -> HubReply:
    """Ask over the network, with huggingface_hub's client."""
    from huggingface_hub import get_session

    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer: Any = get_session().get(address, headers=headers, timeout=_HUB_SECONDS)
    return HubReply(
        answer.status_code, "json" in answer.headers.get("content-type", "")
    )


def check_hub(reply: HubReply | str) -> Check:
    """Check that the Hub replied; a string says why the reply is missing."""
    if isinstance(reply, str):
        return warning(
            f"cannot be reached ({reply})",
            "check the network, HTTPS_PROXY and HF_ENDPOINT; cached and local models "
            "work offline",
        )
    if reply.status < 500 and (reply.is_json or reply.status in (401, 403, 429)):
        return ok("reachable")
    return warning(
        f"HTTP {reply.status}, but not the Hub's answer",
        "try again later; check for a proxy or a network that requires a login",
    )


def check_token(reply: HubReply) -> Check:
    """Check that the Hub accepted the token."""
    if reply.status == 200 and reply.is_json:
        return ok("accepted by the Hub")
    if reply.status in (401, 403):
        return warning(
            f"rejected by the Hub (HTTP {reply.status}): downloads fail",
            "run hf auth login, or correct or unset HF_TOKEN",
        )
    return warning(
        f"not checked: the Hub answered HTTP {reply.status}", "try again later"
    )
