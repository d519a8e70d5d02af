"""Fetch one split of a data set on the Hub, as the file that its authors store."""

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cna_mlx.errors import InputError
from cna_mlx.models.hub.download import Meter
from cna_mlx.models.hub.errors import hub_errors
from cna_mlx.prompts.tables import listed
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import LARGEST_FILE, read_file

_ENDINGS = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
_LISTING_SECONDS = 10


class Split(NamedTuple):
    """The content of a split, the name of its file, its commit."""

    content: bytes
    file: str
    revision: str


def fetch_split(
    name: str, split: str, *, offline: bool = False, progress: Progress = silent
) -> Split:
    """Read a split's file from the local cache, else from the Hub's main branch.

    Args:
        name: ``org/set``.
        split: ``train``, or ``config/train`` where the file's folder is needed, or
            the path of a file.
        offline: make no request; ``HF_HUB_OFFLINE`` in the environment does the same.

    Raises:
        InputError: no such data set or split, several files, or offline and not here.
        HubError: the network or the Hub failed.
    """
    from huggingface_hub import constants

    with hub_errors(name, None, "the cache cannot be read", is_dataset=True):
        path = _local(name, split)
    if path is None and (offline or constants.HF_HUB_OFFLINE):
        raise InputError(
            f"{name}:{split} is not on this machine, and offline nothing is fetched: "
            "run it once without --offline (and HF_HUB_OFFLINE)"
        )
    if path is None:
        progress(f"Fetching {name}", 0, 1)
        with hub_errors(name, None, f"{name} could not be fetched", is_dataset=True):
            path = _download(name, split)
        progress(f"Fetching {name}", 1, 1)
    at = len(path.parts) - path.parts[::-1].index("snapshots")
    return Split(read_file(path, LARGEST_FILE), path.name, path.parts[at])


def _local(name: str, split: str) -> Path | None:
    from huggingface_hub import errors, snapshot_download

    with suppress(errors.LocalEntryNotFoundError):
        root = Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
        files = [file for file in root.rglob("*") if file.is_file()]
        found = _files(split, [file.relative_to(root).as_posix() for file in files])
        if len(found) == 1 and (found[0] == split or _stands_alone(found[0])):
            return root / found[0]
    return None


def _stands_alone(file: str) -> bool:
    """Whether the Hub can have no other file of this split: no shard, no folders."""
    folder, _, name = file.rpartition("/")
    shards = re.search(r"-of-0*(\d+)", name)
    return folder in ("", "data") and (shards is None or shards[1] == "1")


def _download(name: str, split: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().dataset_info(name, timeout=_LISTING_SECONDS)
    stored = [file.rfilename for file in info.siblings or []]
    found = _files(split, stored)
    if len(found) != 1:
        data = found or [one for one in stored if one.endswith(_ENDINGS)]
        what = "several files of" if found else "no file of"
        raise InputError(
            f"{name} has {what} the split {split!r}: name one of {listed(data)}, "
            f"as {name}:{(data or ['FILE'])[0]}"
        )
    return Path(
        hf_hub_download(
            name,
            found[0],
            repo_type="dataset",
            tqdm_class=Meter(0, silent).bars(),  # draws nothing
        )
    )


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
