"""What a model needs: the plan before a load, and the wired limit around the work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

from cna_mlx.activations import last_activations
from cna_mlx.errors import NonFiniteError
from cna_mlx.generation import BASELINE, generate_arms
from cna_mlx.models.memory import wired


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the wired limit, in order."""
    seen: list[str] = []

    @contextmanager
    def limit(model: Any, streams: Any = None) -> Iterator[None]:
        seen.append("set")
        sys.stdout.write("[WARNING] a model that requires 1 MB\n")
        try:
            yield
        finally:
            seen.append("restored")

    # as an attribute of the package, generate is a function
    monkeypatch.setattr(import_module("mlx_lm.generate"), "wired_limit", limit)
    return seen


def test_the_wired_limit_is_restored(
    limits: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with wired(None):
        assert limits == ["set"]
        sys.stdout.write("what a caller prints\n")
    assert limits == ["set", "restored"]
    with pytest.raises(KeyError), wired(None):
        raise KeyError
    assert limits == ["set", "restored"] * 2
    assert capsys.readouterr().out == "what a caller prints\n"


def test_a_walk_is_wired(llama: Any, ids: list[list[int]], limits: list[str]) -> None:
    for _ in last_activations(llama, ids):
        assert limits == ["set"]
    assert limits == ["set", "restored"]


def test_a_walk_that_is_left_early_is_not_wired(
    llama: Any, ids: list[list[int]], limits: list[str]
) -> None:
    walk = last_activations(llama, ids)
    next(walk)
    walk.close()
    assert limits == ["set", "restored"]


def test_a_walk_that_fails_is_not_wired(
    build: Any, ids: list[list[int]], limits: list[str]
) -> None:
    model = build("llama")
    model.model.layers[1].mlp.gate_proj.weight *= float("nan")
    with pytest.raises(NonFiniteError):
        list(last_activations(model, ids))
    assert limits == ["set", "restored"]


def test_generation_is_wired(llama: Any, tokenizer: Any, limits: list[str]) -> None:
    events = generate_arms(llama, tokenizer, [[1, 2]], [BASELINE], max_tokens=3)
    next(events)
    assert limits == ["set"]
    events.close()
    assert limits == ["set", "restored"]
