"""The Hub: its real client against a server of our own, in this process."""

import errno
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome
from hub import COMMIT, LATER, LocalHub, model_files
from huggingface_hub import HfApi, constants
from texts import missing

from cna_mlx.errors import CnaError, HubError, ModelError
from cna_mlx.models import catalogue
from cna_mlx.models.hub.client import find, is_complete
from cna_mlx.models.hub.download import Meter
from cna_mlx.models.loading import load, source_of
from cna_mlx.models.memory import machine as memory

NEWS = ["GET /api/models/org/tiny"]
WEIGHTS = "model.safetensors"

Run = Callable[..., Outcome]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the client logs; it has a handler of its own, for stderr."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [handler])
    monkeypatch.setattr("huggingface_hub.utils._http._WARNED_TOPICS", set())
    return lines


def refusal(kind: type[CnaError], *arguments: Any, **options: Any) -> str:
    """The one line that a search ends with."""
    with pytest.raises(kind) as caught:
        find(*arguments, **options)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    assert "org/tiny" in message
    return message


def fetched(hub: LocalHub) -> list[str]:
    """The files that were sent since the last call."""
    found = [line.split("/")[-1] for line in hub.asked() if "/resolve/" in line]
    return sorted({name for name in found if found.count(name) > 1})  # HEAD and GET


# ------------------------------------------------------------------- what is here


def test_a_model_is_fetched_once(hub: LocalHub) -> None:
    first = find("org/tiny")
    assert first.path.name == COMMIT
    assert (first.moved_to, first.renamed_to) == (None, None)
    assert fetched(hub) == sorted(model_files())
    assert {f.name: f.read_bytes() for f in first.path.iterdir()} == model_files()
    assert find("org/tiny") == first
    assert hub.asked() == NEWS


