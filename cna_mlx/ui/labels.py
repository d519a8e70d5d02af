"""Show the labels of a file's answers: counts, and the words that decided each."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cna_mlx.analysis.statistics import Proportion
from cna_mlx.labels.answer_files import LabelledAnswer
from cna_mlx.labels.label import LabelKind
from cna_mlx.ui.console import LABEL_STYLES, Screen
from cna_mlx.util.formatting import counted, percent, percent_range
from cna_mlx.util.sanitize import first_words, visible

_WIDTH = 100  # columns of a line that is not on a terminal
_LEAST = 24
_CUT = "..."


def labels_view(
    screen: Screen,
    answers: Sequence[LabelledAnswer],
    rates: Mapping[LabelKind, Proportion],
) -> RenderableType:
    """The counts of the labels, then one line per answer with its deciding words."""
    head = counted(len(answers), "answer")
    return Group(
        Text(f"{head}; intervals of 95%", style="bold"),
        *(
            _rate(screen, kind, rate)
            for kind, rate in rates.items()
            if kind is not LabelKind.UNJUDGED or rate.successes
        ),
        Text(),
        *(_line(screen, number, one) for number, one in enumerate(answers, 1)),
    )


def _rate(screen: Screen, kind: LabelKind, rate: Proportion) -> Text:
    line = Text("  ")
    style = LABEL_STYLES[kind] if rate.successes else "dim"
    line.append(f"{kind.value:<8}", style=style)
    line.append(f"  {rate.successes:>5,} of {rate.n:,}  {percent(rate.value):>4}")
    return line.append(f"  [{percent_range(rate.low, rate.high)}]", style="dim")


def _line(screen: Screen, number: int, answer: LabelledAnswer) -> Text:
    line = Text(f"{number:>5}  ", style="dim")
    line.append(f"{answer.label.kind.value:<8}", style=LABEL_STYLES[answer.label.kind])
    line.append("  ")
    width = screen.out.width if screen.out.is_terminal else _WIDTH
    room = max(_LEAST, width - 1 - line.cell_len)
    return line.append_text(_words(screen, answer, room))


def _words(screen: Screen, answer: LabelledAnswer, room: int) -> Text:
    """The deciding words, marked, and as much around them as fits."""
    if not answer.text.strip():
        return Text("(empty)", style="dim")
    if screen.hides_text:
        return screen.safe(first_words(answer.text))
    first, last = answer.label.span or (0, 0)
    before, words, after = (
        visible(" ".join(part.split(" ")), ascii_only=screen.is_ascii)
        .replace("\n", " ")
        .replace("\t", " ")
        for part in (answer.text[:first], answer.text[first:last], answer.text[last:])
    )
    if not words:
        return Text(_end(after.strip(), room))
    words = _end(words, room)
    marked = f"[{words}]" if screen.is_plain else words
    left = max(0, room - len(marked))
    start = _beginning(before.lstrip(), max(left // 3, left - len(after.rstrip())))
    style = f"underline {LABEL_STYLES[answer.label.kind]}"
    return Text.assemble(
        start, (marked, style), _end(after.rstrip(), left - len(start))
    )


def _end(text: str, room: int) -> str:
    """The beginning of a text, as far as it fits."""
    if len(text) <= room:
        return text
    return text[: room - len(_CUT)] + _CUT if room > len(_CUT) else ""


def _beginning(text: str, room: int) -> str:
    """The end of a text, as far as it fits."""
    if len(text) <= room:
        return text
    return _CUT + text[len(text) - room + len(_CUT) :] if room > len(_CUT) else ""
