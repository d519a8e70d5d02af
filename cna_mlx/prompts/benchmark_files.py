"""Files of evaluation prompts: tables laid out like a published set, and any other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from cna_mlx.errors import InputError
from cna_mlx.prompts.files import located, tag
from cna_mlx.prompts.records import Records
from cna_mlx.prompts.tables import find_name, listed
from cna_mlx.prompts.validation import Located, check_prompt
from cna_mlx.util.progress import SILENT, Reporter

Kind = Literal["harmful", "benign", "unknown"]

_UNSAFE, _LEVEL = "contrast_", "level"
# XSTest's types without their unsafe contrasts.
_XSTEST_TYPES = frozenset(
    {
        "homonyms",
        "figurative_language",
        "safe_targets",
        "safe_contexts",
        "definitions",
        "nons_group_real_discr",
        "real_group_nons_discr",
        "historical_events",
        "privacy_public",
        "privacy_fictional",
    }
)


@dataclass(frozen=True)
class Layout:
    """The columns of a published set.

    Attributes:
        name: what a user calls the set.
        title: what its authors call it.
        text, category: the columns of these parts.
        ids: columns that may have the id, best first.
        columns: all of them, for messages.
        kind: the kind of the prompts of a category.
    """

    name: str
    title: str
    text: str
    category: str
    ids: tuple[str, ...]
    columns: tuple[str, ...]
    kind: Callable[[str], Kind]

    def rows(self, records: Records, column: str | None = None) -> Iterator[Located]:
        """The prompts of records with these columns, in any case and order.

        Args:
            column: the column of the prompts; the layout's if None.

        Raises:
            InputError: columns that are missing; a blank prompt or category.
        """
        text_of, category_of = self._columns(records, column or self.text)
        for where, row in records.rows:
            if not isinstance(row, dict) or not row.keys() >= {text_of, category_of}:
                raise InputError(f"{where}: not like the first record; mend the file")
            text = check_prompt(row[text_of], where).strip()
            category = tag(row, category_of)
            if not category:
                raise InputError(f"{where}: a blank {self.category}; fill it in")
            own = next(filter(None, (tag(row, name) for name in self.ids)), None)
            yield Located(text, where, category, own, tag(row, _LEVEL))

    def _columns(self, records: Records, text: str) -> tuple[str, str]:
        where, names = _header(records)
        wanted = text, self.category
        found = [find_name(names, name) for name in wanted]
        if found[0] is None or found[1] is None:
            missing = [name for name, at in zip(wanted, found, strict=True) if not at]
            raise InputError(
                f"{where}: no column {' and no column '.join(missing)}; "
                f"{self.title} has {', '.join(self.columns)}, and here there are "
                f"{listed(names)}: rename them to match"
            )
        if records.head is not None:
            for name in found:
                records.head.find(str(name))  # two of one name
        return found[0], found[1]


def _jbb(name: str, kind: Kind) -> Layout:
    columns = ("Index", "Goal", "Target", "Behavior", "Category", "Source")
    return Layout(
        name, "JBB-Behaviors", "Goal", "Category", ("Index",), columns, lambda _: kind
    )


def _xstest_kind(type_: str) -> Kind:
    return "harmful" if type_.startswith(_UNSAFE) else "benign"


LAYOUTS = {
    "jbb": _jbb("jbb", "harmful"),
    "jbb-benign": _jbb("jbb-benign", "benign"),
    "xstest": Layout(
        "xstest",
        "XSTest",
        "prompt",
        "type",
        ("id", "id_v2", "id_v1"),  # its older file has the latter two
        ("id", "prompt", "type", "label", "focus", "note"),
        _xstest_kind,
    ),
}


def read_rows(
    records: Records,
    column: str | None = None,
    layout: Layout | None = None,
    reporter: Reporter = SILENT,
) -> tuple[list[Located], Layout | None]:
    """The prompts of a file, and the published set whose layout it has.

    Args:
        layout: the required layout; None to guess it from the columns.

    Raises:
        InputError: no prompts, or none that can be used.
    """
    if layout is not None and records.head is None:
        raise InputError(
            f"{records.name}: {layout.name}=FILE is a CSV with the columns of "
            f"{layout.title}; give other prompts as harmful=FILE or benign=FILE"
        )
    guessed = layout or _guess(records)
    if guessed is None:
        return located(records, column, reporter), None
    if layout is None:
        where = f"{column or guessed.text!r}"
        reporter.note(f"{records.name}: read as {guessed.title}, prompts from {where}")
    rows = list(guessed.rows(records, column))
    if not rows:
        raise InputError(f"{records.name}: no prompts in it; add at least one")
    return rows, guessed


def _guess(records: Records) -> Layout | None:
    """The published set whose columns records have."""
    _, names = _header(records)
    has = {column.casefold() for column in names}
    if {"goal", "behavior", "category"} <= has and "response" not in has:
        is_benign = "benign" in PurePath(records.name).name.casefold()
        return LAYOUTS["jbb-benign" if is_benign else "jbb"]
    xstest = LAYOUTS["xstest"]
    if {"type", "prompt"} <= has and has & set(xstest.ids):
        types = {tag(row, "type") or "" for _, row in records.rows}
        if any(one.startswith(_UNSAFE) or one in _XSTEST_TYPES for one in types):
            return xstest
    return None


def _header(records: Records) -> tuple[str, tuple[str, ...]]:
    """The place of the columns' names, and the names."""
    if records.head is not None:
        return records.head.where, records.head.columns
    where, first = records.rows[0] if records.rows else (records.name, None)
    return where, tuple(first) if isinstance(first, dict) else ()
