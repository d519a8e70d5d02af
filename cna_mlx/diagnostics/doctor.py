"""Check this machine and a model on it, section by section."""

import getpass
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_token

from cna_mlx.diagnostics import device, facts, invariants, parity, storage, template
from cna_mlx.diagnostics import model as checks
from cna_mlx.diagnostics.results import (
    Check,
    Fact,
    Item,
    Section,
    anonymous,
    checked,
    failure,
    secrets_of,
)
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.session import Session
from cna_mlx.models.loading import DEMO_NAMES, load, source_of
from cna_mlx.util.environment import attempt


def own_secrets() -> dict[str, str]:
    """Return the patterns of this user's name, home directory and Hub token."""
    return secrets_of(Path.home(), attempt(getpass.getuser), attempt(get_token))


@dataclass
class Findings:
    """Facts and checks found so far, without secrets."""

    secrets: dict[str, str] = field(default_factory=own_secrets)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def take(self, section: Section) -> Iterator[Item]:
        """Yield the items of a section as they are found, and keep them."""
        facts = self.facts.setdefault(section.title.replace(" ", "_"), {})
        for item in anonymous(section.items, self.secrets):
            if isinstance(item, Fact):
                facts[item.key] = item.value
            else:
                self.checks.append(item)
            yield item

    @property
    def failed(self) -> list[str]:
        """The names of failed checks."""
        return [check.name for check in self.checks if check.status == "failed"]

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def to_dict(self) -> dict[str, Any]:
        """Return seconds, facts by section, and checks."""
        return {
            "seconds": round(self.seconds, 1),
            "facts": {title: facts for title, facts in self.facts.items() if facts},
            "checks": [asdict(check) for check in self.checks],
        }


def machine_sections(*, offline: bool = False) -> Iterator[Section]:
    """Yield versions, machine, disk and Hub; iterating a section runs its checks."""
    yield _section("versions", facts.version_items)
    yield _section("machine", facts.device_items)
    cache = Path(constants.HF_HUB_CACHE)
    yield _section("disk", lambda: storage.disk_items(Store(), cache))
    yield _section("Hub", partial(_hub, offline))


def device_sections(session: Session | None = None) -> Iterator[Section]:
    """Yield the device's arithmetic and bandwidth, the embedded models, and a model.

    Loads the model last, with the errors of :func:`cna_mlx.load`.
    """
    speed: list[float | None] = []
    yield _section("device", partial(_device, speed))
    for name in DEMO_NAMES:
        yield _section(name, partial(_embedded, name))
    if session is not None:
        session.load()
        yield from _model_sections(session, next(iter(speed), None))


def _section(title: str, items: Callable[[], Iterator[Item]]) -> Section:
    """Return a section that turns an exception into a failed check."""

    def guarded() -> Iterator[Item]:
        try:
            yield from items()
        except Exception as error:  # noqa: BLE001  # later sections are still useful
            yield failure(title, error)

    return Section(title, guarded())


def _hub(is_offline: bool) -> Iterator[Item]:
    is_offline = is_offline or constants.HF_HUB_OFFLINE
    return storage.hub_items(constants.ENDPOINT, attempt(get_token), is_offline)


def _device(speed: list[float | None]) -> Iterator[Item]:
    yield from device.matmul_items()
    rate = attempt(device.bandwidth)
    speed.append(rate)  # speed_items compares decoding with it
    yield device.bandwidth_fact(rate)


def _embedded(name: str) -> Iterator[Item]:
    model, tokenizer = load(name)
    figures, tolerance = parity.stored(name), device.float32_tolerance()
    work = model, tokenizer, figures, tolerance
    yield checked(f"{name}: stored figures", parity.check_parity, *work)
    ids = list({tuple(line.ids): line.ids for line in figures.lines}.values())
    yield from invariants.law_items(name, model, ids, figures.circuit, tolerance)


def _model_sections(session: Session, bandwidth: float | None) -> Iterator[Section]:
    model, tokenizer = session.model, session.tokenizer

    def hooked() -> Iterator[Item]:
        yield Fact("name", session.name)
        yield from checks.hooked_items(model, Store())

    def numerics() -> Iterator[Item]:
        tolerance = device.float32_tolerance()
        yield from checks.numeric_items(model, tokenizer, tolerance)
        yield from checks.speed_items(model, tokenizer, bandwidth)

    yield _section("model", hooked)
    source = source_of(model)
    ends = source.turn_end if source else None
    yield _section("model template", partial(template.template_items, tokenizer, ends))
    yield _section("model numerics", numerics)
