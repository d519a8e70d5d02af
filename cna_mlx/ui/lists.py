"""Tables that become lines on a narrow screen, and lists of prompts."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import Benchmark
from cna_mlx.ui.console import Screen

_Names = Sequence[str]
_Rows = Sequence[Sequence[str | Text]]


def frame(screen: Screen, wanted: box.Box = box.ROUNDED) -> box.Box:
    """The wanted box, or the one that this terminal can draw."""
    return box.ASCII if screen.is_ascii else wanted


def plain_table(screen: Screen, *titles: str) -> Table:
    """A table with one rule under its titles."""
    table = Table(box=frame(screen, box.SIMPLE_HEAD), pad_edge=False)
    for title in titles:
        table.add_column(screen.safe(title), overflow="fold")
    return table


def table_or_lines(screen: Screen, names: _Names, rows: _Rows) -> RenderableType:
    """Rows as a table, or a line each if the table does not fit.

    A row begins with its name; a row with one cell is a heading.
    """
    table = _table(screen, names, rows)
    if screen.fits(table):
        return table
    # a squeezed table loses its numbers first
    return Group(*(_line(screen, names, row) for row in rows))


def one_table_or_two(
    screen: Screen, left: tuple[_Names, _Rows], right: tuple[_Names, _Rows]
) -> RenderableType:
    """Two parts of the same rows as one table, or below each other if it does not fit.

    The second then begins with the names of the rows too.
    """
    (names, rows), (titles, more) = left, right
    whole = [[*row, *rest] for row, rest in zip(rows, more, strict=True)]
    table = _table(screen, [*names, *titles], whole)
    if screen.fits(table):
        return table
    named = [[row[0], *rest] for row, rest in zip(rows, more, strict=True)]
    return Group(
        table_or_lines(screen, names, rows),
        table_or_lines(screen, [names[0], *titles], named),
    )


def _table(screen: Screen, names: _Names, rows: _Rows) -> Table:
    table = Table(box=frame(screen, box.SIMPLE), pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        justify = "right" if number else "left"
        table.add_column(screen.safe(name), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(c if isinstance(c, Text) else screen.safe(c) for c in row))
    return table


def _line(screen: Screen, names: Sequence[str], row: Sequence[str | Text]) -> Text:
    if len(row) == 1:
        return screen.safe(str(row[0]))
    pairs = zip(names[1:], map(str, row[1:]), strict=True)
    said = [f"{name} {cell}" for name, cell in pairs if cell.strip(" -")]
    first = str(row[0])
    if first.isdecimal():  # a number says nothing without its title
        first = f"{names[0]} {first}"
    return screen.safe(f"{first}: {', '.join(said)}")


def bullets(screen: Screen, sentences: Sequence[str]) -> list[RenderableType]:
    """Sentences as a list, folded under their marks on a terminal."""
    mark = screen.glyph("\u2022 ", "- ")
    if not screen.out.is_terminal:
        return [screen.safe(mark + sentence) for sentence in sentences]
    parts: list[RenderableType] = []
    for sentence in sentences:
        row = Table.grid(padding=(0, 0))
        row.add_column(width=2)
        row.add_column(overflow="fold")
        row.add_row(Text(mark), screen.safe(sentence))
        parts.append(row)
    return parts


def prompt_sets_view(screen: Screen, sets: Sequence[PromptSet]) -> Table:
    """The built-in contrasts, a line each."""
    table = plain_table(screen, "name", "sides", "what tells them apart")
    for one in sets:
        positive, negative = one.sizes
        sides = f"{positive} {one.positive_label} / {negative} {one.negative_label}"
        table.add_row(one.name, sides, one.description)
    return table


def prompts_view(screen: Screen, one: PromptSet) -> RenderableType:
    """All the prompts of one contrast."""
    parts: list[RenderableType] = [Text(one.description)]
    for label, prompts in (
        (one.positive_label, one.positive),
        (one.negative_label, one.negative),
    ):
        parts += [Text(), Text(f"{label} ({len(prompts)})", style="bold")]
        parts += [Text("  ").append_text(screen.safe(prompt)) for prompt in prompts]
    return Group(*parts)


def benchmark_view(screen: Screen, one: Benchmark) -> RenderableType:
    """All the prompts of one set to evaluate on, by kind and category."""
    origin = (one.source, one.licence, one.citation, one.note)
    parts: list[RenderableType] = [screen.safe(", ".join(filter(None, origin)))]
    heading = ""
    for prompt in one.prompts:
        title = ", ".join(filter(None, (str(prompt.kind), prompt.category)))
        if title != heading:
            parts += [Text(), screen.safe(title, "bold")]
            heading = title
        parts.append(Text("  ").append_text(screen.safe(prompt.text)))
    return Group(*parts)
