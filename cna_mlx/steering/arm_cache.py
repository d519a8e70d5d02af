"""KV caches that a chat keeps between turns, one for each arm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from cna_mlx.models.mlx_lm_internals import (
    BatchKVCache,
    KVCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.sequences import shared_length


@dataclass
class ArmCache:
    """An arm's KV caches, one for each layer, and the token ids in them."""

    arm: Arm
    ids: list[int]
    layers: list[Any]

    def trim_to(self, arm: Arm, prompt: Sequence[int]) -> int:
        """Cut the cache to the ids shared with a prompt; return how many remain.

        The last id is never shared, as its logits are needed. A cache that was made
        under another steering cannot be used: 0 remain.
        """
        shared = shared_length(self.ids, prompt[:-1])
        if self.arm != arm or not shared or not can_trim_prompt_cache(self.layers):
            return 0
        trim_prompt_cache(self.layers, len(self.ids) - shared)
        return shared


def extract_row(
    arm: Arm, ids: list[int], layers: Sequence[Any], row: int
) -> ArmCache | None:
    """Return one arm's row of a batch's KV caches; None if it cannot be used.

    A layer's cache may not be splittable, and an interrupted pass feeds some layers
    but not others.
    """
    extracted = [_extract(layer, row) for layer in layers]
    if all(layer and layer.offset == len(ids) for layer in extracted):
        return ArmCache(arm, ids, extracted)
    return None


def can_extract(model: Any) -> bool:
    """Whether :func:`extract_row` works for a model."""
    return all(type(one) is KVCache for one in make_prompt_cache(model))


def _extract(cache: Any, row: int) -> Any:
    if isinstance(cache, BatchKVCache):
        return cache.extract(row)
    if type(cache) is not KVCache:
        return None
    single = KVCache()
    keys, values = cache.keys_and_values()
    # copies: a slice would keep the whole batch alive
    single.keys = mx.contiguous(keys[row : row + 1])
    single.values = mx.contiguous(values[row : row + 1])
    single.offset = cache.offset
    return single
