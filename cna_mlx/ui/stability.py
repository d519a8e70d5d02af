"""How stable a circuit is, on the screen: the findings, then the figures."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.report.stability_page import fraction_text, tenth_rows
from cna_mlx.search.stability import Stability
from cna_mlx.search.stability_text import a_side, overlap_text, stability_lines
from cna_mlx.ui.console import Screen
from cna_mlx.ui.lists import bullets, table_or_lines
from cna_mlx.util.formatting import decimal

_BAR = 30


def stability_view(screen: Screen, found: Stability) -> RenderableType:
    """The findings, then a table for each kind of change."""
    return Group(*bullets(screen, stability_lines(found)), *_parts(screen, found))


def _parts(screen: Screen, found: Stability) -> Iterator[RenderableType]:
    yield from _heading(screen, "neurons by how many resamples choose them")
    yield from _bars(screen, found)
    yield from _heading(screen, "overlap of circuits, mean (least to largest)")
    names = ("prompts a side", "two subsets", "with all prompts")
    rows = [
        [a_side(one.prompts), overlap_text(one.disjoint), overlap_text(one.circuit)]
        for one in found.subsets
    ]
    yield table_or_lines(screen, names, rows)
    names = ("neurons", "two halves", "by chance")
    rows = [
        [
            f"{fraction_text(one.fraction)} ({one.k:,})",
            overlap_text(one.halves),
            decimal(one.halves.chance, 4),
        ]
        for one in found.fractions
    ]
    yield table_or_lines(screen, names, rows)


def _heading(screen: Screen, text: str) -> Iterator[RenderableType]:
    yield Text()
    yield screen.safe(text, "bold")


def _bars(screen: Screen, found: Stability) -> Iterator[Text]:
    rows = tenth_rows(found)
    most = max(1, *(count for _, count in rows))
    for name, count in rows:
        bar = screen.glyph("\u2588", "#") * -(-_BAR * count // most)
        line = Text(f"  {name:>10}  ").append(bar, style="cyan")
        yield line.append(f" {count}")
