"""What the tests of the command line and of the screen share."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paths import PARITY
from rich.console import Console

from cna_mlx import Circuit
from cna_mlx.steering.arms import BASELINE, Arm
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.events import Answer
from cna_mlx.ui.console import Screen

TINY = str(PARITY / "llama_rope3")
SISTER = str(PARITY / "qwen2_bias")  # the same shape, other weights

POSITIVE = ["one red stone", "two red birds", "three red doors", "four red hats"]
NEGATIVE = ["one blue stone", "two blue birds", "three blue doors", "four blue hats"]
QUESTIONS = ["five red cats", "six blue cats", "seven old cats", "eight new cats"]

ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[a-zA-Z]|[=>]|\][^\x07]*\x07)")


def plain(text: str) -> str:
    """What a terminal was sent, without what only moves and colours."""
    return ESCAPE.sub("", text)


@dataclass(frozen=True)
class Outcome:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON on stdout, which holds nothing else."""
        return json.loads(self.out)

    @property
    def failure(self) -> str:
        """The one line that says what went wrong."""
        assert self.out == ""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("cna-mlx:")]
        assert len(lines) == 1, self.err
        assert self.err.endswith(lines[0] + "\n")
        return lines[0]


def make_screen(
    width: int = 80,
    *,
    height: int = 24,
    terminal: bool = True,
    color: bool = True,
    encoding: str = "utf-8",
) -> Screen:
    """A screen that remembers what it was sent; see :func:`sent`."""

    def console() -> Console:
        stream = io.TextIOWrapper(
            io.BytesIO(), encoding=encoding, errors="backslashreplace", newline=""
        )
        return Console(
            file=stream,
            width=width,
            height=height,
            force_terminal=terminal,
            color_system="standard" if terminal and color else None,
            highlight=False,
            markup=False,
            emoji=False,
        )

    return Screen(console(), console())


def sent(console: Console) -> str:
    """Everything a console of :func:`make_screen` was sent."""
    stream = console.file
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)  # type: ignore[attr-defined]


def make_result(
    texts: Sequence[str], prompt: str = "why?", ids: Sequence[Sequence[int]] = ()
) -> PromptResult:
    """A baseline and as many steered arms as there are more texts."""
    circuit = Circuit.from_neurons([(0, 0, 1.0)])
    arms = [BASELINE, *(Arm.of(circuit, 0.5 * n) for n in range(len(texts) - 1))]
    return PromptResult(
        prompt,
        tuple(
            ArmResult.of(
                arm,
                Answer(0, n, texts[n], tuple(ids[n]) if ids else (n,), "stop"),
            )
            for n, arm in enumerate(arms)
        ),
    )
