"""Fetch the published sets of evaluation prompts.

A local file is used as it is, like a model. Otherwise it comes from the Hub at the
commit below; if the Hub has no such commit or file, from its main branch. The bytes
that were used are recorded, and whether they are the published ones.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cna_mlx.errors import InputError
from cna_mlx.models.hub.download import Meter
from cna_mlx.models.hub.errors import hub_errors
from cna_mlx.prompts.tables import listed
from cna_mlx.prompts.validation import shown
from cna_mlx.util import ranks
from cna_mlx.util.progress import Progress, silent
from cna_mlx.util.reading import read_file

_MAIN = "main"
_LISTING_SECONDS = 10


@dataclass(frozen=True)
class Published:
    """A file of prompts in a dataset on the Hub.

    Attributes:
        name: what a user calls it.
        repository, revision, file: its place; the revision is a commit.
        sha256: of the file at that commit.
        similar: a pattern of names that the file may have at another commit.
        licence, citation: of the dataset.
    """

    name: str
    repository: str
    revision: str
    file: str
    sha256: str
    similar: str
    licence: str
    citation: str


class Fetched(NamedTuple):
    """A published file's content, its dataset and name for messages, its commit."""

    content: bytes
    where: str
    revision: str


_JBB = {
    "repository": "JailbreakBench/JBB-Behaviors",
    "revision": "886acc352a31533ffbcf4ef22c744658688086fc",
    "licence": "MIT",
    "citation": (
        "Chao et al., JailbreakBench: An Open Robustness Benchmark for Jailbreaking "
        "Large Language Models, NeurIPS 2024 (arXiv 2404.01318)"
    ),
}
# Commits and hashes as several public projects pin them; seen in November 2026.
PUBLISHED = {
    "jbb": Published(
        name="jbb",
        file="data/harmful-behaviors.csv",
        sha256="4a8ec6832056b631eb092dccc60d37a61c3d441268268888b3d006288afeffa1",
        similar=r"harmful[-_]behaviors\.csv",
        **_JBB,
    ),
    "jbb-benign": Published(
        name="jbb-benign",
        file="data/benign-behaviors.csv",
        sha256="3cda234d21a991fa309bbfea4b6d9dae31ccdf8e9d452424b6a983e4fdc33468",
        similar=r"benign[-_]behaviors\.csv",
        **_JBB,
    ),
    "xstest": Published(
        name="xstest",
        repository="Paul/XSTest",
        revision="f600c994b256f12867dfa5b3eb3d545a3e62f8b5",
        file="xstest_prompts.csv",
        sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        similar=r"xstest(_v\d)?_prompts\.csv",
        licence="CC BY 4.0",
        citation=(
            "Röttger et al., XSTest: A Test Suite for Identifying Exaggerated Safety "
            "Behaviours in Large Language Models, NAACL 2024 (arXiv 2308.01263)"
        ),
    ),
}


def fetch(
    one: Published, *, offline: bool = False, progress: Progress = silent
) -> Fetched:
    """The content of a published file: from the local cache, else from the Hub.

    Args:
        offline: make no request; ``HF_HUB_OFFLINE`` in the environment does the same.

    Raises:
        InputError: gated, gone, or offline and not here.
        HubError: the network or the Hub failed.
    """
    return Fetched(*ranks.first(lambda: _fetch(one, offline, progress)))


def _fetch(one: Published, offline: bool, progress: Progress) -> Fetched:
    from huggingface_hub import constants

    unreadable = "the cache cannot be read"
    with hub_errors(one.repository, None, unreadable, is_dataset=True):
        if (path := _local(one)) is not None:
            return _read(one, path)
    if offline or constants.HF_HUB_OFFLINE:
        raise InputError(
            f"{one.repository} is not on this machine, and offline nothing is fetched: "
            f"run it once without --offline (and HF_HUB_OFFLINE), or {_instead(one)}"
        )
    progress(f"Fetching {one.repository}", 0, 1)
    path = _download(one)
    progress(f"Fetching {one.repository}", 1, 1)
    return _read(one, path)


def _local(one: Published) -> Path | None:
    """The file in the local cache: of its commit, else of the main branch."""
    from huggingface_hub import errors, snapshot_download

    for revision in (one.revision, _MAIN):
        with suppress(errors.LocalEntryNotFoundError):
            found = snapshot_download(
                one.repository,
                repo_type="dataset",
                revision=revision,
                allow_patterns=one.file,
                local_files_only=True,
            )
            files = [file for file in Path(found).rglob("*") if file.is_file()]
            names = [file.relative_to(found).as_posix() for file in files]
            if (name := _similar(one, names)) is not None:
                return Path(found) / name
    return None


def _similar(one: Published, names: list[str]) -> str | None:
    """The file of a listing: under its own path, else under a similar name."""
    if one.file in names:
        return one.file
    fits = re.compile(one.similar, re.IGNORECASE).fullmatch
    found = sorted(name for name in names if fits(name.rpartition("/")[2]))
    return found[0] if found else None


def _read(one: Published, path: Path) -> Fetched:
    at = len(path.parts) - path.parts[::-1].index("snapshots")
    commit, *names = path.parts[at:]
    where = f"{one.repository}, {shown('/'.join(names))}"
    return Fetched(read_file(path), where, commit)


def _download(one: Published) -> Path:
    from huggingface_hub import errors

    with hub_errors(
        one.repository,
        one.revision,
        f"{one.repository} could not be fetched",
        f"check the network and run the command again, or {_instead(one)}",
        is_dataset=True,
    ):
        try:
            return _file(one, one.file, one.revision)
        except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
            # a mirror may say no more than 404; other failures also end in "not local"
            response = getattr(error.__cause__, "response", None)
            is_local = isinstance(error, errors.LocalEntryNotFoundError)
            if is_local and getattr(response, "status_code", None) != 404:
                raise
        return _file(one, _listed_file(one), _MAIN)


def _file(one: Published, name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            one.repository,
            name,
            repo_type="dataset",
            revision=revision,
            tqdm_class=Meter(0, silent).bars(),  # draws nothing
        )
    )


def _listed_file(one: Published) -> str:
    """The file's name on the main branch now."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(one.repository, timeout=_LISTING_SECONDS)
    names = [file.rfilename for file in info.siblings or []]
    if (name := _similar(one, names)) is None:
        tables = [name for name in names if name.endswith((".csv", ".tsv"))]
        raise InputError(
            f"{one.repository} has no {one.file} on the Hub; its tables are "
            f"{listed(tables)}: fetch the right one, and {_instead(one)}"
        )
    return name


def _instead(one: Published) -> str:
    return f"give a CSV of it: --prompts {one.name}=FILE"
