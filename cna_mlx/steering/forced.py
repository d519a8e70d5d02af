"""Feed all arms of a prompt the same tokens; compute what the arms share once."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from cna_mlx.models.families import family_of
from cna_mlx.models.forward import Pass, logits
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import copy_of, has_rows, is_steered, take_rows


class ForcedTokens:
    """Token ids that every arm of each prompt is fed (teacher forcing).

    Arms share a row for each prompt up to the first layer where their edits differ.

    Args:
        edits: of the arms of the first prompt, those of the second, and so on.
        cache: the KV caches of what was fed before, a row for each of the edits. They
            are used up.
        prompts: how many there are.
    """

    def __init__(
        self, model: Any, edits: Edits, cache: list[Any], prompts: int
    ) -> None:
        self._model, self._edits, self._cache = model, edits, cache
        self._arms = edits.rows // prompts
        self._shared: set[int] = set()  # the places of shared layers' caches
        self._first = 0  # the first layer with a row for each arm
        family = family_of(model)
        if family.outputs > 1 or not all(map(has_rows, cache)) or is_steered(model):
            return
        groups = edits.groups(len(family.layers(model)))
        slots = Pass(model, mx.zeros((edits.rows, 1), mx.int32), cache).slots
        first = next((at for at, of in enumerate(groups) if any(of)), len(groups))
        below = {slot for slot in slots[:first] if slot is not None}
        if below.isdisjoint(slots[first:]):
            self._first, self._shared = first, below
            self._below = edits.part(range(0, edits.rows, self._arms))
            for slot in below:
                take_rows(cache[slot], self._prompts)

    @property
    def _prompts(self) -> mx.array:
        """The first row of each prompt."""
        return mx.arange(0, self._edits.rows, self._arms)

    def logits(self, ids: Sequence[Sequence[int]]) -> mx.array:
        """Feed tokens, as many to each prompt.

        Returns:
            [prompts * arms, tokens, vocabulary], as the model makes them.
        """
        part = mx.array([list(one) for one in ids])
        repeated = mx.arange(self._edits.rows) // self._arms
        if not self._first:
            with self._edits.installed():
                return self._model(part[repeated], cache=self._cache)
        # masks are made for the caches' rows: both passes see caches of their own rows
        one, every = list(self._cache), list(self._cache)
        for slot, cache in enumerate(self._cache):
            is_shared = slot in self._shared
            held, rows = (every, repeated) if is_shared else (one, self._prompts)
            held[slot] = copy_of(cache)
            take_rows(held[slot], rows)
        below = Pass(self._model, part, one)
        above = Pass(self._model, part[repeated], every)
        with self._below.installed():
            hidden = below.through(below.hidden, end=self._first)[repeated]
        with self._edits.installed():
            return logits(self._model, above.through(hidden, first=self._first))
