"""The edits of a batch whose rows come and go."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cna_mlx.steering.arms import Arm
from cna_mlx.steering.interventions import Edits

# Arms of which scales are kept; more are made again when they are asked for.
_KEPT = 64


def arm_key(arm: Arm) -> tuple[Any, ...]:
    """What tells arms apart: the circuits, which live as long as the server, and m."""
    return tuple((id(circuit), strength) for circuit, strength in arm.steering)


class BatchEdits:
    """Edits for the rows of a batch; each arm's scales are made once."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._arms: dict[tuple[Any, ...], Arm] = {}
        self._made: Edits | None = None
        self._last: tuple[list[int], Edits] | None = None

    def installed(self, arms: Sequence[Arm]) -> AbstractContextManager[None]:
        """Steer the model inside the block, a row for each of these arms."""
        if not any(arm.steering for arm in arms):
            return nullcontext()
        return self._of(arms).installed()

    def _of(self, arms: Sequence[Arm]) -> Edits:
        asked = {arm_key(arm): arm for arm in arms}
        if self._made is None or not asked.keys() <= self._arms.keys():
            kept = self._arms if len(self._arms) < _KEPT else {}
            self._arms = {**kept, **asked}
            steering = [arm.steering for arm in self._arms.values()]
            self._made, self._last = Edits(self._model, steering), None
        places = {key: place for place, key in enumerate(self._arms)}
        rows = [places[arm_key(arm)] for arm in arms]
        if self._last is None or self._last[0] != rows:
            self._last = rows, self._made.part(rows)
        return self._last[1]
