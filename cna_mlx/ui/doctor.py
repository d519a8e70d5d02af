"""Show doctor's findings as plain lines that can be pasted into an issue."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from cna_mlx.diagnostics import Check, Fact, Item
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.ui.console import Screen, folded, folded_after
from cna_mlx.util.formatting import counted

_WORDS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}
_STYLES = {"ok": "green", "warning": "bold yellow", "failed": "bold red"}
_INDENT = 2
_STATUS, _FACT, _CHECK = 9, 20, 30
# On narrower terminals, a check's detail is below its name.
_STACK_BELOW = 100


def title_line(title: str) -> Text:
    """The heading of a section."""
    return Text(f"\n{title}", style="bold")


def item_lines(screen: Screen, item: Item) -> Text:
    """A fact or a check; wrapped on a terminal, one line per part on a pipe."""
    if isinstance(item, Fact):
        return _fact(screen, item)
    word = _WORDS[item.status].ljust(_STATUS)
    parts = [item.detail, *([f"remedy: {item.remedy}"] if item.remedy else [])]
    if screen.out.is_terminal and screen.out.width < _STACK_BELOW:
        head, column = f"{' ' * _INDENT}{word}{item.name}", _INDENT + _STATUS
        lines = [head, *folded(screen, parts, column)]
    else:
        head = f"{' ' * _INDENT}{word}{item.name.ljust(_CHECK)}"
        lines = folded_after(screen, head, parts)
    text = Text("\n".join(lines))
    text.stylize(_STYLES[item.status], _INDENT, _INDENT + len(word.strip()))
    return text


def summary_line(checks: Sequence[Check], seconds: float) -> Text:
    """The number of checks by status."""
    counts = Counter(check.status for check in checks)
    warnings = counted(counts["warning"], "warning")
    return Text(
        f"\n{counts['ok']} ok, {warnings}, {counts['failed']} failed in {seconds:.0f} s"
    )


def fact_text(fact: Fact) -> str:
    """A fact's value as text."""
    value = fact.value
    if value is None:
        return "unknown"
    if fact.unit == "bytes":
        return gigabytes(int(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:,}" if isinstance(value, int) else value
    text = f"{text:.1f}" if isinstance(text, float) else text
    return f"{text} {fact.unit}".strip()


def _fact(screen: Screen, fact: Fact) -> Text:
    text = fact_text(fact)
    if fact.remark:
        text += f" ({fact.remark})"
    head = f"{' ' * _INDENT}{fact.name.ljust(_FACT)}"
    return Text("\n".join(folded_after(screen, head, [text])))


def terminal_items(screen: Screen) -> Iterator[Fact]:
    """The capabilities of the terminal."""
    out = screen.out
    kind = "" if out.is_terminal else "not a terminal"
    size = shutil.get_terminal_size()
    yield Fact("size", f"{size.columns} x {size.lines}", remark=kind)
    yield Fact("colours", out.color_system or "none")
    yield Fact("encoding", out.encoding)
    yield Fact("TERM", os.environ.get("TERM") or "not set")
    yield Fact("redraws", screen.is_live, remark="shows answers as they grow")
    yield Fact("line editing", "prompt_toolkit" if screen.is_live else "none")
