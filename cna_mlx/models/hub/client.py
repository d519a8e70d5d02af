"""A hub id to a directory: the local cache first, then the Hub, in as few words."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from cna_mlx.errors import HubError, ModelError
from cna_mlx.models.hub.download import download, patterns
from cna_mlx.models.hub.errors import errors_as_ours, quiet
from cna_mlx.models.memory import machine, plan
from cna_mlx.util.progress import Progress, silent

COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = "model*.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken")
# A model that is here should not wait for news of it.
_NEWS_SECONDS = 3
_LISTING_SECONDS = 10


@dataclass(frozen=True)
class Snapshot:
    """A model's directory in the local cache of the Hub.

    Attributes:
        path: the directory, named by its commit.
        moved_to: the Hub's commit, where it is another one by now.
        renamed_to: the repository's name on the Hub, where it is another one by now.
    """

    path: Path
    moved_to: str | None = None
    renamed_to: str | None = None


@dataclass(frozen=True)
class _Listing:
    """What the Hub holds of a model: its name there, and bytes by file."""

    name: str
    commit: str
    files: dict[str, int]
    to_fetch: int  # bytes that the local cache lacks


def find(
    name: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    must_fit: bool = True,
    progress: Progress = silent,
) -> Snapshot:
    """The snapshot of a hub id: the local one if it is whole, else from the Hub.

    A local snapshot is used as it is; the Hub is only asked whether it has moved, and
    need not answer. A commit that is here needs no question, a branch or a tag always
    does. Nothing is fetched that cannot fit into the memory or onto the disk.

    Args:
        name: organisation/name.
        revision: a branch, tag or commit; the main branch if None.
        offline: ask nobody; the environment's ``HF_HUB_OFFLINE`` says the same.
        must_fit: refuse weights that are larger than the memory.
        progress: told the bytes fetched and the bytes to fetch, from any thread.

    Raises:
        ModelError: missing, gated, too large, or offline and not (wholly) here.
        HubError: the network or the Hub failed.
    """
    from huggingface_hub import constants

    with errors_as_ours(name, revision, "the cache cannot be read"):
        local, is_partial = _local(name, revision)
    if offline or constants.HF_HUB_OFFLINE:
        if local is None:
            raise _not_here(name, revision, is_partial)
        return Snapshot(local)
    if local and revision is None:
        return _with_news(name, local)
    if local and revision and COMMIT.fullmatch(revision):
        return Snapshot(local)
    lost, remedy = _unreached(name, revision, local, is_partial)
    with errors_as_ours(name, revision, lost, remedy):
        listing = _list(name, revision)
    _check(name, listing, must_fit)
    path = _fetch(name, revision, listing, progress)
    return Snapshot(path, renamed_to=_renamed(name, listing.name))


@contextmanager
def offline_mode(wanted: bool) -> Iterator[None]:
    """Let nothing in this process ask the Hub inside the block, if wanted.

    huggingface_hub and transformers read the environment once, into one constant.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


# ------------------------------------------------------------------- what is here


def _local(name: str, revision: str | None) -> tuple[Path | None, bool]:
    """The local snapshot if it is whole; else None, and whether a part is here."""
    from huggingface_hub import errors, snapshot_download

    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=patterns(), local_files_only=True
        )
    except errors.LocalEntryNotFoundError as error:
        # newer versions know what the snapshot should hold, and say where a part is
        return None, hasattr(error, "snapshot_path")
    path = Path(found)
    return (path, False) if is_whole(path) else (None, True)


def is_whole(path: Path) -> bool:
    """Whether a snapshot holds all that a model needs: a cut-off download does not."""
    try:
        index = json.loads((path / "model.safetensors.index.json").read_text("utf-8"))
        weights = all((path / name).is_file() for name in index["weight_map"].values())
    except FileNotFoundError:
        weights = any(file.is_file() for file in path.glob(_WEIGHTS))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    tokenizers = (file for kind in _TOKENIZERS for file in path.glob(kind))
    return (
        weights
        and (path / "config.json").is_file()
        and any(file.is_file() for file in tokenizers)
    )


def _not_here(name: str, revision: str | None, is_partial: bool) -> ModelError:
    what = name if revision is None else f"revision {revision!r} of {name}"
    here = f"only part of {what} is" if is_partial else f"{what} is not"
    return ModelError(
        f"{here} on this machine, and offline nothing is fetched: run it once without "
        "--offline (and HF_HUB_OFFLINE)"
    )


def _unreached(
    name: str, revision: str | None, local: Path | None, is_partial: bool
) -> tuple[str, str]:
    """What to say, and to advise, if the Hub does not answer."""
    again = "check the network and run the command again"
    if local:
        return (
            f"the Hub cannot be reached for revision {revision!r} of {name}",
            f"{again}, or take {local.name[:7]}, which is here, with --offline",
        )
    if is_partial:
        there = f"only part of {name} is on this machine"
        return f"{there}, and the Hub cannot be reached for the rest", again
    return f"{name} is not on this machine, and the Hub cannot be reached", again


# ---------------------------------------------------------------- what the Hub has


def _with_news(name: str, local: Path) -> Snapshot:
    from huggingface_hub import HfApi

    with quiet(), suppress(Exception):  # whatever it is, the model is here
        info = HfApi().model_info(name, timeout=_NEWS_SECONDS)
        moved = info.sha if info.sha and info.sha != local.name else None
        return Snapshot(local, moved, _renamed(name, info.id))
    return Snapshot(local)


def _renamed(name: str, there: str) -> str | None:
    return there if there != name else None


def _list(name: str, revision: str | None) -> _Listing:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi().model_info(
        name, revision=revision, files_metadata=True, timeout=_LISTING_SECONDS
    )
    files = {file.rfilename: file for file in info.siblings or []}
    wanted = list(filter_repo_objects(files, allow_patterns=patterns()))
    folder = repo_folder_name(repo_id=name, repo_type="model")
    blobs = Path(constants.HF_HUB_CACHE) / folder / "blobs"
    missing = (
        file.size or 0
        for file in map(files.__getitem__, wanted)
        if not (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).exists()
    )
    sizes = {file: files[file].size or 0 for file in wanted}
    return _Listing(info.id, str(info.sha), sizes, sum(missing))


def _check(name: str, listing: _Listing, must_fit: bool) -> None:
    """Refuse what cannot work, before a byte of it is fetched."""
    from huggingface_hub import constants

    weights = [file for file in listing.files if fnmatch(file, _WEIGHTS)]
    if not weights:
        raise ModelError(
            f"{name}: no {_WEIGHTS} in the repository; convert it with mlx_lm.convert"
        )
    if must_fit:
        needed = sum(listing.files[file] for file in weights)
        plan.check_fits(name, needed, machine.machine())
    cache = Path(constants.HF_HUB_CACHE)
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if listing.to_fetch > free:
        raise ModelError(
            f"{name} takes {machine.gigabytes(listing.to_fetch)} on the disk, and "
            f"{cache} has {machine.gigabytes(free)}: free some, or set HF_HOME to a "
            "place on another disk"
        )


# ----------------------------------------------------------------------- fetching


def _fetch(
    name: str, revision: str | None, listing: _Listing, progress: Progress
) -> Path:
    lost = f"fetching {name} was cut off"
    remedy = "the files that came whole are kept: run the command again"
    with errors_as_ours(name, revision, lost, remedy):
        path = download(name, revision, listing.to_fetch, progress)
    whole = all((path / file).is_file() for file in listing.files)
    if path.name == listing.commit and not whole:
        raise HubError(f"{lost}; {remedy}")
    return path
