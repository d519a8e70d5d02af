"""The KV caches of earlier requests, found by the arm and the tokens in them."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.models.mlx_lm_internals import (
    LRUPromptCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)
from cna_mlx.serve.batch_edits import arm_key
from cna_mlx.steering.arms import Arm

_MOST = 128  # conversations


class PromptCache:
    """mlx-lm's cache of prompts, with the arm in the place of the model's name.

    Keys and values depend on the steering: what one arm has read is never of use to
    another.

    Args:
        size: the largest number of bytes; 0 keeps nothing.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._model, self._size = model, size
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._kept = LRUPromptCache(_MOST, self._size)

    @property
    def nbytes(self) -> int:
        """The bytes that are in use."""
        return int(self._kept.nbytes)

    def find(self, arm: Arm, prompt: Sequence[int]) -> tuple[list[Any], int]:
        """The layers' caches of what a prompt begins with, and its length in tokens.

        The last token is never in it, as its logits are needed.
        """
        found, rest = self._kept.fetch_nearest_cache(arm_key(arm), list(prompt))
        if found is None:
            return make_prompt_cache(self._model), 0
        if not rest:
            if not can_trim_prompt_cache(found):
                return make_prompt_cache(self._model), 0
            trim_prompt_cache(found, 1)
        return found, len(prompt) - max(1, len(rest))

    def keep(self, arm: Arm, ids: Sequence[int], layers: list[Any]) -> None:
        """Keep the caches of one row, which hold these tokens."""
        if self._size and ids:
            self._kept.insert_cache(arm_key(arm), list(ids), layers)
