"""The content of a report: facts, tables, charts, answers.

HTML, Markdown and the terminal's tables are made from these values alone, so that they
cannot disagree. Texts are plain; each format escapes them.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cna_mlx.analysis.verdict import Verdict
from cna_mlx.labels.label import LabelKind
from cna_mlx.util.formatting import decimal, percent

TextLevel = Literal["hidden", "excerpts", "full"]


class Cell(NamedTuple):
    """A figure of a table, and its small print: the interval."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.detail})" if self.detail else self.text


@dataclass(frozen=True)
class ReportTable:
    """Rows of figures, a cell for each column; the first cell names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Point(NamedTuple):
    """A value of a chart with its interval; ``x`` is its place on the axis."""

    x: float
    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether an interval is known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


class Series(NamedTuple):
    """Values that belong together, one for each name or place of the axis."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """A chart; a table has the same figures.

    Attributes:
        kind: ``bars`` are horizontal, one group for each of ``names``; ``lines`` run
            over the points' ``x``, which is ``axis``.
        unit: ``%`` for values in percent, or nothing.
        top: the end of the scale of values; None for what the values need.
    """

    kind: Literal["bars", "lines"]
    title: str
    series: tuple[Series, ...]
    names: tuple[str, ...] = ()
    axis: str = ""
    unit: str = ""
    top: float | None = None

    @property
    def alt(self) -> str:
        """The chart in words, for screen readers."""
        return ". ".join((self.title, *map(self._line, self.series))) + "."

    def _line(self, series: Series) -> str:
        said = [self._spoken(*pair) for pair in enumerate(series.points)]
        return f"{series.name}: {', '.join(said)}"

    def _spoken(self, number: int, point: Point) -> str:
        where = self.names[number] if self.names else f"{self.axis} {point.x:g}"
        return f"{where} {self.shown(point.value)}"

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return percent(value / 100) if self.unit == "%" else decimal(value)


@dataclass(frozen=True)
class ReportSection:
    """A part of what a report says of a run.

    Attributes:
        key: for links; unique in a run.
        title: its heading.
        texts: paragraphs.
        facts: names and values.
        tables, charts: the figures.
        items, items_title: a list below them, and its heading.
        folded: further facts, which a page shows on demand.
    """

    key: str
    title: str
    texts: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[ReportTable, ...] = ()
    charts: tuple[Chart, ...] = ()
    items: tuple[str, ...] = ()
    items_title: str = ""
    folded: tuple[tuple[str, str], ...] = ()


class Piece(NamedTuple):
    """A stretch of a text: plain, the words that decided its label, or a gap."""

    text: str
    kind: Literal["plain", "mark", "gap"] = "plain"


@dataclass(frozen=True)
class ShownAnswer:
    """One arm's answer, as far as it is shown.

    Attributes:
        arm, name: the arm's position in the run (0 is the baseline), and its name.
        label: of the answer.
        pieces: of the text.
        facts: tokens, quality, KL.
        is_truncated: whether it reached the token limit.
    """

    arm: int
    name: str
    label: LabelKind
    pieces: tuple[Piece, ...]
    facts: tuple[str, ...]
    is_truncated: bool


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt with all its answers.

    Attributes:
        number: its position in the run, from 1.
        set, id, kind, category: where it comes from.
        pieces: of its text.
        gauge: its gauge, if known.
        is_seen: whether the discovery saw it or a nearly equal prompt.
        answers: in the order of the arms.
        main: the position of the arm to show next to the baseline, if any.
    """

    number: int
    set: str
    id: str
    kind: str
    category: str | None
    pieces: tuple[Piece, ...]
    gauge: float | None
    is_seen: bool
    answers: tuple[ShownAnswer, ...]
    main: int | None

    @property
    def place(self) -> str:
        """Its set and id; most ids begin with the set already."""
        return self.id if self.id.startswith(self.set) else f"{self.set} {self.id}"


@dataclass(frozen=True)
class RunContent:
    """What a report says of one run.

    Attributes:
        title: the model.
        subtitle: what was done, in a line.
        alerts: what a reader must know before any figure.
        conclusion: the verdict.
        glance, glance_note: the most important figures, and which prompts they are of.
        sections: the rest, in order.
        prompts: every sample.
        arms: the names of the arms.
    """

    title: str
    subtitle: str
    alerts: tuple[str, ...]
    conclusion: Verdict
    glance: tuple[tuple[str, Cell], ...]
    glance_note: str
    sections: tuple[ReportSection, ...]
    prompts: tuple[ShownPrompt, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class ReportContent:
    """A whole report.

    Attributes:
        notices: which texts are shown, and a warning.
        across: all runs in a table; None for a single one.
        reading: definitions of the figures.
        level: how much of prompts and answers is shown.
        footer: what wrote it, and when.
    """

    title: str
    notices: tuple[str, ...]
    across: ReportTable | None
    runs: tuple[RunContent, ...]
    reading: tuple[tuple[str, str], ...]
    level: TextLevel
    footer: str
