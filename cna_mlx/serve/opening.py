"""Load a model and its circuits, and make the service of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import InputError
from cna_mlx.models.memory.loaded import loaded_shape, parameter_bytes
from cna_mlx.models.memory.machine import machine
from cna_mlx.serve.arms import ServedArms
from cna_mlx.serve.engine import Engine
from cna_mlx.serve.lookups import lookups
from cna_mlx.serve.service import Limits, Service
from cna_mlx.serve.texts import Texts
from cna_mlx.serve.together import exchanging
from cna_mlx.steering.arms import Arm
from cna_mlx.strength import Strength
from cna_mlx.util import ranks
from cna_mlx.util.files import check_writable, is_there, typed_path

# Parts of the memory beyond the weights: for the rows' KV caches, which are copied when
# a row joins or leaves, and for those that are kept for later requests.
_ROWS, _KEPT = 0.3, 0.15
_LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Address:
    """Where the server listens, and the key that it demands.

    Raises:
        InputError: the address is not this machine's own, and there is no key.
    """

    host: str
    port: int
    key: str | None = None

    def __post_init__(self) -> None:
        key = self.key
        if key is not None and not key.strip():
            raise InputError("--api-key is empty: give a key, or leave it out")
        if key is not None and not (
            key.isascii() and key.isprintable() and key == key.strip()
        ):
            raise InputError(
                "--api-key: use ASCII letters, digits and signs, without spaces around "
                "it; clients cannot send others"
            )
        if not self.is_local and self.key is None:
            raise InputError(
                f"--host {self.host}: other machines can ask there, so give --api-key "
                "KEY (or CNA_MLX_API_KEY)"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        if self.host in _LOCAL_NAMES:
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def names(self) -> frozenset[str] | None:
        """What a client may call the server; None for anything."""
        return frozenset({*_LOCAL_NAMES, self.host}) if self.is_local else None


def open_service(
    session: Session,
    options: DiscoveryOptions,
    address: Address,
    *,
    circuits: Sequence[str] = (),
    multipliers: Sequence[Strength] = (),
    rows: int = 64,
    queue: int = 1024,
    max_tokens: int = 512,
    seconds: float = 3600.0,
    log: str | None = None,
) -> Service:
    """Load a model and its circuits.

    Args:
        rows: answers that run at once.
        queue: answers that run or wait.
        max_tokens: of an answer, where a request names none.
        seconds: the longest time of a request.
        log: a file that every request and its answers are appended to.

    Raises:
        CnaError: the model or a circuit cannot be used.
    """
    logged = None if log is None else _log(typed_path(log, "--log"))
    arms = served_arms(session, options, circuits, multipliers)
    model, tokenizer = session.load()

    def warn(text: str) -> None:
        session.reporter.warn(" ".join(text.split()))  # whatever an error says

    engine = Engine(
        model,
        tokenizer,
        rows=rows,
        warn=warn,
        lookups=lookups(model, tokenizer, arms, session.rendering),
        exchange=exchanging(arms),
        **room(model),
    )
    limits = Limits(seconds=seconds, answers=queue, max_tokens=max_tokens)
    texts = Texts(tokenizer, session.rendering)
    return Service(
        engine,
        arms,
        texts,
        limits,
        address.key,
        address.names,
        logged,
        warn,
    )


def served_arms(
    session: Session,
    options: DiscoveryOptions,
    circuits: Sequence[str] = (),
    multipliers: Sequence[Strength] = (),
) -> ServedArms:
    """The arms of a session: its circuits by the names of their files.

    Raises:
        InputError: two circuits have the same name.
    """
    found = session.steered_arms(options, circuits, multipliers)
    by_name: dict[str, Any] = {}
    strengths: dict[str, list[Strength]] = {}
    for arm in found:
        name = _name(arm)
        ((circuit, strength),) = arm.steering
        if by_name.setdefault(name, circuit) is not circuit:
            raise InputError(f"two circuits are called {name}: rename one of the files")
        strengths.setdefault(name, []).append(strength)
    # a path is not a name that a program would ask for
    name = session.name.rstrip("/").replace("\\", "/")
    if is_there(name):
        name = ranks.first(lambda: typed_path(name).resolve().name)
    return ServedArms(_askable(name), by_name, strengths)


def _name(arm: Arm) -> str:
    """A circuit's file without its ending, or the contrast that it was found on."""
    ((circuit, _),) = arm.steering
    assert isinstance(circuit, Circuit)
    contrast = circuit.provenance.contrast
    found = circuit.file and Path(circuit.file).name.removesuffix(".json")
    return _askable(found or (contrast and contrast.name) or "circuit")


def _askable(name: str) -> str:
    """A name that JSON can carry, without the sign that ends it in a request."""
    return name.encode(errors="replace").decode().replace("@", "-")


def room(model: Any) -> dict[str, int]:
    """How many tokens fit in the rows' KV caches, and the bytes to keep others."""
    free = max(0, machine().usable - parameter_bytes(model))
    shape = loaded_shape(model)
    tokens = int(_ROWS * free / max(1, shape.kv_per_token))
    # of all ranks the first one's: they must admit the same requests
    found: dict[str, int] = ranks.share(
        {"tokens": max(4096, tokens), "cache_bytes": int(_KEPT * free)}
    )
    return found


def _log(path: Path) -> Callable[[dict[str, Any]], None]:
    check_writable(path)
    if path.is_fifo():
        raise InputError(f"--log {path} is a pipe, which may wait: give a file")

    def write(entry: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    return write
