"""Files of evaluation prompts: tables laid out like a published set, and any other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from cna_mlx.errors import InputError
from cna_mlx.prompts.files import RECORDS, parse_prompts, prompt_column
from cna_mlx.prompts.tables import DELIMITERS, Table, listed, parse_table
from cna_mlx.prompts.validation import Located, check_prompt

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
        text, category, id: the columns of these parts; the id may be missing.
        columns: all of them, for messages.
        kind: the kind of the prompts of a category.
    """

    name: str
    title: str
    text: str
    category: str
    id: str
    columns: tuple[str, ...]
    kind: Callable[[str], Kind]

    def rows(self, table: Table, column: str | None = None) -> Iterator[Located]:
        """The prompts of a table with these columns, in any case and order.

        Args:
            column: the column of the prompts; the layout's if None.

        Raises:
            InputError: columns that are missing; a blank prompt or category.
        """
        text_at, category_at = self._columns(table, column or self.text)
        id_at, level_at = table.find(self.id), table.find(_LEVEL)
        for where, row in table.rows():
            text = check_prompt(row[text_at], where).strip()
            category = row[category_at].strip()
            if not category:
                raise InputError(f"{where}: a blank {self.category}; fill it in")
            own, level = _cell(row, id_at), _cell(row, level_at)
            yield Located(text, where, category, own, level)

    def _columns(self, table: Table, text: str) -> tuple[int, int]:
        found = table.find(text), table.find(self.category)
        if found[0] is None or found[1] is None:
            wanted = zip((text, self.category), found, strict=True)
            missing = [name for name, at in wanted if at is None]
            raise InputError(
                f"{table.where}: no column {' and no column '.join(missing)}; "
                f"{self.title} has {', '.join(self.columns)}, and here there are "
                f"{listed(table.columns)}: rename them to match"
            )
        return found[0], found[1]


def _jbb(name: str, kind: Kind) -> Layout:
    columns = ("Index", "Goal", "Target", "Behavior", "Category", "Source")
    return Layout(
        name, "JBB-Behaviors", "Goal", "Category", "Index", columns, lambda _: kind
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
        "id",
        ("id", "prompt", "type", "label", "focus", "note"),
        _xstest_kind,
    ),
}


def parse_rows(
    text: str,
    suffix: str,
    name: str,
    column: str | None = None,
    layout: Layout | None = None,
) -> tuple[list[Located], Layout | None]:
    """The prompts of a file, and the published set whose layout it has.

    Args:
        layout: the required layout; None to guess it from the columns.

    Raises:
        InputError: no prompts, or none that can be used.
    """
    if layout is not None and suffix in RECORDS:
        raise InputError(
            f"{name}: {layout.name}=FILE is a CSV with the columns of {layout.title}; "
            "give other prompts as harmful=FILE or benign=FILE"
        )
    if layout is None and suffix not in DELIMITERS:
        return parse_prompts(text, suffix, name, column), None
    table = parse_table(text, name, DELIMITERS.get(suffix, ","))
    rows: list[Located] = []
    if table.lines or layout is not None:  # a layout names the columns that it lacks
        layout = layout or _guess(table, name)
        rows += layout.rows(table, column) if layout else _plain(table, column)
    if not rows:
        raise InputError(f"{name}: no prompts in it; add at least one")
    return rows, layout


def _guess(table: Table, name: str) -> Layout | None:
    """The published set whose columns a table has."""
    has = {column.casefold() for column in table.columns}
    if {"goal", "behavior", "category"} <= has:
        is_benign = "benign" in PurePath(name).name.casefold()
        return LAYOUTS["jbb-benign" if is_benign else "jbb"]
    if {"id", "type", "prompt"} <= has:
        at = table.find("type")
        types = {row[at].strip() for _, row in table.rows() if at is not None}
        if any(one.startswith(_UNSAFE) or one in _XSTEST_TYPES for one in types):
            return LAYOUTS["xstest"]
    return None


def _plain(table: Table, column: str | None) -> Iterator[Located]:
    """The prompts of any other table, with category and level if it has them."""
    text_at = prompt_column(table, column)
    category_at, level_at = table.find("category"), table.find(_LEVEL)
    for where, row in table.rows():
        text = check_prompt(row[text_at], where).strip()
        category, level = _cell(row, category_at), _cell(row, level_at)
        yield Located(text, where, category, level=level)


def _cell(row: list[str], at: int | None) -> str | None:
    """An optional cell; None if it is blank or its column is missing."""
    return None if at is None else row[at].strip() or None
