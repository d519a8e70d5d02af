"""Find a model's directory by its hub id: the local cache first, then the Hub."""

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cna_mlx.errors import HubError, ModelError
from cna_mlx.models.hub.download import Meter
from cna_mlx.models.hub.errors import hub_errors, quiet
from cna_mlx.models.memory import machine, plan
from cna_mlx.models.other_formats import other_format
from cna_mlx.util import ranks
from cna_mlx.util.files import existing
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import parse_json, read_file

COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = "model*.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken")
# The files of a model, as mlx-lm names them; without code, which is never run.
_FILES = ["*.json", _WEIGHTS, "*.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja"]
# A local model should not wait long for the check for a newer version.
_NEWS_SECONDS = 3
_LISTING_SECONDS = 10


@dataclass(frozen=True)
class Snapshot:
    """A model's directory in the local cache of the Hub.

    Attributes:
        path: the directory, named by its commit.
        moved_to: the newer commit on the Hub, or None.
        renamed_to: the repository's new name on the Hub, or None.
    """

    path: Path
    moved_to: str | None = None
    renamed_to: str | None = None


def find(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    must_fit: bool = True,
    progress: Progress = silent,
) -> Snapshot:
    """The snapshot of a hub id: the local one if it is complete, else from the Hub.

    A complete local snapshot is used as it is; the Hub is only asked whether there is
    a newer one, and need not answer. A local commit needs no request, a branch or a
    tag always does. Nothing is fetched that does not fit into memory or on the disk.

    Args:
        revision: a branch, tag or commit; the main branch if None.
        offline: make no request; ``HF_HUB_OFFLINE`` in the environment does the same.
        progress: called with the bytes fetched and to fetch, from any thread.

    Raises:
        ModelError: missing, gated, too large, or offline and not complete here.
        HubError: the network or the Hub failed.
    """
    from huggingface_hub import HfApi, constants

    with hub_errors(name, revision, "the cache cannot be read"):
        local, is_partial = _local(name, revision)
    if offline or constants.HF_HUB_OFFLINE:
        if local is None:
            raise ModelError(
                f"{_lack(name, revision, is_partial)}, and offline nothing is fetched: "
                "run it once without --offline (and HF_HUB_OFFLINE)"
            )
        return Snapshot(local)
    if local and revision is None:
        return _with_news(name, local)
    if local and revision and COMMIT.fullmatch(revision):
        return Snapshot(local)
    failure = f"{_lack(name, revision, is_partial)}, and the Hub cannot be reached"
    remedy = "check the network and run the command again"
    if local:
        failure = f"the Hub cannot be reached for revision {revision!r} of {name}"
        remedy += f", or use the local {local.name[:7]} with --offline"
    with hub_errors(name, revision, failure, remedy):
        info = HfApi().model_info(
            name, revision=revision, files_metadata=True, timeout=_LISTING_SECONDS
        )
    path = _fetch(name, revision, info, must_fit, progress)
    return Snapshot(path, renamed_to=_renamed(name, info.id))


def is_complete(path: Path) -> bool:
    """Whether a snapshot has all that a model needs: an interrupted one has not."""
    try:
        index = parse_json(read_file(path / "model.safetensors.index.json"))
        weights = all((path / name).is_file() for name in index["weight_map"].values())
    except FileNotFoundError:
        weights = any(file.is_file() for file in path.glob(_WEIGHTS))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    tokenizers = (file for kind in _TOKENIZERS for file in path.glob(kind))
    has_config = (path / "config.json").is_file()
    return weights and has_config and any(file.is_file() for file in tokenizers)


def _local(name: str, revision: str | None) -> tuple[Path | None, bool]:
    """The local snapshot if it is complete; else None, and whether a part is here."""
    from huggingface_hub import errors, snapshot_download

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=_FILES, local_files_only=True
        )
    except errors.LocalEntryNotFoundError as error:
        # newer clients know the snapshot's files, and name an incomplete one
        return None, hasattr(error, "snapshot_path")
    path = Path(found)
    return (path, False) if is_complete(path) else (None, True)


def _lack(name: str, revision: str | None, is_partial: bool) -> str:
    what = name if revision is None else f"revision {revision!r} of {name}"
    here = f"only part of {what} is" if is_partial else f"{what} is not"
    return f"{here} on this machine"


def _with_news(name: str, local: Path) -> Snapshot:
    """A local snapshot, with the newer commit and the new name if the Hub says so."""
    from huggingface_hub import HfApi

    with quiet(), suppress(Exception):  # whatever it is, the model is here
        info = HfApi().model_info(name, timeout=_NEWS_SECONDS)
        moved = info.sha if info.sha and info.sha != local.name else None
        return Snapshot(local, moved, _renamed(name, info.id))
    return Snapshot(local)


def _renamed(name: str, there: str) -> str | None:
    return there if there != name else None


def _fetch(
    name: str, revision: str | None, info: Any, must_fit: bool, progress: Progress
) -> Path:
    """Fetch what the cache lacks of a model that the Hub describes in ``info``."""
    from huggingface_hub import snapshot_download

    files = [
        file
        for file in info.siblings or []
        if any(fnmatch(file.rfilename, pattern) for pattern in _FILES)
    ]
    _check_weights(name, info.siblings or [], must_fit)
    _check_disk(name, missing := _missing_bytes(name, files))
    meter = Meter(missing, progress)
    failure = f"fetching {name} was interrupted"
    remedy = "complete files are kept: run the command again"
    with hub_errors(name, revision, failure, remedy):
        found = snapshot_download(
            name, revision=revision, allow_patterns=_FILES, tqdm_class=meter.bars()
        )
    path = Path(found)
    complete = all((path / file.rfilename).is_file() for file in files)
    if path.name == info.sha and not complete:  # the client took what it had
        raise HubError(f"{failure}; {remedy}")
    meter.report(missing)
    return path


def _check_weights(name: str, files: list[Any], must_fit: bool) -> None:
    weights = [file for file in files if fnmatch(file.rfilename, _WEIGHTS)]
    if not weights:
        why = other_format(file.rfilename for file in files)
        general = f"no {_WEIGHTS} in the repository; convert it with mlx_lm.convert"
        raise ModelError(f"{name}: {why or general}")
    if must_fit:
        needed = sum(file.size or 0 for file in weights) // ranks.count()
        plan.check_fits(name, needed, machine.machine())


def _missing_bytes(name: str, files: list[Any]) -> int:
    """Bytes of the files whose content is not in the cache under any commit."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "blobs")
    return sum(
        file.size or 0
        for file in files
        if not (folder / str(file.lfs.sha256 if file.lfs else file.blob_id)).exists()
    )


def _check_disk(name: str, missing: int) -> None:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(existing(cache.absolute())).free
    if missing > free:
        raise ModelError(
            f"{name} takes {machine.gigabytes(missing)} on the disk, and "
            f"{cache} has {machine.gigabytes(free)}: free some, or set HF_HOME to a "
            "place on another disk"
        )
