"""The content of a report: facts, tables, charts, answers.

HTML, Markdown and the terminal's tables are made from these values alone, so that they
cannot disagree. Texts are plain; each format escapes them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cna_mlx.analysis.verdict import Verdict
from cna_mlx.evaluation.samples import Sample
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
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
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
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """A chart; a table has the same figures.

    Attributes:
        kind: ``bars`` are horizontal, one group for each of ``names``; ``lines`` run
            over the points' ``x``, which is ``axis``.
        unit: ``%`` or nothing.
        top: the end of the scale; None for what the values need.
    """

    kind: Literal["bars", "lines"]
    title: str
    series: Sequence[Series]
    names: Sequence[str] = ()
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


class Mark(NamedTuple):
    """A shape of a picture: path data, classes of the page's style, a tooltip."""

    d: str
    look: str
    said: str = ""


class Caption(NamedTuple):
    """A text of a picture, from ``x`` on, or with its middle or its end there."""

    x: float
    y: float
    text: str
    look: str = ""  # ``middle``, ``end``, ``strong``, ``soft``


@dataclass(frozen=True)
class Picture:
    """A picture in the page itself; its colours follow the page."""

    title: str
    alt: str  # what it shows, in words
    width: float
    height: float
    parts: Sequence[Mark | Caption]
    note: str = ""

    @property
    def marks(self) -> list[Mark]:
        """The shapes, the lowest first; captions are above all."""
        return [one for one in self.parts if isinstance(one, Mark)]

    @property
    def captions(self) -> list[Caption]:
        """The texts."""
        return [one for one in self.parts if isinstance(one, Caption)]


class Piece(NamedTuple):
    """A stretch of a text: plain, the words that decided its label, or a gap."""

    text: str
    kind: Literal["plain", "mark", "gap"] = "plain"


class ShownFiring(NamedTuple):
    """A token at which a neuron is high or low, marked in its prompt."""

    activation: str
    source: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class ShownNeuron:
    """A neuron's page, as far as it is shown."""

    title: str
    facts: Sequence[tuple[str, str]]
    highest: Sequence[ShownFiring]
    lowest: Sequence[ShownFiring]


@dataclass(frozen=True)
class ReportSection:
    """A part of what a report says of a run."""

    key: str  # for links; unique in a run
    title: str
    texts: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[ReportTable] = ()
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()
    neurons: Sequence[ShownNeuron] = ()
    items: Sequence[str] = ()
    items_title: str = ""
    folded: Sequence[tuple[str, str]] = ()  # facts that a page shows on demand


@dataclass(frozen=True)
class ShownAnswer:
    """An answer, as far as it is shown."""

    sample: Sample
    arm: int  # position in the run; 0 is the baseline
    pieces: Sequence[Piece]
    facts: Sequence[str]  # tokens, quality, KL


class ShownWord(NamedTuple):
    """A word of a prompt and the gauge up to it; ``shade`` goes from 0 to 4."""

    text: str
    gauge: float
    shade: int
    is_most: bool  # it raises the gauge most


class FirstPair(NamedTuple):
    """A first token of answers: the probability in the baseline and the main arm."""

    text: str
    baseline: float
    main: float


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt with its answers in the order of the arms."""

    pieces: Sequence[Piece]
    is_seen: bool  # the discovery saw it or a nearly equal prompt
    answers: Sequence[ShownAnswer]
    main: int | None  # position of the arm to show next to the baseline
    words: Sequence[ShownWord] = ()
    rise: str = ""  # which word raises the gauge most
    first: Sequence[FirstPair] = ()

    @property
    def sample(self) -> Sample:
        """The baseline's answer: it says where the prompt comes from."""
        return self.answers[0].sample

    @property
    def place(self) -> str:
        """Its set and id; most ids begin with the set already."""
        one = self.sample
        return one.id if one.id.startswith(one.set) else f"{one.set} {one.id}"


@dataclass(frozen=True)
class RunContent:
    """What a report says of one run."""

    title: str
    subtitle: str
    alerts: Sequence[str]  # what a reader must know before any figure
    conclusion: Verdict
    glance: Sequence[tuple[str, Cell]]  # the most important figures
    glance_note: str  # which prompts they are of
    sections: Sequence[ReportSection]
    prompts: Sequence[ShownPrompt]
    arms: Sequence[str]


@dataclass(frozen=True)
class ReportContent:
    """A whole report."""

    title: str
    notices: Sequence[str]  # which texts are shown, and a warning
    across: ReportTable | None  # all runs, if there are several
    runs: Sequence[RunContent]
    reading: Sequence[tuple[str, str]]  # definitions of the figures
    level: TextLevel
    footer: str
    hints: Sequence[str] = ()  # what to type for more


@dataclass(frozen=True)
class Page:
    """A page of sections about something other than a run."""

    kind: str  # what it is a page of
    title: str
    subtitle: str
    headline: str
    sentences: Sequence[str]
    sections: Sequence[ReportSection]
    footer: str
    hints: Sequence[str] = ()


@dataclass(frozen=True)
class ShownRun:
    """A run on the page of runs; texts are empty where nothing is known.

    Attributes:
        command: that made the run.
        link: the address of its report.
        hint: what to type for its report, where that is missing or old.
        is_old: whether prompts were answered after the report was written.
        before, after: the refusal rates.
        fell: their difference, to sort by.
        problem: what is wrong with its files.
        note: what to know about its labels.
    """

    name: str
    command: str
    link: str
    hint: str
    is_old: bool
    model: str
    circuit: str
    outcome: str
    headline: str
    before: str
    after: str
    prompts: str
    fell: str
    date: str
    state: str
    state_text: str
    problem: str
    note: str


@dataclass(frozen=True)
class RunsContent:
    """The page of runs."""

    title: str
    subtitle: str
    runs: Sequence[ShownRun]
    footer: str
    hints: Sequence[str] = ()
