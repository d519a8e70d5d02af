"""The values that a check-up is made of, and what must never be in them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from cna_mlx.errors import CnaError

Status = Literal["ok", "warning", "failed"]
Value = str | int | float | bool | None
_T = TypeVar("_T")

_REMEDY = (
    "upgrade MLX (pip install -U mlx mlx-lm); if that does not help, please report "
    "this screen"
)


@dataclass(frozen=True)
class Fact:
    """Something that is so.

    Attributes:
        name: what it is called.
        value: None where it cannot be known.
        unit: ``bytes``, ``GB/s`` and the like; none for text and counts.
        remark: what it means, for people.
    """

    name: str
    value: Value
    unit: str = ""
    remark: str = ""

    @property
    def key(self) -> str:
        """Its name for programs; a number of bytes ends in ``_bytes``."""
        words = f"{self.name} {self.unit}".lower().replace("/s", " per second")
        return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


@dataclass(frozen=True)
class Check:
    """Something that ought to be so.

    Attributes:
        name: unique among the checks of a check-up.
        status: ``warning``: it works, with a drawback; ``failed``: it does not.
        detail: what was found, with figures.
        remedy: what to do about it; None where nothing has to be done.
    """

    name: str
    status: Status
    detail: str
    remedy: str | None = None

    @classmethod
    def of(cls, name: str, good: object, detail: str, remedy: str = _REMEDY) -> "Check":
        """Ok where ``good`` holds, else failed, with a remedy."""
        return cls(name, "ok", detail) if good else cls(name, "failed", detail, remedy)


Item = Fact | Check


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it; found out while it is iterated over."""

    title: str
    items: Iterable[Item]


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check; failed where it comes to an exception, so that the rest goes on."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # whatever a broken backend raises
        return failure(name, error)


def failure(name: str, error: Exception) -> Check:
    """The failed check that an exception makes."""
    if isinstance(error, CnaError):  # its message says what to do
        what, _, remedy = str(error).rpartition(": ")
        return Check(name, "failed", what or remedy, remedy if what else _REMEDY)
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return Check(name, "failed", f"{type(error).__name__}: {line}", _REMEDY)


def anonymous(items: Iterable[Item], secrets: Mapping[str, str]) -> Iterator[Item]:
    """The same items with every secret replaced, wherever it stands.

    Args:
        items: facts and checks.
        secrets: patterns (regular expressions) and what stands for each.
    """

    def cover(value: Any) -> Any:
        if isinstance(value, str):
            for pattern, mask in secrets.items():
                value = re.sub(pattern, mask, value)
        return value

    for item in items:
        changes = {name: cover(value) for name, value in vars(item).items()}
        yield replace(item, **changes)


def secrets_of(home: Path, user: str | None, token: str | None) -> dict[str, str]:
    """The patterns of what a screen for an issue must not show.

    Args:
        home: the home directory, shown as ``~``.
        user: the login name, hidden where it is a part of a path.
        token: the Hub's.
    """
    found = {}
    if token:
        found[re.escape(token)] = "<token>"
    for path in {str(home), str(home.resolve())}:
        if len(Path(path).parts) > 1:  # a container's home may be /
            found[rf"{re.escape(path)}(?![\w-])"] = "~"
    if user:
        found[rf"(?<=/){re.escape(user)}(?![\w-])"] = "<user>"
    return found
