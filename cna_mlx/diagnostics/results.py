"""Facts, checks, and the secrets that they must not contain."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cna_mlx.errors import CnaError

Status = Literal["ok", "warning", "failed"]

_REMEDY = (
    "upgrade MLX (pip install -U mlx mlx-lm); if that does not help, please report "
    "this screen"
)


@dataclass(frozen=True)
class Fact:
    """A fact.

    Attributes:
        name: its name.
        value: its value; None if unknown.
        unit: ``bytes``, ``GB/s`` and the like; empty for text and counts.
        remark: what the value means.
    """

    name: str
    value: str | int | float | bool | None
    unit: str = ""
    remark: str = ""

    @property
    def key(self) -> str:
        """The key in JSON; that of a number of bytes ends in ``_bytes``."""
        words = f"{self.name} {self.unit}".lower().replace("/s", " per second")
        return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


@dataclass(frozen=True)
class Check:
    """The outcome of a check.

    Attributes:
        name: unique among all checks; :func:`checked` sets it.
        status: ``warning``: it works, with a drawback; ``failed``: it does not work.
        detail: what was found, with figures.
        remedy: what to do; None if the status is ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str | None = None


Item = Fact | Check


@dataclass(frozen=True)
class Section:
    """A title and its items, which are found while they are iterated over."""

    title: str
    items: Iterable[Item]


def ok(detail: str) -> Check:
    """A check that passed."""
    return Check("", "ok", detail)


def warning(detail: str, remedy: str) -> Check:
    """A check that passed with a drawback."""
    return Check("", "warning", detail, remedy)


def failed(detail: str, remedy: str = _REMEDY) -> Check:
    """A check that failed."""
    return Check("", "failed", detail, remedy)


def passed(good: object, detail: str, remedy: str = _REMEDY) -> Check:
    """A check that passed if ``good`` is true, and failed otherwise."""
    return ok(detail) if good else failed(detail, remedy)


def checked(name: str, check: Callable[..., Check], *arguments: Any) -> Check:
    """Run a check and name its outcome; an exception makes it fail."""
    try:
        return replace(check(*arguments), name=name)
    except Exception as error:  # noqa: BLE001  # whatever a broken backend raises
        return failure(name, error)


def failure(name: str, error: Exception) -> Check:
    """The failed check for an exception."""
    if isinstance(error, CnaError):  # its message ends with the remedy
        what, _, remedy = str(error).rpartition(": ")
        return Check(name, "failed", what or remedy, remedy if what else _REMEDY)
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return Check(name, "failed", f"{type(error).__name__}: {line}", _REMEDY)


def anonymous(items: Iterable[Item], secrets: Mapping[str, str]) -> Iterator[Item]:
    """Replace every secret in some items.

    Args:
        items: facts and checks.
        secrets: regular expressions and their replacements.
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
    """The patterns that an issue must not contain.

    Args:
        home: the home directory, replaced by ``~``.
        user: the login name, replaced where it is part of a path.
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
