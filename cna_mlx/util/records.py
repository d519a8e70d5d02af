"""Dataclasses as JSON: results to write, and files that are read and written back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from cna_mlx.errors import RequestError
from cna_mlx.util.reading import parse_json


class JsonFields:
    """A dataclass of figures that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; null for what is not known."""
        return {one.name: plain(getattr(self, one.name)) for one in fields(self)}  # type: ignore[arg-type]


# A whole number beyond it cannot be one of floating point.
_LARGEST = 10**300


@dataclass(frozen=True)
class Record:
    """A JSON object whose known keys are fields.

    Reading never fails over an optional field: a missing key or a value of another type
    leaves the default. Writing returns what was read (``stored``) with the fields that
    have a value on top, so that a file keeps its unknown keys.
    """

    #: Whether a record that was made here writes the fields that are None.
    WRITES_NULL: ClassVar[bool] = True

    stored: Mapping[str, Any] | None = field(
        default=None, kw_only=True, repr=False, compare=False
    )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read an object.

        Raises:
            TypeError: it is not an object, or a field without a default is missing.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"{data!r:.80} is not an object")
        hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]  # it is hashable
        values = {}
        for one in _known(cls):
            try:
                values[one.name] = _read(hints[one.name], data[one.name])
            except (KeyError, TypeError):
                continue
        return cls(**values, stored=data)

    @classmethod
    def nulls(cls, *left_out: str) -> dict[str, None]:
        """Every key with null: what ``stored`` is for a record that writes all keys."""
        return {one.name: None for one in _known(cls) if one.name not in left_out}

    def to_dict(self) -> dict[str, Any]:
        """Return the object for JSON."""
        data = dict(self.stored or {})
        writes_all = self.stored is None and self.WRITES_NULL
        for one in _known(type(self)):
            value = getattr(self, one.name)
            if writes_all or value != _default(one):
                data[one.name] = plain(value)
        return data


def typed_fields(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields of a dataclass, each of its declared type.

    Raises:
        TypeError: one is of another type.
    """
    hints = _hints(cls)
    known = (one.name for one in fields(cls) if one.name in data)
    return {name: _read(hints[name], data[name]) for name in known}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _known(cls: type[Record]) -> Iterator[Field[Any]]:
    return (one for one in fields(cls) if one.name != "stored")


def _default(one: Field[Any]) -> Any:
    made = one.default_factory
    return one.default if made is MISSING else made()


def _read(hint: Any, value: Any) -> Any:
    """The value as the type hint has it.

    Raises:
        TypeError: it is of another type.
    """
    origin, of = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is UnionType:
        return None if value is None else _read(_only(of), value)
    if origin is tuple and isinstance(value, list | tuple):
        return _read_tuple(of, value)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _read(of[1], one) for key, one in value.items()}
    if origin is Literal and type(value) is type(of[0]):
        return value  # a later version may know more of them
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value)
    if type(value) is hint or (
        hint is float and type(value) is int and abs(value) <= _LARGEST
    ):
        return value
    raise TypeError(f"{value!r:.80} is not {hint}")


def _read_tuple(of: tuple[Any, ...], value: Sequence[Any]) -> tuple[Any, ...]:
    if of[-1] is not Ellipsis:
        if len(of) != len(value):
            raise TypeError(f"{value!r:.80} does not have {len(of)} parts")
        return tuple(map(_read, of, value))
    if of[0] is int and set(map(type, value)) <= {int}:  # token ids: fast
        return tuple(value)
    return tuple(_read(of[0], one) for one in value)


def _only(of: tuple[Any, ...]) -> Any:
    return next(one for one in of if one is not NoneType)


def plain(value: Any) -> Any:
    """A value for JSON: NaN is null, and an enum's key its name in lower case."""
    if isinstance(value, JsonFields | Record):
        return value.to_dict()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {_key(key): plain(one) for key, one in value.items()}
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _key(key: Any) -> Any:
    return key.name.lower() if isinstance(key, Enum) else key


def parse_document(
    text: str,
    kind: str,
    newest: int,
    name: str,
    failure: type[RequestError],
    *,
    finite: bool = True,
) -> dict[str, Any]:
    """Read a file of ours: a JSON object with its ``kind`` and ``format``."""
    try:
        data = parse_json(text, finite=finite)
    except ValueError as error:
        raise failure(f"{name}: it is not JSON, or cut off ({error})") from None
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise failure(f"{name}: this is JSON, but not a {kind}")
    version = data.get("format")
    if type(version) is not int or version < 1:
        raise failure(f"{name}: the format {version!r} is unknown")
    if version > newest:
        raise failure(
            f"{name}: format {version} is newer than this cna-mlx reads ({newest}): "
            "upgrade cna-mlx"
        )
    return data
