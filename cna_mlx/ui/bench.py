"""A benchmark as plain lines: what was compared, how many times faster it is."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cna_mlx.diagnostics.bench import Comparison, Memory, Physics, Result
from cna_mlx.models.memory.machine import gigabytes
from cna_mlx.ui.console import Screen
from cna_mlx.util.sanitize import visible

_INDENT = 2
_RATIO = 8
_SHORTEST = 30


def environment_lines(screen: Screen, around: Mapping[str, Any]) -> Text:
    """The machine and the versions that the figures depend on."""
    versions = ", ".join(f"{name} {one}" for name, one in around["versions"].items())
    parts = [
        f"{around['device']}, {around['system']}",
        f"backend {around['backend']}, BLAS {around['blas']}",
        f"{versions}, Python {around['python']}",
    ]
    return _block(screen, "machine", parts)


def result_lines(screen: Screen, result: Result, before: Sequence[Result]) -> Text:
    """One result; under a heading where it is the first of its kind.

    Args:
        screen: where it will be printed.
        result: what to show.
        before: all results so far, this one included.
    """
    if isinstance(result, Physics):
        return _block(screen, "what limits decoding", result.lines())
    first = sum(isinstance(one, type(result)) for one in before) == 1
    if isinstance(result, Memory):
        heading = "memory beyond the weights, measured and forecast" if first else ""
        return _block(screen, heading, [_memory(result)])
    heading = "times faster than the plain way (quartiles)" if first else ""
    text = _comparison(screen, result)
    if heading:
        text = _heading(heading).append("\n").append_text(text)
    physics = next((one for one in before if isinstance(one, Physics)), None)
    if first and physics is not None:
        # the first comparison is of one row: its plain way is what the bound is for
        rate = result.plain_rate
        share = physics.share(rate)
        reached = f", {share:.0%} of what memory allows" if share else ""
        said = [f"mlx-lm decodes {rate:.1f} tokens/s{reached}", physics.limit(rate)]
        text.append("\n").append("\n".join(_folded(screen, said, _INDENT + _RATIO)))
    return text


def closing_line(seconds: float) -> Text:
    """How long it took, and how far the figures can be trusted."""
    return Text(
        f"\nmeasured in {seconds:.0f} s; other programs at work make wide quartiles"
    )


def _comparison(screen: Screen, one: Comparison) -> Text:
    ratio = one.ratio
    head = f"{' ' * _INDENT}{ratio.median:.2f}x".ljust(_INDENT + _RATIO)
    detail = (
        f"{ratio.low:.2f} to {ratio.high:.2f}; {one.rate:.1f} {one.unit}/s, "
        f"{one.against}: {one.plain_rate:.1f}"
    )
    title = _folded(screen, [one.title], len(head))
    text = Text("\n".join([head + title[0][len(head) :], *title[1:]]))
    text.stylize("bold", _INDENT, len(head))
    rest = "\n".join(_folded(screen, [detail], len(head)))
    return text.append("\n").append(rest, style="dim")


def _memory(one: Memory) -> str:
    return (
        f"{one.title}: {gigabytes(one.measured)} at most, forecast "
        f"{gigabytes(one.forecast)}, {one.seconds:.1f} s"
    )


def _heading(text: str) -> Text:
    return Text().append(f"\n{text}", style="bold")


def _block(screen: Screen, heading: str, parts: Sequence[str]) -> Text:
    text = _heading(heading).append("\n") if heading else Text()
    return text.append("\n".join(_folded(screen, parts, _INDENT)))


def _folded(screen: Screen, parts: Sequence[str], column: int) -> list[str]:
    """Each part in lines that fit on a terminal; on a pipe a line for each."""
    indent = " " * column
    parts = [visible(part, ascii_only=screen.is_ascii) for part in parts]
    if not screen.out.is_terminal:
        return [indent + part for part in parts]
    width = max(screen.out.width, _SHORTEST + column)
    options: dict[str, Any] = {"initial_indent": indent, "subsequent_indent": indent}
    return [
        line
        for part in parts
        for line in textwrap.wrap(part, width, break_on_hyphens=False, **options)
    ]
