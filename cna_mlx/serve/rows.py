"""The answers that grow together: a row of the batch each, whatever its arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.models.mlx_lm_internals import can_trim_prompt_cache, trim_prompt_cache
from cna_mlx.serve.batch_edits import BatchEdits
from cna_mlx.serve.prompt_cache import PromptCache
from cna_mlx.serve.stop_strings import StopStrings
from cna_mlx.serve.tokens import Choose, NextTokens, choose_by, next_tokens, not_finite
from cna_mlx.serve.work import AnswerPart, Ask, Ended, Failed, TokenScore

# The part of a batch that may be rows that have ended: to cut it copies its caches.
_ENDED = 0.05


@dataclass(eq=False)
class Row:
    """An answer while it grows.

    Attributes:
        ids: the tokens of the prompt and of the answer so far.
        fed: how many tokens its cache holds; more than ``ids`` once it is over.
        is_over: nothing more is wanted of it.
        is_kept: its cache is of use to the next request.
    """

    ask: Ask
    detokenizer: Any
    choose: Choose = field(init=False)
    stops: StopStrings = field(init=False)
    ids: list[int] = field(init=False)
    fed: int = 0
    is_over: bool = False
    is_kept: bool = True

    def __post_init__(self) -> None:
        self.choose = choose_by(self.ask.sampling)
        self.stops = StopStrings(self.ask.stops)
        self.ids = list(self.ask.prompt)

    @property
    def made(self) -> int:
        """The number of new tokens."""
        return len(self.ids) - len(self.ask.prompt)

    @property
    def longest(self) -> int:
        """The tokens of the prompt and of the longest answer."""
        return len(self.ask.prompt) + self.ask.max_tokens

    def fail(self, error: Exception) -> None:
        """End the answer with an error."""
        if not self.is_over:
            self.is_over, self.is_kept = True, False
            self.ask.deliver(Failed(error))

    def take(self, token: TokenScore, ends: Callable[[int], bool]) -> None:
        """Add a token; deliver what it completes."""
        if not np.isfinite(token.logprob):
            self.fail(not_finite(self.ask.arm))
            return
        self.ids.append(token.id)
        is_end = ends(token.id)
        if not is_end:
            self.detokenizer.add_token(token.id)
        is_last = is_end or self.made >= self.ask.max_tokens
        if is_last:  # flush the bytes of an incomplete character
            self.detokenizer.finalize()
        text, is_stopped = self.stops.take(self.detokenizer.last_segment)
        if is_last and not is_stopped:
            text += self.stops.rest()
        if not is_end or text:
            self.ask.deliver(AnswerPart(text, None if is_end else token))
        if is_last or is_stopped:
            self.is_over = True
            self.ask.deliver(Ended("stop" if is_end or is_stopped else "length"))


class RunningRows:
    """The batch that decodes; rows join and leave between two steps."""

    def __init__(
        self,
        model: Any,
        edits: BatchEdits,
        kept: PromptCache,
        ends: Callable[[int], bool],
    ) -> None:
        self._model, self._edits, self._kept, self._ends = model, edits, kept, ends
        self.rows: list[Row] = []
        self._cache: list[Any] = []
        # the tokens that are being computed, of rows in their order
        self._ahead: list[tuple[list[Row], NextTokens]] = []

    def join(self, rows: Sequence[Row], cache: list[Any], first: NextTokens) -> None:
        """Take on rows whose prompts are in these caches, with their first tokens."""
        self._leave(0)
        if self.rows:
            for layer, other in zip(self._cache, cache, strict=True):
                layer.extend(other)
        else:
            self._cache = cache
        self.rows += rows
        self._ahead.append((list(rows), first))

    def step(self) -> None:
        """One token for every row: start the next one's pass, then read this one's."""
        ahead, self._ahead = self._ahead, []
        if any(
            row.made + 1 < row.ask.max_tokens for row in self.rows if not row.is_over
        ):
            self._ahead = [(list(self.rows), self._pass(ahead))]
        for rows, found in ahead:
            for row, token in zip(rows, found.scores(), strict=True):
                if row.is_over:
                    continue
                try:
                    row.take(token, self._ends)
                except Exception as error:  # noqa: BLE001  # its detokenizer's
                    row.fail(error)
        self._leave(_ENDED)

    def fail(self, error: Exception) -> None:
        """End all answers with an error."""
        for row in self.rows:
            row.fail(error)
        self.rows, self._cache, self._ahead = [], [], []

    def _pass(self, ahead: Sequence[tuple[list[Row], NextTokens]]) -> NextTokens:
        tokens = mx.concatenate([found.ids for _, found in ahead])
        with self._edits.installed([row.ask.arm for row in self.rows]):
            logits = self._model(tokens[:, None], cache=self._cache)[:, -1]
        for row in self.rows:
            row.fed += 1
        top = max((row.ask.top or 0 for row in self.rows if not row.is_over), default=0)
        return next_tokens(logits, [row.choose for row in self.rows], top).start()

    def _leave(self, ended: float) -> None:
        """Let rows that are over leave, if they are more than this part of all."""
        left = [place for place, row in enumerate(self.rows) if not row.is_over]
        over = len(self.rows) - len(left)
        if not over or (left and over <= ended * len(self.rows)):
            return
        for place, row in enumerate(self.rows):
            if row.is_over and row.is_kept:
                self._keep(row, place)
        self.rows = [self.rows[place] for place in left]
        if not left:
            self._cache, self._ahead = [], []
            return
        held = mx.array(left)
        for layer in self._cache:
            layer.filter(held)
        self._ahead = [_living(*one) for one in self._ahead]

    def _keep(self, row: Row, place: int) -> None:
        ids = row.ids[: row.fed]
        layers = [layer.extract(place) for layer in self._cache]
        if extra := row.fed - len(ids):
            if not can_trim_prompt_cache(layers):
                return
            trim_prompt_cache(layers, extra)
        mx.eval([layer.state for layer in layers])  # or they keep the batch alive
        self._kept.keep(row.ask.arm, ids, layers)


def _living(rows: list[Row], found: NextTokens) -> tuple[list[Row], NextTokens]:
    """The rows that are not over, and their tokens."""
    left = [place for place, row in enumerate(rows) if not row.is_over]
    return [rows[place] for place in left], found.rows(mx.array(left, mx.int32))
