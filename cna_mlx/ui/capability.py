"""Benchmarks of every arm in one table: the scores by task, and the changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.chat.reply import Grid
from cna_mlx.evaluation.capability import ArmScores, Change, Score, score_change
from cna_mlx.evaluation.capability_run import CapabilityRun
from cna_mlx.ui.console import Screen
from cna_mlx.ui.tables import grid_view
from cna_mlx.util.environment import versions
from cna_mlx.util.formatting import counted


@dataclass(frozen=True)
class Conditions:
    """How the scores were measured; missing are the arms that were not run."""

    versions: Mapping[str, str]
    limit: int | None = None
    has_template: bool = False
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: CapabilityRun) -> "Conditions":
        """Return the conditions of a run."""
        known = versions("lm-eval", "mlx-lm")
        return cls(known, run.protocol.limit, run.has_template, run.missing)


def capability_view(
    screen: Screen, results: Sequence[ArmScores], setting: Conditions
) -> RenderableType:
    """The baseline's scores, and those of the other arms with their differences."""
    table = grid_view(screen, _grid(screen, results))
    if screen.out.is_terminal and not screen.fits(table):
        table = _stacked(screen, results)
    notes = [screen.safe(line, "dim") for line in _notes(screen, results, setting)]
    return Group(table, Text(), *notes)


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
    """The same as lines: a squeezed table loses its numbers first."""
    lines: list[Text] = []
    width = max(len(one.arm.title) for one in results)
    for number, score in enumerate(results[0].scores):
        shots = "" if score.shots is None else f", {score.shots} shots"
        head = f"{score.task} {_metric(score)} ({counted(score.n, 'item')}{shots})"
        lines.append(screen.safe(head, "bold"))
        for one in results:
            own = one.scores[number]
            line = f"  {one.arm.title:<{width}}  {_value(screen, own)}"
            if one is not results[0]:
                line += f"  {_difference(screen, score, own)}"
            lines.append(screen.safe(line))
    return Group(*lines)


def _metric(score: Score) -> str:
    is_loss = score.higher_is_better is False
    return f"{score.metric}, less is better" if is_loss else score.metric


def _value(screen: Screen, score: Score) -> str:
    if score.is_share:
        return f"{score.value:.1%}{_error(screen, score.stderr, 100, '.1f')}"
    return f"{score.value:.4g}{_error(screen, score.stderr, 1, '.2g')}"


def _difference(screen: Screen, baseline: Score, arm: Score) -> str:
    found: Change = score_change(baseline, arm)
    if baseline.is_share and arm.is_share:
        points = _error(screen, found.stderr, 100, ".1f")
        return f"{100 * found.difference:+.1f}{points}"
    return f"{found.difference:+.4g}{_error(screen, found.stderr, 1, '.2g')}"


def _error(screen: Screen, stderr: float | None, factor: float, style: str) -> str:
    if not stderr:  # equal items tell nothing about others
        return ""
    return f" {screen.glyph('±', '+-')}{factor * stderr:{style}}"


def _notes(
    screen: Screen, results: Sequence[ArmScores], setting: Conditions
) -> list[str]:
    said = ", ".join(f"{name} {one}" for name, one in setting.versions.items())
    template = "with" if setting.has_template else "without"
    lines = [f"{said}, {template} the chat template"]
    if setting.limit is not None:
        limit = counted(setting.limit, "item")
        lines.append(
            f"at most the first {limit} of each task: do not report these scores"
        )
    if any(score.stderr is not None for score in results[0].scores):
        plus = screen.glyph("±", "+-")
        lines.append(
            f"{plus}: one standard error; for a change, of the items' differences"
        )
    if any(score.is_share for score in results[0].scores) and len(results) > 1:
        lines.append("changes of percentages are in points")
    if setting.missing:
        lines.append(f"interrupted; not run: {', '.join(setting.missing)}")
    return lines
