"""Benchmarks of every arm in one table: task by metric, with what changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.chat.reply import Grid
from cna_mlx.evaluation.capability import ArmScores, Change, Score, change
from cna_mlx.evaluation.capability_run import CapabilityRun
from cna_mlx.ui.console import Screen
from cna_mlx.ui.tables import grid_view
from cna_mlx.util.environment import versions
from cna_mlx.util.formatting import counted


@dataclass(frozen=True)
class Setting:
    """How the figures were made, as far as they do not say it themselves.

    Attributes:
        versions: of lm-eval and mlx-lm.
        limit: items of each task, at most; None: all.
        has_template: whether the prompts went through a chat template.
        missing: arms that were not done.
    """

    versions: Mapping[str, str]
    limit: int | None = None
    has_template: bool = False
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: CapabilityRun) -> "Setting":
        """How a run's figures were made."""
        return cls(
            versions("lm-eval", "mlx-lm"),
            run.protocol.limit,
            run.has_template,
            run.missing,
        )


def capability_view(
    screen: Screen, results: Sequence[ArmScores], setting: Setting
) -> RenderableType:
    """The baseline's scores, and each arm's with its difference.

    Args:
        screen: where it will be printed.
        results: the baseline, then the others.
        setting: what to say below the figures.
    """
    table = grid_view(screen, _grid(screen, results))
    notes = [screen.safe(line) for line in _notes(screen, results, setting)]
    for note in notes:
        note.stylize("dim")
    return Group(
        table if _fits(screen, table) else _stacked(screen, results), Text(), *notes
    )


def _fits(screen: Screen, table: RenderableType) -> bool:
    # a pipe's lines are as long as they are
    return not screen.out.is_terminal or screen.fits(table)


def _grid(screen: Screen, results: Sequence[ArmScores]) -> Grid:
    arms = [title for one in results[1:] for title in (one.arm.title, "change")]
    titles = (results[0].arm.title, *arms, "n", "shots", "metric", "task")
    rows = []
    for number, score in enumerate(results[0].scores):
        cells = [_value(screen, score)]
        for one in results[1:]:
            own = one.scores[number]
            cells += [_value(screen, own), _difference(screen, score, own)]
        shots = "" if score.shots is None else str(score.shots)
        name = "  " * score.depth + score.task
        rows.append((*cells, f"{score.n:,}", shots, _metric(score), name))
    return Grid(titles, tuple(rows), len(titles) - 2)


def _stacked(screen: Screen, results: Sequence[ArmScores]) -> Group:
    """The same below each other: a table that is squeezed loses its numbers first."""
    lines: list[Text] = []
    width = max(len(one.arm.title) for one in results)
    for number, score in enumerate(results[0].scores):
        shots = "" if score.shots is None else f", {score.shots} shots"
        head = f"{score.task} {_metric(score)} ({counted(score.n, 'item')}{shots})"
        lines.append(screen.safe(head))
        lines[-1].stylize("bold")
        for one in results:
            own = one.scores[number]
            line = f"  {one.arm.title:<{width}}  {_value(screen, own)}"
            if one is not results[0]:
                line += f"  {_difference(screen, score, own)}"
            lines.append(screen.safe(line))
    return Group(*lines)


def _metric(score: Score) -> str:
    return score.metric + (
        ", less is better" if score.higher_is_better is False else ""
    )


def _value(screen: Screen, score: Score) -> str:
    if score.is_share:
        return f"{score.value:.1%}{_error(screen, score.stderr, 100, '.1f')}"
    return f"{score.value:.4g}{_error(screen, score.stderr, 1, '.2g')}"


def _difference(screen: Screen, baseline: Score, arm: Score) -> str:
    found: Change = change(baseline, arm)
    if baseline.is_share and arm.is_share:
        points = _error(screen, found.stderr, 100, ".1f")
        return f"{100 * found.difference:+.1f}{points}"
    return f"{found.difference:+.4g}{_error(screen, found.stderr, 1, '.2g')}"


def _error(screen: Screen, stderr: float | None, factor: float, style: str) -> str:
    if stderr is None:
        return ""
    return f" {screen.glyph('±', '+-')}{factor * stderr:{style}}"


def _notes(screen: Screen, results: Sequence[ArmScores], setting: Setting) -> list[str]:
    said = ", ".join(f"{name} {one}" for name, one in setting.versions.items())
    template = "with" if setting.has_template else "without"
    lines = [f"{said}, {template} the chat template"]
    if setting.limit is not None:
        limit = counted(setting.limit, "item")
        lines.append(f"the first {limit} of each task at most: no figures to report")
    if any(score.stderr is not None for score in results[0].scores):
        plus = screen.glyph("±", "+-")
        lines.append(
            f"{plus}: one standard error; of a change, that of the items' differences"
        )
    if any(score.is_share for score in results[0].scores) and len(results) > 1:
        lines.append("changes of a percentage are in points")
    if setting.missing:
        lines.append(f"interrupted; not done: {', '.join(setting.missing)}")
    return lines
