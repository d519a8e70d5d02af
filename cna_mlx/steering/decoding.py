"""Decode the arms of one prompt together: a row of the batch for each arm."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.labels.thoughts import opens_thought
from cna_mlx.models.context import context_length
from cna_mlx.models.families import tapped_last
from cna_mlx.models.forward import merged
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.steering.arm_cache import ArmCache, extract_row
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.events import Answer, Finish, Gauged, Token
from cna_mlx.steering.gauge_scale import Scale, finite
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import (
    NO_HEADER,
    Header,
    copy_of,
    prefill,
    prefill_prompts,
    rows_of,
    shared_prefill,
    take_rows,
)
from cna_mlx.util import ranks

_TAG_TOKENS = 16  # an opening think tag and a newline have fewer
#: From the numbers of rows that still answer and of tokens: whether to end.
Parks = Callable[[int, int], bool]
# The part of a batch that may be rows that have ended: to cut it copies its caches.
_ENDED = 0.05


def begins_thought(tokenizer: Any, prompt: Sequence[int]) -> bool:
    """Return whether a prompt ends with an opening think tag."""
    return opens_thought(tokenizer.decode(list(prompt[-_TAG_TOKENS:])))


@dataclass
class _Row:
    """One arm's answer while it grows."""

    prompt: int
    arm: int
    detokenizer: Any
    opens_thought: bool
    limit: int = 0
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    end: int | None = None

    def answer(self) -> Answer:
        return Answer(
            self.prompt,
            self.arm,
            self.detokenizer.text,
            tuple(self.ids),
            self.finish or "interrupted",
            self.end,
            self.opens_thought,
        )


