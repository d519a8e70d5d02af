"""The context length of a model, and prompts that exceed it."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.errors import InputError
from cna_mlx.models.family import text_of


def context_length(model: Any) -> int | None:
    """The model's longest prompt and answer, in tokens; None if unknown."""
    return getattr(text_of(model).args, "max_position_embeddings", None)


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
