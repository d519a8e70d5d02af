"""Tables, and lists of what is in the package: no model is needed for them."""

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cna_mlx.prompts import PromptSet
from cna_mlx.ui.console import Screen


def frame(screen: Screen, wanted: box.Box = box.ROUNDED) -> box.Box:
    """The box that is wanted, or the one that this terminal can draw."""
    return box.ASCII if screen.is_ascii else wanted


def plain_table(screen: Screen, *titles: str) -> Table:
    """A table of one rule under its titles."""
    table = Table(box=frame(screen, box.SIMPLE_HEAD), pad_edge=False)
    for title in titles:
        table.add_column(screen.safe(title), overflow="fold")
    return table


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
