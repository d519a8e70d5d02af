"""How long a text mlx-lm computes as the model was trained, and what it ignores."""

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import ORACLE, PROMPTS, weights_of, write_model

from cna_mlx import load
from cna_mlx.discovery.activations import last_activations
from cna_mlx.errors import InputError, ModelError
from cna_mlx.models.context import context_length, longest_exact
from cna_mlx.models.families import family_of_config
from cna_mlx.models.rope_config import overrides

CASES = sorted(path.parent.name for path in ORACLE.glob("*/config.json"))
LONGROPE = {"type": "longrope", "short_factor": [1.0], "long_factor": [9.0]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "gemma2", "sliding_window": 4096}, 4096),
        ({"model_type": "gemma3_text", "sliding_window": 512}, None),
        ({"model_type": "mistral", "sliding_window": 4096}, 4096),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"text_config": {"model_type": "mistral", "sliding_window": 9}}, 9),
        ({"model_type": "phi3", "sliding_window": 2047}, 2047),
        ({"model_type": "qwen2", "sliding_window": 64}, None),
        (
            {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False},
            None,
        ),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, 64),
        (
            {
                "model_type": "phi3",
                "sliding_window": 262144,
                "rope_scaling": LONGROPE,
                "original_max_position_embeddings": 4096,
            },
            4096,
        ),
    ],
)
def test_how_long_a_text_is_computed_as_trained(
    config: dict[str, Any], expected: int | None
) -> None:
    assert longest_exact({"model_type": "mistral3", **config}) == expected


@pytest.fixture
def gemma2(tmp_path: Path) -> Callable[..., Path]:
    """The oracle's Gemma 2, its config changed."""

    def make(**changes: Any) -> Path:
        config = json.loads((ORACLE / "gemma2" / "config.json").read_text("utf-8"))
        shapes = json.loads(str(np.load(ORACLE / "gemma2" / "arrays.npz")["shapes"]))
        write_model(tmp_path, config | changes, weights_of(shapes))
        return tmp_path

    return make


def test_a_prompt_beyond_a_window_that_mlx_lm_ignores(
    gemma2: Callable[..., Path],
) -> None:
    model, _ = load(str(gemma2(sliding_window=64)))
    assert context_length(model) == 64
    assert next(last_activations(model, PROMPTS[:1]))
    with pytest.raises(InputError, match="90 tokens, and the model's context 64"):
        next(last_activations(model, PROMPTS))


@pytest.mark.parametrize("name", ["gemma2", "qwen3_moe", "mixtral", "glm4", "cohere2"])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_scaling_of_rope_that_mlx_lm_ignores(name: str, key: str) -> None:
    config = json.loads((ORACLE / name / "config.json").read_text("utf-8"))
    family = family_of_config(config, name)
    base = config.pop("rope_theta")
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    scaling = yarn if key == "rope_scaling" else {**yarn, "rope_theta": base}
    partial = {"partial_rotary_factor": 0.5} if name == "glm4" else {}
    changed = config | {"rope_scaling": None, key: scaling | partial}
    with pytest.raises(ModelError, match=r"mlx-lm ignores rope_scaling of type 'yarn'"):
        overrides(changed, family)


def test_a_factor_of_yarn_that_mlx_lm_cannot_take() -> None:
    config = json.loads((ORACLE / "qwen3_yarn" / "config.json").read_text("utf-8"))
    family = family_of_config(config, "it")
    yarn = config.pop("rope_scaling") | {"rope_theta": config["rope_theta"]}
    own = overrides(config | {"rope_parameters": yarn}, family)
    same = yarn | {"attention_factor": 1.138629436}  # 0.1 log(4) + 1
    assert overrides(config | {"rope_parameters": same}, family) == own
    other = yarn | {"attention_factor": 1.5}
    with pytest.raises(ModelError, match="attention_factor"):
        overrides(config | {"rope_parameters": other}, family)


def damaged(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A config with one value after the other changed, at any depth."""
    for key, old in config.items():
        for value in (None, 0, -1, "x", [], {}, [{}], {"a": 1}, 2.5, True):
            yield config | {key: value}
        if isinstance(old, dict):
            yield from (config | {key: one} for one in damaged(old))


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_config_is_read_or_refused(name: str) -> None:
    folder, refused = ORACLE / name, 0
    own = json.loads((folder / "config.json").read_text("utf-8"))
    written = json.loads((folder / "expected.json").read_text("utf-8"))["config"]
    family = family_of_config(own, name)
    for config in chain(damaged(own), damaged(written)):
        if isinstance(config.get("model_type"), str):  # else loading refuses it
            longest_exact(config)
        try:
            overrides(config, family)
        except ModelError:
            refused += 1
    assert refused
