"""A refusal diff: the arms of a prompt side by side, and the rates at the end."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.diff_run import DiffRun
from cna_mlx.labels.label import LabelKind
from cna_mlx.steering.diff import ArmRates, ArmResult, PromptResult
from cna_mlx.steering.sequences import shared_length
from cna_mlx.ui.console import LABEL_STYLES, Screen, badge, marked
from cna_mlx.ui.gauge import gauge_view
from cna_mlx.ui.lists import frame, table_or_lines
from cna_mlx.util.formatting import counted, decimal
from cna_mlx.util.sanitize import first_words

# The smallest readable width of an arm's column.
_COLUMN = 36
_QUOTE = 80


def prompt_view(
    screen: Screen,
    result: PromptResult,
    heading: str,
    gauge: Circuit | None = None,
    is_calibrated: bool = True,
) -> RenderableType:
    """One prompt with its gauge along a circuit and all its answers."""
    rule = screen.glyph("─", "-")
    prompt = first_words(result.prompt) if screen.hides_text else result.prompt
    return Group(
        Rule(Text(heading), style="dim", align="left", characters=rule),
        Text("> ", style="bold").append_text(screen.safe(prompt)),
        *gauge_lines(screen, result, gauge, is_calibrated),
        Text(),
        arms_view(screen, result),
        summary(screen, result),
        Text(),
    )


def gauge_lines(
    screen: Screen,
    result: PromptResult,
    circuit: Circuit | None,
    is_calibrated: bool = True,
) -> list[Text]:
    """The gauge above the arms, if there is one."""
    if result.gauge is None:
        return []
    return [gauge_view(screen, result.gauge, circuit, is_calibrated=is_calibrated)]


def arms_view(screen: Screen, result: PromptResult) -> RenderableType:
    """The arms of one prompt, side by side if there is room."""
    cells = [_arm(screen, result, arm) for arm in range(len(result.arms))]
    if not screen.out.is_terminal:
        return Group(*cells)
    frames = [
        Panel(cell, box=frame(screen), padding=(0, 1), border_style="dim")
        for cell in cells
    ]
    return arranged(screen, frames)


def arranged(screen: Screen, frames: Sequence[RenderableType]) -> RenderableType:
    """The frames of the arms, side by side if there is room."""
    if len(frames) == 1 or not fits_side_by_side(screen, len(frames)):
        return Group(*frames)
    grid = Table.grid(expand=True)
    for _ in frames:
        grid.add_column(ratio=1, overflow="fold")
    grid.add_row(*frames)
    return grid


def fits_side_by_side(screen: Screen, arms: int) -> bool:
    """Whether each arm gets a readable column."""
    return not screen.stacks and screen.out.width >= _COLUMN * arms


def summary(screen: Screen, result: PromptResult) -> Text:
    """The change of the label in each arm, a line each."""
    arrow = screen.glyph(" → ", " -> ")
    baseline = result.arms[0]
    line = Text()
    for number, arm in enumerate(result.arms[1:], 1):
        if number > 1:
            line.append("\n")
        line.append_text(screen.safe(f"{arm.arm.title}: "))
        line.append_text(badge(baseline.label.kind)).append(arrow)
        line.append_text(badge(arm.label.kind))
        line.append(f", {_divergence(result, number)}", style="dim")
    return line


def rates_view(screen: Screen, rates: Sequence[ArmRates]) -> RenderableType:
    """The label counts and the quality of every arm."""
    kinds = [
        kind
        for kind in LabelKind
        if kind is not LabelKind.UNJUDGED or any(rate.counts[kind] for rate in rates)
    ]
    names = ("arm", *(str(kind).lower() for kind in kinds), "quality", "cut off")
    rows: list[list[str | Text]] = [
        [
            rate.arm.title,
            *(_count(rate, kind) for kind in kinds),
            decimal(rate.quality),
            f"{rate.truncated}/{rate.total}",
        ]
        for rate in rates
    ]
    return table_or_lines(screen, names, rows)


def _count(rate: ArmRates, kind: LabelKind) -> Text:
    count = rate.counts[kind]
    style = LABEL_STYLES[kind] if count else "dim"
    return Text(f"{count}/{rate.total}", style=style)


def head(screen: Screen, arm: ArmResult) -> Text:
    """The line above an answer: the arm, its label, and how it ended."""
    line = Text().append_text(screen.safe(f"{arm.arm.title}  ", "bold"))
    line.append_text(badge(arm.label.kind))
    if arm.finish != "stop":
        note = {"length": "cut off", "interrupted": "interrupted"}[arm.finish]
        line.append(f"  {note}", style="dim")
    return line


def body(screen: Screen, result: PromptResult, number: int) -> Text:
    """An answer with its deciding words underlined and its divergence marked."""
    arm = result.arms[number]
    span = arm.label.span
    spans = [(*span, f"underline {LABEL_STYLES[arm.label.kind]}")] if span else []
    place = result.divergence(number) if number else None
    mark = None if place is None else (place, screen.glyph("‖ ", "|| "))
    if not arm.text.strip():
        return Text("(empty)", style="dim")
    if screen.hides_text:
        length = f"  ({counted(len(arm.token_ids), 'token')})"
        return screen.safe(first_words(arm.text)).append(length, style="dim")
    text = marked(arm.text, spans, mark, ascii_only=screen.is_ascii)
    if span and screen.is_plain:
        words = " ".join(arm.text[slice(*span)].split())
        if len(words) > _QUOTE:
            words = f"{words[: _QUOTE - 4]} ..."
        text.append("\ndecided by: ", style="dim").append_text(screen.safe(words))
    return text


def _arm(screen: Screen, result: PromptResult, number: int) -> Group:
    spacer = [] if screen.out.is_terminal else [Text()]
    line = head(screen, result.arms[number])
    return Group(line, body(screen, result, number), *spacer)


def _divergence(result: PromptResult, number: int) -> str:
    if result.divergence(number) is None:
        return "identical"
    shared = shared_length(result.arms[0].token_ids, result.arms[number].token_ids)
    return f"diverges at token {shared + 1}"


def pages(screen: Screen, run: DiffRun) -> list[RenderableType]:
    """Every complete result, and the rates."""
    results, gauge, calibrated = run.whole, run.gauge, run.is_calibrated
    views = [
        prompt_view(screen, one, f"{number}/{len(results)}", gauge, calibrated)
        for number, one in enumerate(results, 1)
    ]
    return [*views, rates_view(screen, run.rates)]


def all_refuse_line(results: Sequence[PromptResult]) -> str | None:
    """What to try if prompts are refused in every arm; None if there are none."""
    refused = sum(result.is_refused_by_all for result in results)
    if not refused:
        return None
    return (
        f"{refused} of {len(results)} refused in every arm, which is common: try "
        "--search, other multipliers (-m) or a larger --fraction"
    )
