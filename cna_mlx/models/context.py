"""The context length of a model, and prompts that exceed it."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.errors import InputError
from cna_mlx.models.family import text_of
from cna_mlx.models.loading import source_of

# Types of models whose window mlx-lm ignores; others say use_sliding_window.
_WINDOWED = ("gemma2", "mistral", "mixtral", "phi3")


def context_length(model: Any) -> int | None:
    """The model's longest prompt and answer, in tokens; None if unknown.

    mlx-lm computes some models as they were trained only up to a part of it.
    """
    whole = getattr(text_of(model).args, "max_position_embeddings", None)
    source = source_of(model)
    part = longest_exact(source.config) if source else None
    return min((one for one in (whole, part) if one), default=None)


def longest_exact(config: dict[str, Any]) -> int | None:
    """Up to how many tokens mlx-lm computes the model of a config.json; None for all.

    Some of its modules attend beyond the sliding window, and the factors of a longrope
    are those of texts up to the original context (models/rope_config.py).
    """
    config = {**config, **_object(config, "text_config")}
    found = []
    is_windowed = config.get("model_type") in _WINDOWED
    if config.get("use_sliding_window", is_windowed):
        found.append(config.get("sliding_window"))
    for name in ("rope_scaling", "rope_parameters"):
        scaling = _object(config, name)
        if any(scaling.get(key) in ("longrope", "su") for key in ("type", "rope_type")):
            original = "original_max_position_embeddings"
            found.append(config.get(original) or scaling.get(original))
    return min((one for one in found if isinstance(one, int) and one > 0), default=None)


def _object(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def vocabulary(model: Any) -> int:
    """How many tokens the model knows."""
    return int(text_of(model).args.vocab_size)


def check_lengths(model: Any, ids: Sequence[Sequence[int]], first: int = 1) -> None:
    """Check that the model can read these prompts.

    Args:
        ids: token ids of each prompt.

    Raises:
        InputError: no prompts, an empty one, one longer than the context, or a token
            without an embedding.
    """
    if not ids:
        raise InputError("no prompts were given")
    limit = context_length(model)
    tokens = vocabulary(model)
    for number, prompt in enumerate(ids, first):
        if not prompt:
            raise InputError(f"prompt {number} has no tokens")
        if limit and len(prompt) > limit:
            raise InputError(
                f"prompt {number} has {len(prompt)} tokens, and the model's context "
                f"{limit}: shorten it"
            )
        if wrong := [token for token in prompt if not 0 <= token < tokens]:
            raise InputError(
                f"prompt {number} has the token {wrong[0]}, and the model's embedding "
                f"{tokens} tokens: the tokenizer is another model's; fetch both again"
            )
