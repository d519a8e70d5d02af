"""What the tests of the command line and of the screen share."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cna_mlx import Circuit, load
from cna_mlx.cli import run
from cna_mlx.steering.diff import ArmResult, PromptResult
from cna_mlx.steering.generation import BASELINE, Answer, Arm
from cna_mlx.ui.console import Screen, screen

PARITY = Path(__file__).parent / "data" / "parity"
TINY = str(PARITY / "llama_rope3")
SISTER = str(PARITY / "qwen2_bias")  # the same shape, other weights

POSITIVE = ["one red stone", "two red birds", "three red doors", "four red hats"]
NEGATIVE = ["one blue stone", "two blue birds", "three blue doors", "four blue hats"]

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


@pytest.fixture(name="tiny", scope="session")
def tiny_fixture() -> tuple[Any, Any]:
    """A model of 640 neurons and its tokenizer."""
    return load(TINY)


@pytest.fixture(name="files", scope="session")
def files_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A contrast of four prompts a side, as files."""
    directory = tmp_path_factory.mktemp("contrast")
    sides = (("red", POSITIVE), ("blue", NEGATIVE))
    for name, prompts in sides:
        (directory / f"{name}.txt").write_text("\n".join(prompts), encoding="utf-8")
    return str(directory / "red.txt"), str(directory / "blue.txt")


@pytest.fixture(name="selection", scope="session")
def selection_fixture(files: tuple[str, str]) -> list[str]:
    """The options for a discovery that takes no time."""
    positive, negative = files
    sides = ["--positive", positive, "--negative", negative]
    return [*sides, "--no-universal", "--fraction", "0.05", "--no-expect"]


@pytest.fixture(name="command")
def command_fixture(
    tiny: tuple[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Outcome]:
    """Run a command line here, with a store of its own and the tiny model loaded."""
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path / "store"))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CNA_MLX_DEBUG"):
        monkeypatch.delenv(name, raising=False)

    def load_once(
        name: str, revision: str | None = None, **options: Any
    ) -> tuple[Any, Any]:
        return tiny if name == TINY else load(name, revision, **options)

    monkeypatch.setattr("cna_mlx.commands.shared.load", load_once)

    def outcome(*arguments: str) -> Outcome:
        screen.cache_clear()
        capsys.readouterr()
        code = run(arguments)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return outcome


@pytest.fixture(name="circuit_text", scope="session")
def circuit_text_fixture(tiny: tuple[Any, Any]) -> str:
    """A circuit file of 32 of the tiny model's neurons."""
    from cna_mlx.discovery.discover import run_discovery
    from cna_mlx.discovery.selection import Selection
    from cna_mlx.prompts import PromptSet

    model, tokenizer = tiny
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
    chosen = Selection(0.05, universal=False)
    return run_discovery(model, tokenizer, contrast, chosen).circuit.to_text()


@pytest.fixture(name="circuit_file")
def circuit_file_fixture(circuit_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "circuit.json"
    path.write_text(circuit_text, encoding="utf-8")
    return path


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