def test_offline_asks_nobody(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        message = refusal(ModelError, "org/tiny", offline=True)
        assert "--offline" in message
        assert hub.asked() == []
        find("org/tiny")
        hub.asked()
        assert find("org/tiny", offline=True).path.name == COMMIT
        assert find("org/tiny", "main", offline=True).path.name == COMMIT
        assert find("org/tiny", COMMIT, offline=True).path.name == COMMIT
        message = refusal(ModelError, "org/tiny", LATER, offline=True)
        assert LATER in message
        assert hub.asked() == []
        shutil.rmtree(constants.HF_HUB_CACHE)
    find("org/tiny")
    hub.asked()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # as the environment sets it
    assert find("org/tiny").path.name == COMMIT
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert "HF_HUB_OFFLINE" in refusal(ModelError, "org/tiny")
    assert hub.asked() == []


@pytest.mark.parametrize("offline", [False, True])
def test_a_load_asks_only_for_news(hub: LocalHub, offline: bool) -> None:
    """The tokenizer's loading included, which is transformers' own."""
    load("org/tiny")
    hub.asked()
    model, _ = load("org/tiny", offline=offline)
    assert hub.asked() == ([] if offline else NEWS)
    source = source_of(model)
    assert source is not None
    assert (source.name, source.revision) == ("org/tiny", COMMIT)


@pytest.mark.parametrize("lost", ["config.json", WEIGHTS, "tokenizer.json"])
def test_a_part_is_not_a_model(
    hub: LocalHub, down: Callable[[], None], lost: str
) -> None:
    path = find("org/tiny").path
    blob = (path / lost).resolve()
    (path / lost).unlink()
    blob.unlink()
    hub.asked()
    assert "only part" in refusal(ModelError, "org/tiny", offline=True)
    assert find("org/tiny").path == path  # the Hub completes it
    assert fetched(hub) == [lost]
    (path / lost).resolve().unlink()  # a link that leads nowhere
    down()
    assert missing(refusal(HubError, "org/tiny"), "only part", "again") == []


def test_what_makes_a_snapshot_whole(tmp_path: Path) -> None:
    """Where no version of the client has said what it should hold."""
    files = model_files()
    for name in ("tokenizer_config.json", WEIGHTS, "tokenizer.json", "config.json"):
        assert not is_complete(tmp_path)
        (tmp_path / name).write_bytes(files[name])
    assert is_complete(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    for text in ("{", "[]", "{}", '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        assert not is_complete(tmp_path)
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    for name in shards.values():
        assert not is_complete(tmp_path)
        (tmp_path / name).write_bytes(b"")
    assert is_complete(tmp_path)


# ---------------------------------------------------------------- what the Hub has


def test_a_moved_revision_is_told_and_not_taken(hub: LocalHub) -> None:
    find("org/tiny")
    one = hub.repositories["tiny"]
    one.commits[LATER] = model_files() | {"config.json": b'{"model_type": "llama"}'}
    one.branches["main"] = LATER
    hub.asked()
    for _ in range(2):
        still = find("org/tiny")
        assert (still.path.name, still.moved_to) == (COMMIT, LATER)
        assert hub.asked() == NEWS
    new = find("org/tiny", "main")
    assert (new.path.name, new.moved_to) == (LATER, None)
    assert fetched(hub) == ["config.json"]  # the rest is the same
    assert find("org/tiny") == new
    hub.asked()
    old = find("org/tiny", COMMIT)
    assert (old.path.name, old.moved_to) == (COMMIT, None)
    assert hub.asked() == []  # a commit that is here needs no question


def test_the_source_knows_that_it_moved(hub: LocalHub) -> None:
    load("org/tiny")
    one = hub.repositories["tiny"]
    one.commits[LATER] = model_files()
    one.branches["main"] = LATER
    source = source_of(load("org/tiny")[0])
    assert source is not None
    assert (source.revision, source.moved_to) == (COMMIT, LATER)


@pytest.mark.parametrize("answer", [(500, {}), (401, {}), (404, {}), (200, {})])
def test_no_news_is_no_failure(hub: LocalHub, answer: Any) -> None:
    find("org/tiny")
    hub.repositories["tiny"].refusal = answer  # 200: JSON, but of something else
    found = find("org/tiny")
    assert (found.path.name, found.moved_to, found.renamed_to) == (COMMIT, None, None)


def test_a_slow_hub_is_not_waited_for(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find("org/tiny")
    hub.asked()
    one = hub.repositories["tiny"]
    one.commits[LATER] = model_files()
    one.branches["main"] = LATER
    one.delay = 60.0
    monkeypatch.setattr("cna_mlx.models.hub.client._NEWS_SECONDS", 0.1)
    assert find("org/tiny") == found  # as it is here: nothing is known of the move
    assert hub.asked() == NEWS


def test_a_hub_that_is_down(hub: LocalHub, down: Callable[[], None]) -> None:
    down()
    assert "reached" in refusal(HubError, "org/tiny")


def test_a_hub_that_goes_down(hub: LocalHub, down: Callable[[], None]) -> None:
    first = find("org/tiny")
    down()
    assert find("org/tiny") == first
    assert find("org/tiny", COMMIT) == first
    # a branch may have moved: what is here is offered, not taken for it
    message = refusal(HubError, "org/tiny", "main")
    assert missing(message, COMMIT[:7], "--offline") == []


def test_a_renamed_repository_is_followed(hub: LocalHub) -> None:
    hub.repositories["renamed"] = hub.repositories["tiny"]
    hub.repositories["tiny"] = hub.add("old", moved="renamed")
    found = find("org/tiny")
    assert (found.path.name, found.renamed_to) == (COMMIT, "org/renamed")
    assert (found.path / WEIGHTS).is_file()
    assert find("org/tiny").renamed_to == "org/renamed"
    assert find("org/tiny", offline=True).renamed_to is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refusal": (403, {"X-Error-Code": "GatedRepo"})}, "gated"),
        ({"refusal": (401, {"X-Error-Code": "GatedRepo"})}, "gated"),
        ({"file_refusal": (403, {"X-Error-Code": "GatedRepo"})}, "gated"),
        ({"refusal": (404, {"X-Error-Code": "RepoNotFound"})}, "repository"),
        ({"branches": {}}, "'v2'"),
    ],
)
def test_what_the_user_can_mend(
    hub: LocalHub, changes: dict[str, Any], said: str
) -> None:
    hub.add("tiny", **changes)
    assert said in refusal(
        ModelError, "org/tiny", "v2" if "branches" in changes else None
    )
    assert not list(Path(constants.HF_HUB_CACHE).rglob(WEIGHTS))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_fails(hub: LocalHub, status: int) -> None:
    hub.add("tiny", refusal=(status, {}))
    assert missing(refusal(HubError, "org/tiny"), str(status), "later") == []


def test_something_else_answers(hub: LocalHub) -> None:
    hub.add("tiny", refusal=(200, {"Content-Type": "text/html"}))
    assert "reached" in refusal(HubError, "org/tiny")


def test_the_catalogue_asks_with_the_same_words(
    hub: LocalHub, down: Callable[[], None]
) -> None:
    hub.add("gated", refusal=(403, {"X-Error-Code": "GatedRepo"}))
    hub.add("broken", refusal=(500, {}))
    assert catalogue.check("org/tiny") == "there"
    assert catalogue.check("org/gated") == "gated"
    assert catalogue.check("org/nothing") == "missing"
    with pytest.raises(HubError, match=r"500 .*later"):
        catalogue.check("org/broken")
    down()
    with pytest.raises(HubError, match=r"reached .*network"):
        catalogue.check("org/tiny")


# ----------------------------------------------------------------------- fetching


def test_a_cut_connection_and_the_rest(
    hub: LocalHub, capfd: pytest.CaptureFixture[str], said: list[str]
) -> None:
    hub.repositories["tiny"].cut = True
    assert "again" in refusal(HubError, "org/tiny")
    assert "only part" in refusal(ModelError, "org/tiny", offline=True)
    hub.repositories["tiny"].cut = False
    hub.asked()
    assert is_complete(find("org/tiny").path)
    assert fetched(hub) == [WEIGHTS]  # what came whole the first time is kept
    assert (*capfd.readouterr(), said) == ("", "", [])  # no bars, no warnings


def test_the_client_says_nothing(
    hub: LocalHub, capfd: pytest.CaptureFixture[str], said: list[str]
) -> None:
    find("org/tiny")
    find("org/tiny")
    find("org/tiny", "main")
    catalogue.check("org/tiny")
    assert capfd.readouterr() == ("", "")
    assert said == []
    HfApi().model_info("org/tiny")
    assert said == ["please log in"]  # outside it speaks as ever


def test_progress_counts_bytes(hub: LocalHub) -> None:
    seen: list[tuple[str, int, int]] = []
    find("org/tiny", progress=lambda *event: seen.append(event))
    total = sum(map(len, model_files().values()))
    done = [event[1] for event in seen]
    assert len(seen) > 1
    assert {event[0] for event in seen} == {"Fetching"}
    assert {event[2] for event in seen} == {total}
    assert done == sorted(set(done))
    assert done[0] > 0
    assert done[-1] == total
    seen.clear()
    find("org/tiny", progress=lambda *event: seen.append(event))
    assert seen == []


def test_progress_never_goes_back(hub: LocalHub) -> None:
    """After a new attempt the client takes back what it had counted."""
    seen: list[int] = []
    kind = Meter(100, lambda task, done, total: seen.append(done)).bars()
    written, received = kind(unit="B"), kind(unit="B")
    files = kind(range(3), desc="Fetching 3 files")
    for bar, n in ((received, 40), (written, 30), (received, -40), (received, 90)):
        bar.update(n)
    received.update(50)  # more than it was said to be
    assert list(files) == [0, 1, 2]
    files.update(1000)
    assert seen == [40, 90, 100]


def test_too_large_for_the_memory(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["tiny"].sizes[WEIGHTS] = 40_000_000_000
    monkeypatch.setattr(
        memory, "machine", lambda: memory.Machine(24 * 10**9, 16 * 10**9)
    )
    message = refusal(ModelError, "org/tiny")
    for said in ("40.0 GB", "24.0 GB", "16.0 GB", "mlx-community/"):
        assert said in message
    assert fetched(hub) == []


def test_too_large_for_the_disk(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 800_000})
    asked: list[Path] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage)
    message = refusal(ModelError, "org/tiny")
    assert missing(message, "kB on the disk", "HF_HOME") == []
    assert fetched(hub) == []
    assert asked == [Path(constants.HF_HUB_CACHE).parent]  # the cache is not there yet
    usage.free = 10**9
    find("org/tiny")
    usage.free = 0  # what is here takes no more
    assert find("org/tiny", "main").path.name == COMMIT


def test_a_full_disk_on_the_way(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert "space" in refusal(HubError, "org/tiny")


def test_a_cache_that_cannot_be_written(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/cache")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", denied)
    assert "Permission denied: /cache" in refusal(HubError, "org/tiny")


def test_only_a_hub_id_has_revisions() -> None:
    for name in ("demo", str(Path(__file__).parent)):
        with pytest.raises(ModelError, match="'main'"):
            load(name, "main")


# ---------------------------------------------------------------- the command line


@pytest.fixture
def discover(command: Run, selection: list[str]) -> Run:
    return lambda *options: command("discover", "org/tiny", *selection, *options)


def test_a_command_says_what_it_needs_and_what_is_new(
    hub: LocalHub, discover: Run
) -> None:
    first = discover()
    assert first.code == 0, first.err
    assert missing(first.err, "org/tiny: 829 kB", "1 kB", "usable") == []
    assert "moved" not in first.err
    one = hub.repositories["tiny"]
    one.commits[LATER] = model_files()
    one.branches["main"] = LATER
    still = discover("--json")
    assert missing(still.err, LATER[:7], COMMIT[:7], "--revision main") == []
    assert still.data["model"] == "org/tiny"
    assert LATER[:7] not in discover("--offline").err
    new = discover("--revision", "main")
    assert missing(new.err, COMMIT[:7], LATER[:7], "1.00", "Jaccard", "0.02") == []
    assert "--revision main" not in new.err
    again = discover("--revision", COMMIT, "--offline")
    assert again.code == 0
    hub.repositories["renamed"] = one
    hub.add("tiny", moved="renamed")
    assert "org/renamed" in discover().err


def test_a_command_offline(hub: LocalHub, discover: Run) -> None:
    done = discover("--offline")
    assert done.code == 2
    assert missing(done.failure, "org/tiny", "--offline") == []
    assert hub.asked() == []
    assert discover().code == 0
    hub.asked()
    assert discover("--offline").code == 0
    assert hub.asked() == []


@pytest.mark.parametrize("name", ["discover", "diff", "chat", "probe"])
def test_every_command_that_loads_takes_both_options(
    command: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[Any] = []

    def watched(name: str, revision: str | None = None, **options: Any) -> Any:
        seen.append((name, revision, options["offline"]))
        raise HubError("enough")

    monkeypatch.setattr("cna_mlx.discovery.session.load", watched)
    assert command(name, "org/tiny").code == 1
    assert command(name, "org/tiny", "--revision", "v2", "--offline").code == 1
    assert seen == [("org/tiny", None, False), ("org/tiny", "v2", True)]


def test_a_revision_of_a_directory_is_refused(command: Run) -> None:
    done = command("discover", "demo", "--revision", "main")
    assert done.code == 2
    assert missing(done.failure, "demo", "directory") == []


def test_a_command_warns_where_memory_is_short(
    hub: LocalHub, discover: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = memory.Machine(2_000_000, 1_000_000)
    monkeypatch.setattr(memory, "machine", lambda: small)
    done = discover()
    assert done.code == 0
    assert missing(done.err, "memory", "1 MB usable") == []


def test_the_demo_needs_no_plan(command: Run, selection: list[str]) -> None:
    assert "usable" not in command("discover", "demo", *selection).err
