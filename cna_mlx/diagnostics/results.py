"""Facts and checks, and the removal of secrets from them."""

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
        value: None if unknown.
        unit: ``bytes`` or ``GB/s``, for example; empty for text and counts.
        remark: what the value means.
    """

    name: str
    value: str | int | float | bool | None
    unit: str = ""
    remark: str = ""

    @property
    def key(self) -> str:
        """Return the key in JSON, which ends in the unit."""
        words = f"{self.name} {self.unit}".lower().replace("/s", " per second")
        return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


@dataclass(frozen=True)
class Check:
    """The outcome of a check.

    Attributes:
        name: unique among all checks; :func:`checked` sets it.
        status: ``warning``: it works, with a drawback; ``failed``: it does not work.
        detail: the finding, with figures.
        remedy: what to do; None if the status is ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str | None = None


Item = Fact | Check


@dataclass(frozen=True)
class Section:
    """A title and its items; iterating runs the checks."""

    title: str
    items: Iterable[Item]


def ok(detail: str) -> Check:
    """Return a check that passed."""
    return Check("", "ok", detail)


def warning(detail: str, remedy: str) -> Check:
    """Return a check that passed with a drawback."""
    return Check("", "warning", detail, remedy)


def failed(detail: str, remedy: str = _REMEDY) -> Check:
    """Return a check that failed."""
    return Check("", "failed", detail, remedy)


def passed(good: object, detail: str, remedy: str = _REMEDY) -> Check:
    """Return a check that passed if ``good`` is true, and failed otherwise."""
    return ok(detail) if good else failed(detail, remedy)


def checked(name: str, check: Callable[..., Check], *arguments: Any) -> Check:
    """Run a check and name its outcome; an exception makes it fail."""
    try:
        return replace(check(*arguments), name=name)
    except Exception as error:  # noqa: BLE001  # broken backends raise anything
        return failure(name, error)


def failure(name: str, error: Exception) -> Check:
    """Return the failed check for an exception."""
    if isinstance(error, CnaError):  # its message ends with the remedy
        what, _, remedy = str(error).rpartition(": ")
        return Check(name, "failed", what or remedy, remedy if what else _REMEDY)
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return Check(name, "failed", f"{type(error).__name__}: {line}", _REMEDY)


def anonymous(items: Iterable[Item], secrets: Mapping[str, str]) -> Iterator[Item]:
    """Replace secrets, given as regular expressions and their replacements."""

    def cover(value: Any) -> Any:
        if isinstance(value, str):
            for pattern, mask in secrets.items():
                value = re.sub(pattern, mask, value)
        return value

    for item in items:
        changes = {name: cover(value) for name, value in vars(item).items()}
        yield replace(item, **changes)


def secrets_of(home: Path, user: str | None, token: str | None) -> dict[str, str]:
    """Return patterns of what an issue must not contain, and their replacements.

    The login name is replaced only as part of a path.
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
