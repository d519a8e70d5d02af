"""Feed the prompts of several requests, a part at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError
from cna_mlx.models.families import tapped_last
from cna_mlx.models.forward import merged
from cna_mlx.serve.batch_edits import BatchEdits
from cna_mlx.serve.prompt_cache import PromptCache
from cna_mlx.serve.rows import Row
from cna_mlx.serve.tokens import NextTokens, next_tokens
from cna_mlx.serve.work import Read
from cna_mlx.steering.gauge_scale import Scale, finite

# mlx-lm's windowed caches take one token for a step of decoding, where none is padding.
_NARROWEST = 2


class Feeding:
    """Prompts on their way into the KV caches, as the rows of one batch.

    Shorter ones are padded on the right, where no token sees the padding; mlx-lm's
    caches then move it to the left.
    """

    def __init__(
        self, model: Any, rows: Sequence[Row], edits: BatchEdits, kept: PromptCache
    ) -> None:
        self._model, self.rows, self._edits = model, list(rows), edits
        found = [kept.find(row.ask.arm, row.ask.prompt) for row in rows]
        self._cached = [length for _, length in found]
        self.cache = merged(model, [layers for layers, _ in found])
        parts = [
            row.ask.prompt[length:-1]
            for row, length in zip(rows, self._cached, strict=True)
        ]
        self._length, self._at = max(map(len, parts)), 0
        if self._length == 1 and not all(parts):
            self._length = _NARROWEST
        padding = [self._length - len(part) for part in parts]
        self._tokens = mx.array(
            [[*part, *[0] * more] for part, more in zip(parts, padding, strict=True)],
            mx.int32,
        )
        self._is_padded = any(padding)
        if self._is_padded:
            lengths = [len(part) for part in parts]
            for layer in self.cache:
                layer.prepare(lengths=lengths, right_padding=padding)

    def feed(self, tokens: int) -> bool:
        """Feed about so many tokens of all rows; return whether all are fed."""
        if self._at < self._length:
            end = self._at + max(_NARROWEST, tokens // len(self.rows))
            if end + 1 == self._length:
                end = self._length
            with self._edits.installed([row.ask.arm for row in self.rows]):
                self._model(self._tokens[:, self._at : end], cache=self.cache)
            self._at = end
            mx.eval([layer.state for layer in self.cache])
            mx.clear_cache()
        if self._at < self._length:
            return False
        if self._is_padded:
            for layer in self.cache:
                layer.finalize()
            mx.eval([layer.state for layer in self.cache])
        for row in self.rows:
            row.fed = len(row.ask.prompt)
        return True

    def first(self, scale_of: Callable[[Circuit], Scale]) -> NextTokens:
        """Feed the last tokens, and choose the first of the answers."""
        last = mx.array([[row.ask.prompt[-1]] for row in self.rows])
        scales = [
            None if (own := row.ask.gauge) is None else scale_of(own)
            for row in self.rows
        ]
        read = {layer for scale in scales if scale for layer in scale.layers}
        with (
            self._edits.installed([row.ask.arm for row in self.rows]),
            tapped_last(self._model, sorted(read)) as taken,
        ):
            logits = self._model(last, cache=self.cache)[:, -1]
        top = max(row.ask.top or 0 for row in self.rows)
        found = next_tokens(logits, [row.choose for row in self.rows], top).start()
        arrays = {layer: np.array(values) for layer, values in taken.items()}
        for place, (row, scale) in enumerate(zip(self.rows, scales, strict=True)):
            try:
                gauge = None if scale is None else _reading(scale, arrays, place)
            except CnaError as error:
                row.fail(error)
                continue
            row.ask.deliver(Read(self._cached[place], gauge))
        return found


def _reading(scale: Scale, arrays: dict[int, np.ndarray], row: int) -> float:
    """The gauge of a row, from the activations [rows, d_ff] of the layers."""
    parts = (scale.part(layer, found[row : row + 1]) for layer, found in arrays.items())
    return float(finite(np.zeros(1) + sum(parts))[0])
