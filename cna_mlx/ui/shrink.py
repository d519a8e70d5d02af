"""A shrink on the screen: the parts while it runs, then what it found."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.decision import Outcome
from cna_mlx.search.parts import PartCounts
from cna_mlx.search.shrink_result import ShrinkResult
from cna_mlx.search.shrinking import ShownParts
from cna_mlx.ui.console import Screen
from cna_mlx.ui.evaluation import summary_view
from cna_mlx.ui.lists import table_or_lines
from cna_mlx.ui.search import live_view
from cna_mlx.util.formatting import counted, decimal

_SHOWN = 8
_COLUMNS = ("neurons", "by", "refusals lost", "KL", "quality", "mark")


def live_parts(screen: Screen) -> AbstractContextManager[ShownParts]:
    """Draw the smallest parts that still answer on stderr; a line on a pipe."""

    def said(parts: Sequence[PartCounts]) -> str:
        asked = counted(max(one.asked for one in parts), "prompt")
        return f"{counted(len(parts), 'part')}, {asked} so far"

    def table(parts: Sequence[PartCounts]) -> RenderableType:
        smallest = sorted(parts, key=lambda one: one.size)[:_SHOWN]
        return table_or_lines(screen, _COLUMNS, [_row(one, "") for one in smallest])

    return live_view(screen, said, table)


def shrink_view(
    screen: Screen, found: ShrinkResult, path: str | None
) -> RenderableType:
    """What was found, the sizes that were tried, and the answers that judge."""
    parts: list[RenderableType] = [screen.safe(f"\n{found.headline}", "bold")]
    parts += [screen.safe(line) for line in _lines(found, path)]
    parts += [Text(), screen.safe(_curve_title(found), "bold")]
    rows = [_row(one, _mark(found, one)) for one in found.curve]
    parts.append(table_or_lines(screen, _COLUMNS, rows))
    if found.run and found.run.samples():
        label = found.run.arms[1].label
        title = f"{found.halves[1].name}, which did not choose: {label} is the part"
        parts += [Text(), screen.safe(title, "bold")]
        parts += [summary_view(screen, found.run.summary()), parts[0]]
    return Group(*parts)


def _lines(found: ShrinkResult, path: str | None) -> Iterator[str]:
    if found.is_minimal and 1 < found.size < found.whole:
        yield "None of them can be left out; a smaller part of others may exist."
    if found.run and found.run.samples():
        verdict, target = found.run.verdict(), found.run.summary().target
        if verdict.outcome is not Outcome.NOTHING:
            yield verdict.headline
        if target and target.seen:
            yield (
                f"The circuit was found on {target.seen} of these {target.n} prompts; "
                "only the choice of the part did not use them."
            )
    if path:
        yield f"saved to {path}"


def _curve_title(found: ShrinkResult) -> str:
    effect, name = found.effect, found.halves[0].name
    return (
        f"{name}, which chose: of {counted(effect.refusals, 'refusal')} the whole "
        f"circuit turns {effect.lost} into answers; a part that misses too many of "
        "these is asked no more"
    )


def _mark(found: ShrinkResult, one: PartCounts) -> str:
    return "chosen" if one is found.part else ""


def _row(one: PartCounts, mark: str) -> list[str]:
    return [
        str(one.size),
        one.candidate.by,
        f"{one.lost} of {one.refusals}",
        decimal(one.kl),
        decimal(one.quality),
        mark,
    ]
