"""What is used of mlx-lm beyond its documented API; tests/test_contracts.py pins it."""

from typing import Any

from mlx_lm.models.activations import swiglu
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import (
    BatchKVCache,
    ConcatenateKVCache,
    KVCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.sample_utils import apply_top_p
from mlx_lm.utils import _get_classes, load_config, load_model, load_tokenizer

__all__ = [
    "BatchKVCache",
    "ConcatenateKVCache",
    "KVCache",
    "apply_top_p",
    "can_trim_prompt_cache",
    "create_attention_mask",
    "load_config",
    "load_model",
    "load_tokenizer",
    "make_prompt_cache",
    "model_class",
    "swiglu",
    "trim_prompt_cache",
]


def model_class(config: dict[str, Any]) -> type:
    """mlx-lm's class for a config.json.

    Raises:
        ValueError, TypeError, AttributeError: it has none.
    """
    found: type = _get_classes(config)[0]
    return found
