"""Read a user's tables: CSV and TSV, with a header in any case."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cna_mlx.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Prompts may be long; the largest value of a C long on some platforms.
_FIELD_LIMIT = 2**31 - 1
_MOST_LISTED = 12


@dataclass(frozen=True)
class Table:
    """A header and the rows below it.

    Attributes:
        where: the header's place, for messages.
        columns: its names, stripped; empty for an empty file.
        lines: each row with the place where it begins.
    """

    where: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, list[str]], ...]

    def find(self, name: str) -> int | None:
        """The column of a name: exactly as written if there is one, else in any case.

        Raises:
            InputError: two columns have the name.
        """
        found = find_name(self.columns, name)
        if found is None:
            return None
        if self.columns.count(found) > 1:
            raise InputError(
                f"{self.where}: two columns are named {found!r}; rename one"
            )
        return self.columns.index(found)

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """The rows, each with its place.

        Raises:
            InputError: a row has more or fewer fields than the header.
        """
        for where, row in self.lines:
            if len(row) != len(self.columns):
                raise InputError(
                    f"{where}: {len(row)} fields where the header has "
                    f"{len(self.columns)}; put text with a delimiter into double quotes"
                )
            yield where, row


def parse_table(text: str, name: str, delimiter: str = ",") -> Table:
    """A table from its text.

    Raises:
        InputError: quotes that do not close.
    """
    # strict: an open quote would otherwise swallow the rest of the file. The limit is
    # the module's, for all readers: it is raised for this table alone.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        lines, start = [], 1
        for row in reader:
            if row:
                lines.append((f"{name}, line {start}", row))
            start = reader.line_num + 1
    except csv.Error as error:
        reason = str(error).replace("\t", "tab")
        raise InputError(
            f"{name}, line {start}: {reason}; close each quote, and double those inside"
        ) from error
    finally:
        csv.field_size_limit(limit)
    where, header = lines[0] if lines else (name, [])
    return Table(where, tuple(cell.strip() for cell in header), tuple(lines[1:]))


def find_name(names: Sequence[str], wanted: str) -> str | None:
    """A name as it is written there: exactly as wanted, else in any case."""
    if wanted in names:
        return wanted
    folded = wanted.casefold()
    return next((name for name in names if name.casefold() == folded), None)


def listed(names: Sequence[str]) -> str:
    """Names from outside for a message of one line, cut where there are many."""
    present = ", ".join(map(clip, names[:_MOST_LISTED])) or "none"
    return f"{present}, ..." if len(names) > _MOST_LISTED else present


def clip(name: str) -> str:
    """A name from outside in quotes, cut if it is long."""
    return repr(name if len(name) <= 40 else name[:37] + "...")
