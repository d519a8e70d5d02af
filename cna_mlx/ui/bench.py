"""Show a benchmark as plain lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cna_mlx.diagnostics.bench import Comparison, Memory, Omitted, Physics, Result
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.ui.console import Screen, folded, folded_after
from cna_mlx.util.formatting import counted

_INDENT = 2
_RATIO = 8
_NOISY = "too noisy"
_REMEDY = ": close other programs, or give a larger --seconds for more pairs"


def environment_lines(screen: Screen, around: Mapping[str, Any]) -> Text:
    """The machine and the versions."""
    versions = ", ".join(f"{name} {one}" for name, one in around["versions"].items())
    parts = [
        f"{around['device']}, {around['system']}",
        f"backend {around['backend']}, BLAS {around['blas']}",
        f"{versions}, Python {around['python']}",
    ]
    return _block(screen, "machine", parts)


def result_lines(screen: Screen, result: Result, before: Sequence[Result]) -> Text:
    """One result, with a heading if it is the first of its kind so far."""
    if isinstance(result, Physics):
        return _block(screen, "what limits decoding", result.lines())
    first = sum(isinstance(one, type(result)) for one in before) == 1
    if isinstance(result, Memory):
        heading = "memory beyond the weights, measured and forecast" if first else ""
        return _block(screen, heading, [_memory(result)])
    if isinstance(result, Omitted):
        needed = f"left out: {result.title}; --seconds {result.seconds} has room for it"
        return _block(screen, "", [needed])
    text = _comparison(screen, result)
    if result.is_noisy:
        compared = (one for one in before if isinstance(one, Comparison))
        remedy = _REMEDY if sum(one.is_noisy for one in compared) == 1 else ""
        noisy = "\n".join(folded(screen, [_NOISY + remedy], _INDENT + _RATIO))
        text.append("\n").append(noisy, style="yellow")
    if not first:
        return text
    return _heading("times faster than the plain way (quartiles)\n").append_text(text)


def closing_line(seconds: float) -> Text:
    """The duration, and how to read the spread."""
    return Text(
        f"\nmeasured in {seconds:.0f} s; other running programs widen the quartiles"
    )


def _comparison(screen: Screen, one: Comparison) -> Text:
    low, median, high = one.ratio
    head = f"{' ' * _INDENT}{median:.2f}x".ljust(_INDENT + _RATIO)
    detail = f"{low:.2f} to {high:.2f} in {counted(len(one.plain), 'pair')}; "
    if one.expected is not None:
        detail += f"{one.expected:.2f} by {one.expected_by}; "
    detail += f"{one.rate:.1f} {one.unit}/s, {one.against}: {one.plain_rate:.1f}"
    text = Text("\n".join(folded_after(screen, head, [one.title])))
    text.stylize("bold", _INDENT, len(head))
    rest = "\n".join(folded(screen, [detail], len(head)))
    return text.append("\n").append(rest, style="dim")


def _memory(one: Memory) -> str:
    return (
        f"{one.title}: at most {gigabytes(one.measured)}, forecast "
        f"{gigabytes(one.forecast)}"
    )


def _heading(text: str) -> Text:
    return Text().append(f"\n{text}", style="bold")


def _block(screen: Screen, heading: str, parts: Sequence[str]) -> Text:
    text = _heading(heading).append("\n") if heading else Text()
    return text.append("\n".join(folded(screen, parts, _INDENT)))