@dataclass
class Batch:
    """The arms of one prompt; see :func:`cna_mlx.steering.generation.generate_arms`.

    Attributes:
        number: the prompt's position in the call.
        prompts: token ids of each arm.
        choose: from logits [rows, vocabulary] to the next token of each row.
        scale: reads the gauge at the last token of the prompt.
        once: steer the prompt's last token only.
        leaves: rows that have ended leave the batch.
        parks: whether to leave the rows that still answer as they are.
        prefilled: called with a copy of the KV caches of the prompts without their last
            tokens.
        header: what the prompts of several batches begin with.
    """

    model: Any
    tokenizer: Any
    number: int
    arms: Sequence[Arm]
    prompts: Sequence[Sequence[int]]
    edits: Edits
    choose: Callable[[mx.array], mx.array]
    scale: Scale | None
    stop: Callable[[], bool]
    once: bool = False
    leaves: bool = False
    parks: Parks | None = None
    prefilled: Callable[[list[Any]], None] | None = None
    header: Header = NO_HEADER

    def __post_init__(self) -> None:
        self._eos = set(self.tokenizer.eos_token_ids)
        self._rows = [
            _Row(
                self.number,
                arm,
                self.tokenizer.detokenizer,
                begins_thought(self.tokenizer, prompt),
            )
            for arm, prompt in enumerate(self.prompts)
        ]
        self._decoding = self._rows  # the rows of the batch, while they decode
        self._fed: list[mx.array] = []  # [rows, steps], in parts
        self._logits = mx.zeros(len(self._rows))  # of each row, to find NaN
        self._unsteered = Edits(self.model, [()] * len(self.arms))

    def run(
        self, max_tokens: Sequence[int], caches: dict[str, ArmCache] | None
    ) -> Iterator[Gauged | Token | Answer]:
        """Prefill and decode; store in ``caches`` what the next turn can use.

        ``max_tokens`` is of each arm.
        """
        for row, limit in zip(self._rows, self._limits(max_tokens), strict=True):
            row.limit = limit
        cache = self._prefill(caches)
        if cache is not None:
            if self.prefilled is not None:
                fed = [copy_of(layer) for layer in cache]
                mx.eval([layer.state for layer in fed])  # before the cache changes
                self.prefilled(fed)
            try:
                yield from self._decode(cache)
            finally:
                if caches is not None and self._fed:
                    self._store(cache, caches)
        for row in self._rows:
            if row.finish is None:
                row.detokenizer.finalize()
                yield row.answer()

    def _limits(self, max_tokens: Sequence[int]) -> list[int]:
        """New tokens of each row: positions beyond the context were never trained."""
        limit = context_length(self.model)
        if limit is None:
            return list(max_tokens)
        lengths = [len(prompt) for prompt in self.prompts]
        if not self.leaves:  # a row that has ended goes on beside the others
            lengths = [max(lengths)] * len(lengths)
        return [
            max(1, min(own, limit - length))
            for own, length in zip(max_tokens, lengths, strict=True)
        ]

    def _prefill(self, caches: dict[str, ArmCache] | None) -> list[Any] | None:
        """The KV cache of the prompts without their last tokens; None if stopped."""
        kept = [self._kept(row, caches) for row in range(len(self.arms))]
        # rows that begin with nothing and have the same prompt are fed together
        alike: dict[tuple[int | None, tuple[int, ...]], list[int]] = {}
        for row, (prompt, (_, start)) in enumerate(
            zip(self.prompts, kept, strict=True)
        ):
            key = row if start else None, tuple(prompt)
            alike.setdefault(key, []).append(row)
        all_edits = self._unsteered if self.once else self.edits
        if len(alike) == 1 and not kept[0][1]:
            return shared_prefill(
                self.model, self.prompts[0][:-1], all_edits, self.stop, self.header
            )
        layers = [cache for cache, _ in kept]
        fresh = []
        for (begun, prompt), rows in alike.items():
            if begun is None:
                fresh.append((rows, all_edits.part(rows)))
                continue
            steering = () if self.once else self.arms[begun].steering
            edits, start = Edits(self.model, steering), kept[begun][1]
            own = layers[begun]
            if not prefill(self.model, prompt[start:-1], own, edits, self.stop):
                return None
        while fresh:
            edits = fresh[0][1]
            together = [rows for rows, own in fresh if own.is_like(edits)]
            fresh = [(rows, own) for rows, own in fresh if rows not in together]
            prompts = [self.prompts[rows[0]][:-1] for rows in together]
            found = prefill_prompts(self.model, prompts, edits, self.stop, self.header)
            if found is None:
                return None
            for rows, of_prompt in zip(together, found, strict=True):
                by_layer = (rows_of(one, len(rows)) for one in of_prompt)
                split = zip(*by_layer, strict=True)
                for row, one in zip(rows, split, strict=True):
                    layers[row] = list(one)
        return layers[0] if len(layers) == 1 else merged(self.model, layers)

    def _kept(
        self, row: int, caches: dict[str, ArmCache] | None
    ) -> tuple[list[Any], int]:
        """A row's kept cache cut to its prompt, or a new one; and its length."""
        arm = self.arms[row]
        # taken out: it is incomplete until the answer is in it
        kept = caches.pop(arm.label, None) if caches else None
        if kept and (start := kept.trim_to(arm, self.prompts[row])):
            return kept.layers, start
        return make_prompt_cache(self.model), 0

    def _decode(self, cache: list[Any]) -> Iterator[Gauged | Token | Answer]:
        read = self.scale.layers if self.scale else []
        with tapped_last(self.model, read) as taken:
            tokens = self._next(mx.array([ids[-1] for ids in self.prompts]), cache)
        if self.scale is not None:
            parts = (self.scale.part(layer, np.array(a)) for layer, a in taken.items())
            values = finite(np.zeros(len(self._rows)) + sum(parts))
            yield Gauged(self.number, tuple(map(float, values)))
        steps = max(row.limit for row in self._rows)
        for step in range(1, 1 + steps):
            logits = self._logits
            # The next step runs while this one's tokens are read and shown.
            ahead = None if step == steps else self._next(tokens, cache)
            self._check(np.array(logits))
            yield from self._take(np.array(tokens).tolist(), step)
            left = sum(row.finish is None for row in self._decoding)
            if ahead is None or not left or self.stop():
                return
            if self.parks is not None and self.parks(left, step):
                return
            tokens = self._left(ahead, cache) if self.leaves else ahead

    def _left(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """The next tokens of the rows that go on, once enough of them have ended."""
        rows = [at for at, row in enumerate(self._decoding) if row.finish is None]
        if len(self._decoding) - len(rows) <= _ENDED * len(self._decoding):
            return tokens
        held = mx.array(rows)
        for layer in cache:
            take_rows(layer, held)
        self.edits, self._unsteered = (
            one.part(rows) for one in (self.edits, self._unsteered)
        )
        self._decoding = [self._decoding[at] for at in rows]
        self._fed = [mx.concatenate(self._fed, axis=1)[held]]
        self._logits = self._logits[held]
        return tokens[held]

    def _next(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        # Installed only while the graph is built: the caller may use the model
        # between two tokens.
        is_steered = not (self.once and self._fed)
        with (self.edits if is_steered else self._unsteered).installed():
            logits = self.model(tokens[:, None], cache=cache)[:, -1]
        # rank 0's: the sums of more than two ranks may differ in their last bits
        chosen = ranks.chosen(self.choose(logits))
        logits = logits.astype(mx.float32)
        # NaN makes every token likely: all first logits tell, then the chosen token's
        self._logits = (
            mx.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0]
            if self._fed
            else mx.logsumexp(logits, axis=-1)
        )
        self._fed.append(tokens[:, None])
        mx.async_eval(chosen, self._logits)
        return chosen

    def _check(self, logits: np.ndarray) -> None:
        """Raise CnaError for a row that still answers, and has no finite logits."""
        for row, value in zip(self._decoding, logits, strict=True):
            if row.finish is None and not np.isfinite(value):
                raise logits_error(self.arms[row.arm])

    def _take(self, ids: list[int], step: int) -> Iterator[Token | Answer]:
        for row, token in zip(self._decoding, ids, strict=True):
            if row.finish:
                continue
            if token in self._eos:
                row.finish, row.end = "stop", token
            else:
                row.ids.append(token)
                row.detokenizer.add_token(token)
                row.finish = "length" if step >= row.limit else None
            if row.finish:  # flush the bytes of an incomplete character
                row.detokenizer.finalize()
            text = row.detokenizer.last_segment
            if text or token not in self._eos:
                yield Token(row.prompt, row.arm, token, text)
            if row.finish:
                yield row.answer()

    def _store(self, cache: list[Any], caches: dict[str, ArmCache]) -> None:
        fed = np.array(mx.concatenate(self._fed, axis=1)).tolist()
        for place, row in enumerate(self._decoding):
            arm, ids = self.arms[row.arm], [*self.prompts[row.arm][:-1], *fed[place]]
            if kept := extract_row(arm, ids, cache, place):
                caches[arm.label] = kept
        # or they would keep the whole batch alive
        mx.eval([layer.state for kept in caches.values() for layer in kept.layers])


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of an answer's tokens, as decoding them one by one gives it."""
    detokenizer = tokenizer.detokenizer
    for token in ids:
        detokenizer.add_token(token)
    detokenizer.finalize()
    text: str = detokenizer.text
    return text
