"""How refusals begin: asked of a model once, or known from its circuit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cna_mlx.discovery.kept_openings as module
from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import Store
from cna_mlx.discovery.discover import run_discovery
from cna_mlx.discovery.kept_openings import kept_openings
from cna_mlx.discovery.selection import Selection
from cna_mlx.prompts import load_contrast
from cna_mlx.prompts.chat_template import Rendering

CONTRAST = load_contrast("magic").half(0)
FOUND = ((5, 6), (7,))


@pytest.fixture(name="asked")
def asked_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A place where each time that the model answers the prompts is counted."""
    asked: list[int] = []

    def answers(*_: Any, **__: Any) -> tuple[tuple[int, ...], ...]:
        asked.append(1)
        return FOUND

    monkeypatch.setattr(module, "refusing_openings", answers)
    monkeypatch.setenv("CNA_MLX_CACHE", str(tmp_path))
    return asked


@pytest.fixture(name="circuit", scope="module")
def circuit_fixture(demo: tuple[Any, Any]) -> Circuit:
    return run_discovery(*demo, CONTRAST, Selection(0.01, universal=False)).circuit


def test_a_model_answers_once_for_its_prompts_and_rendering(
    demo: tuple[Any, Any], circuit: Circuit, asked: list[int]
) -> None:
    for _ in range(2):
        found = kept_openings(*demo, circuit, CONTRAST, Rendering())
        assert found == FOUND
    assert len(asked) == 1
    kept_openings(*demo, circuit, load_contrast("magic"), Rendering())
    kept_openings(*demo, circuit, CONTRAST, Rendering(system="Be brief."))
    assert len(asked) == 3
    assert sum(path.parent.name == "openings" for path in Store().files()) == 3


@pytest.mark.parametrize(
    "damage", ["", "{", "5", '["a"]', "[[]]", "[[1.5, []]]", "[" * 99_999]
)
def test_a_damaged_file_counts_as_missing(
    damage: str, demo: tuple[Any, Any], circuit: Circuit, asked: list[int]
) -> None:
    kept_openings(*demo, circuit, CONTRAST, Rendering())
    (kept,) = Store().files()
    kept.write_text(damage)
    assert kept_openings(*demo, circuit, CONTRAST, Rendering()) == FOUND
    assert len(asked) == 2


def test_phrases_of_a_circuit_hold_for_its_own_weights_prompts_and_rendering(
    demo: tuple[Any, Any], circuit: Circuit, asked: list[int]
) -> None:
    origin = replace(circuit.provenance, openings=((8,),))
    own = replace(circuit, provenance=origin)
    assert kept_openings(*demo, own, CONTRAST, Rendering()) == ((8,),)
    assert not asked
    other = replace(own, model=replace(own.model, fingerprint="sha256:" + 64 * "0"))
    for one, contrast, rendering in (
        (other, CONTRAST, Rendering()),
        (own, CONTRAST.half(1), Rendering()),
        (own, CONTRAST, Rendering(system="Be brief.")),
    ):
        assert kept_openings(*demo, one, contrast, rendering) == FOUND
    assert len(asked) == 3
