"""Fixtures: tiny models with random weights, a command line, a Hub on the loopback."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import NEGATIVE, POSITIVE, QUESTIONS, TINY, Outcome
from hub import TEMPLATE, LocalHub, Point, serving
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from marks import slow
from mlx_lm.utils import load_tokenizer
from paths import PARITY
from tiny_models import D_FF, FAST, KINDS, LAYERS, Ends, Kind, make_model

from cna_mlx import load
from cna_mlx.circuit import Circuit
from cna_mlx.cli import run
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.selection import Selection
from cna_mlx.prompts import PromptSet
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.ui.console import screen


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite on every core, and named files in this process."""
    has = config.pluginmanager.hasplugin
    if hasattr(config, "workerinput") or not has("xdist") or has("_cov"):
        return  # a worker must not start workers; pytest-cov needs a -n of its own
    option = config.option
    if option.numprocesses is None and not (option.file_or_dir or option.collectonly):
        option.numprocesses = "auto"
    if option.numprocesses and option.dist == "no":
        option.dist = "worksteal"  # keeps a file's models in one process


def pytest_configure() -> None:
    """Give tests one terminal, and Ctrl-C where a shell's background took it away."""
    os.environ["TERM"] = "xterm-256color"  # CI may have none: then text is plainer
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests out of the user's cache."""
    os.environ["CNA_MLX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(
    scope="session",
    params=[Kind(*kind) if kind in FAST else slow(Kind(*kind)) for kind in KINDS],
    ids=lambda kind: f"{kind.family}-{kind.precision}",
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="session")
def model(kind: Kind) -> Any:
    """A model of each kind; a test that changes weights makes its own."""
    return kind.make()


@pytest.fixture(scope="session")
def build() -> Callable[..., Any]:
    return make_model


@pytest.fixture(scope="session")
def llama() -> Any:
    return make_model("llama")


@pytest.fixture(scope="session")
def demo() -> tuple[Any, Any]:
    """The embedded chat model and its tokenizer."""
    return load("demo")


@pytest.fixture(scope="session")
def demo_base() -> tuple[Any, Any]:
    """The embedded base model and its tokenizer."""
    return load("demo-base")


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """Tokenizers of 512 tokens with the chat templates of three families."""
    found = {}
    for name in ("llama_rope3", "qwen2_bias", "qwen3"):
        config = json.loads((PARITY / name / "config.json").read_text())
        found[name.partition("_")[0]] = load_tokenizer(
            PARITY / name, eos_token_ids=config["eos_token_id"]
        )
    return found


@pytest.fixture(scope="session")
def tokenizer(tokenizers: dict[str, Any]) -> Any:
    return tokenizers["llama"]


@pytest.fixture(scope="session")
def endless(tokenizer: Any) -> Any:
    """A tokenizer that never ends an answer."""
    return Ends(tokenizer)


@pytest.fixture
def parity() -> Path:
    return PARITY


@pytest.fixture(scope="session")
def circuit() -> Circuit:
    """Neurons in layers 0 and 2; layer 1 has none."""
    random = np.random.default_rng(1)
    return Circuit.from_neurons(
        (layer, int(index), 1.0)
        for layer in (0, 2)
        for index in random.choice(D_FF, 24, replace=False)
    )


@pytest.fixture(scope="session")
def direction() -> MeanDifference:
    random = np.random.default_rng(2)
    return MeanDifference(
        tuple(random.standard_normal(D_FF).astype(np.float32) for _ in range(LAYERS))
    )


@pytest.fixture(scope="session")
def ids() -> list[list[int]]:
    """Nine prompts of several lengths that begin with the same five ids."""
    random = np.random.default_rng(3)
    header = [0, 2, 17, 3, 9]
    lengths = (6, 9, 5, 3, 13, 5, 1, 7, 4)
    return [[*header, *random.integers(5, 512, n).tolist()] for n in lengths]


@pytest.fixture(scope="session")
def tiny() -> tuple[Any, Any]:
    """A model of 640 neurons and its tokenizer."""
    return load(TINY)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A contrast of four prompts a side, as files."""
    directory = tmp_path_factory.mktemp("contrast")
    sides = (("red", POSITIVE), ("blue", NEGATIVE))
    for name, prompts in sides:
        (directory / f"{name}.txt").write_text("\n".join(prompts), encoding="utf-8")
    return str(directory / "red.txt"), str(directory / "blue.txt")


@pytest.fixture
def questions(tmp_path: Path) -> str:
    """Four prompts that no contrast has, as a file of harmful ones."""
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(QUESTIONS), encoding="utf-8")
    return f"harmful={path}"


@pytest.fixture(scope="session")
def brief(files: tuple[str, str]) -> list[str]:
    """The options for a discovery that takes no time."""
    positive, negative = files
    sides = ["--positive", positive, "--negative", negative]
    return [*sides, "--no-universal", "--fraction", "0.05"]


@pytest.fixture(scope="session")
def selection(brief: list[str]) -> list[str]:
    """The same for commands that would also try the circuit."""
    return [*brief, "--no-expect"]


@pytest.fixture
def command(
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

    monkeypatch.setattr("cna_mlx.discovery.session.load", load_once)

    def outcome(*arguments: str) -> Outcome:
        screen.cache_clear()
        capsys.readouterr()
        code = run(arguments)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return outcome


@pytest.fixture(scope="session")
def circuit_text(tiny: tuple[Any, Any]) -> str:
    """A circuit file of 32 of the tiny model's neurons."""
    model, tokenizer = tiny
    contrast = PromptSet.from_prompts(POSITIVE, NEGATIVE, "red-vs-blue")
    chosen = Selection(0.05, universal=False)
    return run_discovery(model, tokenizer, contrast, chosen).circuit.to_text()


@pytest.fixture
def circuit_file(circuit_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "circuit.json"
    path.write_text(circuit_text, encoding="utf-8")
    return path


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    """Lead the client to an address, with an empty cache and no waiting."""
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def to(url: str) -> None:
        close_session()
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + TEMPLATE)

    yield to
    close_session()


@pytest.fixture
def hub(point: Point) -> Iterator[LocalHub]:
    """A Hub that holds org/tiny, and the client led to it."""
    with serving() as local:
        point(local.url)
        local.add("tiny")
        yield local


@pytest.fixture
def down(hub: LocalHub, point: Point) -> Callable[[], None]:
    """Take the Hub away: at discard's port nobody listens."""
    return lambda: point("http://127.0.0.1:9")
