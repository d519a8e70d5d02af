"""Fetch one split of a data set on the Hub: the file or the shards that are stored."""

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cna_mlx.errors import InputError
from cna_mlx.models.hub.download import Meter
from cna_mlx.models.hub.errors import hub_errors
from cna_mlx.prompts.tables import listed
from cna_mlx.util import ranks
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import LARGEST_FILE, read_file

_ENDINGS = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
_LISTING_SECONDS = 10
# train-00000-of-00003-<hash of the shard>.parquet
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(?:-[0-9a-f]{16})?(\.[^/]*)")


class Split(NamedTuple):
    """The contents of a split's file or shards, the name of the first, the commit."""

    contents: list[bytes]
    file: str
    revision: str


def fetch_split(
    name: str, split: str, *, offline: bool = False, progress: Progress = silent
) -> Split:
    """Read a split from the local cache, else from the Hub's main branch.

    Args:
        name: ``org/set``.
        split: ``train``, or ``config/train`` where the file's folder is needed, or
            the path of a file.
        offline: make no request; ``HF_HUB_OFFLINE`` in the environment does the same.

    Raises:
        InputError: no such data set or split, several files that are not all shards of
            one, or offline and not here.
        HubError: the network or the Hub failed.
    """
    return Split(*ranks.first(lambda: _fetch(name, split, offline, progress)))


def _fetch(name: str, split: str, offline: bool, progress: Progress) -> Split:
    from huggingface_hub import constants

    with hub_errors(name, None, "the cache cannot be read", is_dataset=True):
        paths = _local(name, split)
    if not paths and (offline or constants.HF_HUB_OFFLINE):
        raise InputError(
            f"{name}:{split} is not on this machine, and offline nothing is fetched: "
            "run it once without --offline (and HF_HUB_OFFLINE)"
        )
    if not paths:
        with hub_errors(name, None, f"{name} could not be fetched", is_dataset=True):
            paths = _download(name, split, progress)
    first = paths[0]
    at = len(first.parts) - first.parts[::-1].index("snapshots")
    contents = [read_file(path, LARGEST_FILE) for path in paths]
    return Split(contents, first.name, first.parts[at])


def _local(name: str, split: str) -> list[Path]:
    from huggingface_hub import errors, snapshot_download

    with suppress(errors.LocalEntryNotFoundError):
        root = Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
        files = [file for file in root.rglob("*") if file.is_file()]
        found = _files(split, [file.relative_to(root).as_posix() for file in files])
        is_whole = found == [split] or (_are_one(found) and _stands_alone(found[0]))
        return [root / file for file in sorted(found)] if is_whole else []
    return []


def _are_one(files: list[str]) -> bool:
    """Whether these are one file, or all shards of one."""
    shards = [_SHARD.fullmatch(file) for file in files]
    if not shards or not all(shards):
        return len(files) == 1
    parts = {one.group(1, 3, 4) for one in shards if one}
    count = int(shards[0][3]) if shards[0] else 0
    return len(parts) == 1 and len(files) == count


def _stands_alone(file: str) -> bool:
    """Whether the Hub can have no other file of this split: it is not in a folder."""
    return file.rpartition("/")[0] in ("", "data")


def _download(name: str, split: str, progress: Progress) -> list[Path]:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().dataset_info(name, timeout=_LISTING_SECONDS)
    stored = [file.rfilename for file in info.siblings or []]
    found = _files(split, stored)
    if not (found == [split] or _are_one(found)):
        data = found or [one for one in stored if one.endswith(_ENDINGS)]
        what = "several files of" if found else "no file of"
        raise InputError(
            f"{name} has {what} the split {split!r}: name one of {listed(data)}, "
            f"as {name}:{(data or ['FILE'])[0]}"
        )
    paths: list[Path] = []
    for file in sorted(found):
        progress(f"Fetching {name}", len(paths), len(found))
        path = hf_hub_download(
            name,
            file,
            repo_type="dataset",
            tqdm_class=Meter(0, silent).bars(),  # draws nothing
        )
        paths.append(Path(path))
    progress(f"Fetching {name}", len(found), len(found))
    return paths


def _files(split: str, names: list[str]) -> list[str]:
    """The files of a split: of that path, else with its word in the name or folder."""
    if split in names:
        return [split]
    folder, _, word = split.rpartition("/")
    data = [one for one in names if one.lower().removesuffix(".gz").endswith(_ENDINGS)]
    data = [one for one in data if not folder or folder in one.split("/")[:-1]]
    is_part = re.compile(rf"(?:^|[^a-z0-9]){re.escape(word.lower())}(?:$|[^a-z0-9])")
    found = [one for one in data if is_part.search(one.rpartition("/")[2].lower())]
    return found or [one for one in data if word in one.split("/")[:-1]]
