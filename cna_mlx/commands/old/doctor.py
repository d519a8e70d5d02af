"""`doctor`: one screen about this machine and a model, to be pasted into an issue."""

import getpass
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cna_mlx.commands.options import require
from cna_mlx.diagnostics import Check, Fact, Item, Section
from cna_mlx.diagnostics.results import anonymous, failure, secrets_of
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CnaError
from cna_mlx.models.loading import DEMO_NAMES, ModelOptions, load
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.ui.console import screen
from cna_mlx.ui.doctor import item_lines, summary_line, terminal_items, title_line
from cna_mlx.ui.output import emit_json, show
from cna_mlx.ui.progress import terminal_reporter
from cna_mlx.util.environment import attempt


@dataclass
class _Found:
    """What has been found so far; shown as it comes, or kept for JSON."""

    as_json: bool
    secrets: dict[str, str]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def take(self, section: Section) -> None:
        if self.as_json:
            screen().note(f"checking: {section.title}")
        else:
            show(title_line(section.title))
        kept = self.facts.setdefault(section.title.replace(" ", "_"), {})
        for item in anonymous(section.items, self.secrets):
            if isinstance(item, Fact):
                kept[item.key] = item.value
            else:
                self.checks.append(item)
            if not self.as_json:
                show(item_lines(screen(), item))

    @property
    def failed(self) -> list[str]:
        return [check.name for check in self.checks if check.status == "failed"]

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def to_json(self, is_complete: bool) -> dict[str, Any]:
        return {
            "complete": is_complete,
            "seconds": round(self.seconds, 1),
            "facts": {title: facts for title, facts in self.facts.items() if facts},
            "checks": [asdict(check) for check in self.checks],
        }


def run_doctor(model: str | None, source: ModelOptions, as_json: bool) -> None:
    """Check the machine, and a model if one is named; say it all as it is found.

    Raises:
        CnaError: a check failed; what was found is printed all the same.
        as :func:`cna_mlx.load`, once the machine has been checked.
    """
    found = _Found(as_json, _secrets())
    is_complete = False
    try:
        for section in _sections(model, source):
            found.take(section)
        is_complete = True
    finally:
        if as_json:
            emit_json(found.to_json(is_complete))
    if not as_json:
        show(summary_line(found.checks, found.seconds))
    if found.failed:
        count = len(found.failed)
        what = "1 check" if count == 1 else f"{count} checks"
        raise CnaError(f"{what} failed: {', '.join(found.failed)}")


def run_clear_cache(model: str | None, as_json: bool) -> None:
    """Remove the circuits that are kept, and say how many.

    Raises:
        InputError: a file cannot be removed.
        RequestError: a model is named as well.
    """
    require(model is None, "--clear-cache is for all models: leave MODEL out")
    store = Store()
    count, size = store.clear()
    if as_json:
        emit_json({"removed_files": count, "removed_bytes": size})
        return
    files = "1 file" if count == 1 else f"{count} files"
    much = f"{size:,} bytes" if size < 1_000_000 else gigabytes(size)
    line = Fact("removed", f"{files}, {much}, from {store.directory}")
    shown = next(anonymous([line], _secrets()))
    assert isinstance(shown, Fact)
    screen().out.print(screen().safe(f"removed {shown.value}"), soft_wrap=True)


def _secrets() -> dict[str, str]:
    user = attempt(getpass.getuser)
    return secrets_of(Path.home(), user, attempt(_token))


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _sections(model: str | None, source: ModelOptions) -> Iterator[Section]:
    """What is checked, in order; each is found out while it is shown."""
    from cna_mlx.diagnostics import facts

    yield Section("versions", _whole("versions", facts.version_items))
    yield Section("machine", _whole("machine", facts.device_items))
    yield Section("disk", _whole("disk", _disk))
    yield Section("Hub", _whole("Hub", partial(_hub, source.offline)))
    yield Section("terminal", terminal_items(screen()))
    speed: dict[str, float | None] = {}
    yield Section("device", _whole("device", partial(_device, speed)))
    for name in DEMO_NAMES:
        yield Section(name, _whole(name, partial(_embedded, name)))
    if model is not None:
        session = Session.open(model, options=source, reporter=terminal_reporter())
        yield from _model_sections(session, speed.get("bandwidth"))


def _whole(name: str, items: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """A section that ends in a failed check where it cannot be gone on with."""
    try:
        yield from items()
    except Exception as error:  # noqa: BLE001  # the next section is of use all the same
        yield failure(name, error)


def _disk() -> Iterator[Item]:
    from huggingface_hub import constants

    from cna_mlx.diagnostics.storage import disk_items

    yield from disk_items(Store(), Path(constants.HF_HUB_CACHE))


def _hub(is_offline: bool) -> Iterator[Item]:
    from huggingface_hub import constants

    from cna_mlx.diagnostics.storage import hub_items

    is_offline = is_offline or constants.HF_HUB_OFFLINE
    yield from hub_items(constants.ENDPOINT, attempt(_token), is_offline)


def _device(speed: dict[str, float | None]) -> Iterator[Item]:
    from cna_mlx.diagnostics.device import bandwidth, bandwidth_fact, matmul_items

    yield from matmul_items()
    rate = speed["bandwidth"] = attempt(bandwidth)  # decoding is held against it
    yield bandwidth_fact(rate)


def _embedded(name: str) -> Iterator[Item]:
    from cna_mlx.diagnostics.device import float32_tolerance
    from cna_mlx.diagnostics.invariants import law_items
    from cna_mlx.diagnostics.parity import check_parity, stored
    from cna_mlx.diagnostics.results import checked

    model, tokenizer = load(name)
    figures, tolerance = stored(name), float32_tolerance()
    work = model, tokenizer, figures, tolerance
    yield checked(f"{name}: stored figures", check_parity, *work)
    ids = [
        list(one) for one in dict.fromkeys(tuple(line.ids) for line in figures.lines)
    ]
    yield from law_items(name, model, ids, figures.circuit, tolerance)


def _model_sections(session: Session, bandwidth: float | None) -> Iterator[Section]:
    from cna_mlx.diagnostics import model as checks
    from cna_mlx.diagnostics.device import float32_tolerance
    from cna_mlx.diagnostics.template import template_items

    model, tokenizer = session.model, session.tokenizer

    def numerics() -> Iterator[Item]:
        yield from checks.numeric_items(model, tokenizer, float32_tolerance())
        yield from checks.speed_items(model, tokenizer, bandwidth)

    template = partial(template_items, tokenizer)
    hooked = partial(checks.hooked_items, model, Store())
    yield Section("model", _whole("model", lambda: _named(session.name, hooked)))
    yield Section("model template", _whole("model template", template))
    yield Section("model numerics", _whole("model numerics", numerics))


def _named(name: str, items: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    yield Fact("name", name)
    yield from items()
