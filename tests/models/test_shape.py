"""The sizes that a plan reads from config.json, against the models themselves."""

from importlib import import_module
from typing import Any

import mlx.core as mx
import pytest
from marks import slow
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ArraysCache, make_prompt_cache
from tiny_models import FAMILIES, MIXTURES, OTHERS, make_model

from cna_mlx.models import catalogue
from cna_mlx.models.families import experts_of, family_of_config, widths
from cna_mlx.models.family import text_of
from cna_mlx.models.memory.shape import ExpertSizes, Shape

TOKENS = 5


@pytest.mark.parametrize("family", sorted(FAMILIES | OTHERS | MIXTURES))
def test_the_shape_is_the_models_own(family: str) -> None:
    model = make_model(family)
    shape = Shape.of_config(vars(text_of(model).args), 4)
    assert shape.d_ff == max(widths(model))
    assert shape.all_neurons == sum(widths(model))
    of_layers = [one for one in experts_of(model) if one]
    if shape.experts is None:
        assert of_layers == []
    else:
        own = shape.experts
        assert {(own.count, own.width, own.chosen)} == set(of_layers)
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([list(range(1, TOKENS + 1))]), caches))
    states = [one for one in caches if isinstance(one, ArraysCache)]
    keys = [(one.keys, one.values) for one in caches if one not in states]
    held = sum(part[..., :TOKENS, :].nbytes for pair in keys for part in pair)
    assert held == TOKENS * shape.kv_per_token
    recurrent = [part.nbytes for one in states for part in one.cache]
    assert sum(recurrent) == shape.state_bytes


def test_published_configurations() -> None:
    """From the keys that each family uses; the text model's come first."""
    known = {entry.name: entry.sizes for entry in catalogue.others()}
    assert known["Qwen3-30B-A3B"].experts == ExpertSizes(128, 768, 8)
    assert known["Qwen3-30B-A3B"].all_neurons == 48 * 128 * 768
    assert known["gpt-oss-20b"].experts == ExpertSizes(32, 2880, 4, has_biases=True)
    hybrid = known["Qwen3.5-35B-A3B"]
    assert hybrid.experts == ExpertSizes(256, 512, 8, 512)
    assert hybrid.kv_per_token == 10 * 2 * 2 * 256 * 2  # a KV cache in ten layers
    assert hybrid.active == 9 * 512
    assert known["Qwen3.5-27B"].experts is None
    blocks = known["Nemotron-Nano-9B"]
    assert blocks.all_neurons == 25 * 15680
    assert blocks.kv_per_token == 4 * 2 * 8 * 128 * 2
    assert blocks.state_bytes == 27 * (4 * 128 * 80 * 128 + 2 * 3 * 12288)
    assert blocks.layer_weights * 56 == pytest.approx(7.71e9, rel=0.01)
    nested = Shape.of_config({"hidden_size": 1, "text_config": {"hidden_size": 2}})
    assert nested.hidden == 2


def test_a_layer_without_experts_is_not_counted_with_them() -> None:
    config = {
        "num_hidden_layers": 4,
        "intermediate_size": 100,
        "moe_intermediate_size": 10,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "first_k_dense_replace": 1,
    }
    shape = Shape.of_config(config)
    assert shape.experts == ExpertSizes(8, 10, 3, 20)
    assert (shape.d_ff, shape.active) == (100, 50)
    assert shape.all_neurons == 100 + 3 * 100
    assert Shape.of_config({**config, "num_hidden_layers": 10**12}).layers == 10**12


@pytest.mark.parametrize(
    "entry",
    [
        entry if entry.name == "gpt-oss-20b" else slow(entry)
        for entry in catalogue.others()
    ],
    ids=lambda one: one.name,
)
def test_the_catalogues_numbers_are_those_of_the_modules(entry: Any) -> None:
    """Of the arrays that mlx-lm makes for the published configuration, unevaluated."""
    config = next(
        o["config"] for o in catalogue._data()["others"] if o["name"] == entry.name
    )
    family_of_config(config, entry.name)
    module = import_module(f"mlx_lm.models.{config['model_type']}")
    model = module.Model(module.ModelArgs.from_dict(config))
    sizes = {name: array.size for name, array in tree_flatten(model.parameters())}
    if config["tie_word_embeddings"]:
        sizes.pop("lm_head.weight", None)
    assert sum(sizes.values()) / 1e9 == pytest.approx(entry.shape["params_b"], abs=0.01)
    assert sum(widths(model)) == entry.neurons
    if own := entry.sizes.experts:
        routed = sum(n for name, n in sizes.items() if "switch_mlp." in name)
        routed += sum(n for name, n in sizes.items() if ".experts." in name)
        active = sum(sizes.values()) - routed * (own.count - own.chosen) // own.count
        assert active / 1e9 == pytest.approx(entry.shape["active_b"], abs=0.01)


def test_layers_of_one_block_are_named_in_three_ways() -> None:
    """By a pattern, or by words as transformers 5 or earlier files have them."""
    config = {"model_type": "nemotron_h", "intermediate_size": 10, "hidden_size": 4}
    mixture = {"n_routed_experts": 8, "moe_intermediate_size": 2}
    words = {
        "hybrid_override_pattern": "M-*E",
        "layers_block_type": ["linear_attention", "mlp", "full_attention", "moe"],
        "layer_types": ["mamba", "mlp", "attention", "moe"],
    }
    for key, value in words.items():
        shape = Shape.of_config({**config, **mixture, key: value})
        assert (shape.blocks, shape.layers) == ("M-*E", 4)
        assert shape.all_neurons == 10 + 8 * 2
    # transformers writes sizes of experts for models without
    dense = Shape.of_config({**config, **mixture, "hybrid_override_pattern": "M-*"})
    assert dense.experts is None
    assert dense.all_neurons == 10
    damaged = Shape.of_config({**config, "hybrid_override_pattern": 5})
    assert (damaged.blocks, damaged.layers) == ("", 0)
