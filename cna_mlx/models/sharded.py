"""Share a model out among ranks: mlx-lm cuts the weights, each rank holds a part."""

from importlib import import_module
from typing import Any

import mlx.core as mx

from cna_mlx.errors import ModelError, UnsupportedModelError
from cna_mlx.models.families import all_families, family_of
from cna_mlx.models.family import text_of
from cna_mlx.models.fingerprint import Heads
from cna_mlx.util import ranks


def shard(model: Any, name: str) -> str:
    """Leave this rank its part of a lazily loaded model, and read it.

    Layer by layer: each is read whole once, so that at most one is in memory.

    Returns:
        The fingerprint of the whole weights.

    Raises:
        UnsupportedModelError: mlx-lm cannot cut models of this family.
        ModelError: the parts would be unequal.
    """
    held, heads = ranks.group(), Heads(model)
    assert held is not None
    cut = next((one.shard for one in (model, text_of(model)) if _can_cut(one)), None)
    if cut is None:
        raise UnsupportedModelError(
            f"{name}: mlx-lm cannot share out models of type {model.model_type!r}; it "
            f"can: {', '.join(_cut_families())}. Start it without mlx.launch"
        )
    _check_heads(model, held.size(), name)
    try:
        cut(held)
    except (ValueError, AssertionError) as error:  # MLX's and mlx-lm's checks
        raise _uneven(name, held.size(), str(error)) from None
    family = family_of(model)
    for index, layer in enumerate(family.layers(model)):
        for module in layer[family.mlp].modules():
            module.sharding_group = held  # mlx-lm's name of it, where it has one
        mx.eval(layer.parameters(), heads.of_layer(index))
        heads.take(index)
        mx.clear_cache()
    mx.eval(model.parameters())
    return heads.fingerprint()


def _can_cut(model: Any) -> bool:
    return hasattr(type(model), "shard")


def _cut_families() -> list[str]:
    """The families whose mlx-lm model can be cut."""
    return [
        one.name
        for one in all_families()
        if _has_shard(import_module(f"mlx_lm.models.{one.module}"))
    ]


def _has_shard(module: Any) -> bool:
    return hasattr(module.Model, "shard")


def _check_heads(model: Any, count: int, name: str) -> None:
    """Check what mlx-lm does not: a head is never cut."""
    args = text_of(model).args
    for what in ("num_attention_heads", "num_key_value_heads"):
        if (heads := getattr(args, what, None)) and heads % count:
            raise _uneven(name, count, f"{what} is {heads}")


def _uneven(name: str, count: int, why: str) -> ModelError:
    return ModelError(
        f"{name} cannot be shared out evenly among {count} ranks: {why}; take another "
        "number of ranks"
    )
