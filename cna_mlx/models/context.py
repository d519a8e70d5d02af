"""The context length of a model, and prompts that exceed it."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.errors import InputError


def context_length(model: Any) -> int | None:
    """The model's longest prompt and answer, in tokens; None if unknown."""
    return getattr(model.args, "max_position_embeddings", None)


def check_lengths(model: Any, ids: Sequence[Sequence[int]], first: int = 1) -> None:
    """Check that the model can read these prompts.

    Args:
        ids: token ids of each prompt.

    Raises:
        InputError: no prompts, an empty one, or one longer than the context.
    """
    if not ids:
        raise InputError("no prompts were given")
    limit = context_length(model)
    for number, prompt in enumerate(ids, first):
        if not prompt:
            raise InputError(f"prompt {number} has no tokens")
        if limit and len(prompt) > limit:
            raise InputError(
                f"prompt {number} has {len(prompt)} tokens, and the model's context "
                f"{limit}: shorten it"
            )
