"""Show a benchmark as plain lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cna_mlx.diagnostics.bench import Comparison, Memory, Physics, Result
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.ui.console import Screen, folded, folded_after

_INDENT = 2
_RATIO = 8


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
    text = _comparison(screen, result)
    if not first:
        return text
    text = _heading("times faster than the plain way (quartiles)\n").append_text(text)
    for physics in before:
        if isinstance(physics, Physics):
            # the first comparison decodes one row: the bound applies to its plain way
            rate = result.plain_rate
            share = physics.share(rate)
            reached = f", {share:.0%} of what memory allows" if share else ""
            said = [f"mlx-lm decodes {rate:.1f} tokens/s{reached}", physics.limit(rate)]
            lines = folded(screen, said, _INDENT + _RATIO)
            text.append("\n").append("\n".join(lines))
    return text


def closing_line(seconds: float) -> Text:
    """The duration, and how to read the spread."""
    return Text(
        f"\nmeasured in {seconds:.0f} s; other running programs widen the quartiles"
    )


def _comparison(screen: Screen, one: Comparison) -> Text:
    low, median, high = one.ratio
    head = f"{' ' * _INDENT}{median:.2f}x".ljust(_INDENT + _RATIO)
    detail = (
        f"{low:.2f} to {high:.2f}; {one.rate:.1f} {one.unit}/s, "
        f"{one.against}: {one.plain_rate:.1f}"
    )
    text = Text("\n".join(folded_after(screen, head, [one.title])))
    text.stylize("bold", _INDENT, len(head))
    rest = "\n".join(folded(screen, [detail], len(head)))
    return text.append("\n").append(rest, style="dim")


def _memory(one: Memory) -> str:
    return (
        f"{one.title}: at most {gigabytes(one.measured)}, forecast "
        f"{gigabytes(one.forecast)}, {one.seconds:.1f} s"
    )


def _heading(text: str) -> Text:
    return Text().append(f"\n{text}", style="bold")


def _block(screen: Screen, heading: str, parts: Sequence[str]) -> Text:
    text = _heading(heading).append("\n") if heading else Text()
    return text.append("\n".join(folded(screen, parts, _INDENT)))
