"""Prompts and arms in, events out: every arm of a prompt is a row of one batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import (
    BatchKVCache,
    KVCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)

from cna_mlx.circuit import Circuit
from cna_mlx.errors import InputError
from cna_mlx.models.context import check_lengths, context_length
from cna_mlx.models.families import installed, widths
from cna_mlx.models.memory.machine import wired
from cna_mlx.steering.gauge_scale import Scale
from cna_mlx.steering.interventions import Edits, Intervention, check_multiplier
from cna_mlx.steering.prefill import prefill, shared_prefill
from cna_mlx.steering.sampling import Greedy, Sampling, chooser
from cna_mlx.steering.sequences import shared_length

DEFAULT_MAX_TOKENS = 150

Finish = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class Arm:
    """One way of steering: pairs of a circuit and its multiplier; none: the baseline.

    Attributes:
        label: its name, unique among the arms of a call.
        steering: as :func:`cna_mlx.steering.interventions.steered` takes them.
    """

    label: str
    steering: tuple[tuple[Intervention, float], ...] = ()

    @classmethod
    def of(cls, circuit: Circuit, multiplier: float, label: str | None = None) -> "Arm":
        """The arm of one circuit at one multiplier."""
        check_multiplier(multiplier)
        return cls(label or f"m={multiplier:.15g}", ((circuit, multiplier),))

    @property
    def title(self) -> str:
        """The label, with the multipliers that it does not tell (0 is ablated)."""
        strengths = [f"m={strength:.15g}" for _, strength in self.steering if strength]
        return ", ".join([self.label, *(s for s in strengths if s not in self.label)])


BASELINE = Arm("baseline")


@dataclass(frozen=True)
class Token:
    """A token that an arm has just produced, with the text that it completes."""

    prompt: int
    arm: int
    id: int
    text: str


@dataclass(frozen=True)
class Gauged:
    """Where a prompt lies along a circuit, known before a token of its answer.

    Attributes:
        prompt: which, by position in the call.
        arms: for each arm, what the prompt reads under its steering: 0 as the answered
            prompts, 1 as the refused; see :class:`cna_mlx.steering.gauge_scale.Scale`.
    """

    prompt: int
    arms: tuple[float, ...]

    @property
    def value(self) -> float:
        """The reading of the first arm, which is not steered."""
        return self.arms[0]


@dataclass(frozen=True)
class Answer:
    """An arm's whole answer to a prompt.

    Attributes:
        prompt, arm: which, by position in the call.
        text: without the end-of-text token.
        token_ids: likewise.
        finish: ``stop``: the model ended it; ``length``: max_tokens or the context was
            reached; ``interrupted``: ``stop`` said so.
        end: the token by which the model ended it, or None.
    """

    prompt: int
    arm: int
    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    end: int | None = None


@dataclass
class ArmCache:
    """What a chat keeps of an arm between turns: its KV cache and the ids in it."""

    arm: Arm
    ids: list[int]
    layers: list[Any]


@dataclass
class _Row:
    """One arm's answer while it grows."""

    prompt: int
    arm: int
    detokenizer: Any
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
        )


def generate_arms(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    arms: Sequence[Arm],
    *,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    sampling: Sampling | None = None,
    caches: dict[str, ArmCache] | None = None,
    gauge: Circuit | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Gauged | Token | Answer]:
    """Answer every prompt in every arm; all arms of a prompt decode in one batch.

    Decoding waits for the weights to be read, so several rows cost about as much as
    one. A row equals what its arm gives in a batch of the same shape.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        prompts: token ids of each prompt; or, where the arms' histories differ, a list
            of token ids for each arm.
        arms: the ways of steering, in the order of the rows.
        max_tokens: new tokens at most.
        sampling: greedy if None.
        caches: an arm's KV cache by its label, kept between calls: what it shares
            with the next prompt is not computed again. Emptied where it does not fit.
        gauge: a circuit to gauge each prompt along, read off the first arm's pass over
            its last token; that arm must be unsteered.
        stop: asked before each token; True ends the answers as ``interrupted``.

    Yields:
        For each prompt a :class:`Gauged` if a gauge was asked for, a :class:`Token` as
        soon as it is known, and an :class:`Answer` when a row ends. A consumer that
        closes the iterator early keeps what it was given.

    Raises:
        InputError: no arms, two of one label, a prompt that does not fit; a gauge
            beside a first arm that is steered.
        CircuitError: a circuit does not fit the model, or is no gauge.
    """
    if not arms or len({arm.label for arm in arms}) < len(arms):
        raise InputError("give one arm or more, each with a label of its own")
    if max_tokens < 1:
        raise InputError(f"max_tokens {max_tokens}: give 1 or more")
    scale = None
    if gauge is not None:
        if any(strength != 1 for _, strength in arms[0].steering):
            raise InputError("a gauge needs an unsteered first arm")
        gauge.check_shape(widths(model))
        scale = Scale(gauge)
    histories = []
    for number, prompt in enumerate(prompts, 1):  # all before the first is answered
        by_arm = prompt if _is_nested(prompt) else [prompt] * len(arms)
        if len(by_arm) != len(arms):
            raise InputError(
                f"prompt {number} has {len(by_arm)} histories for {len(arms)} arms"
            )
        for history in by_arm:
            check_lengths(model, [history], number)
        histories.append(by_arm)
    steering = [arm.steering for arm in arms]
    # One row needs no rows of scales, and keeps the cheaper broadcast.
    edits = Edits(model, steering if len(arms) > 1 else steering[0])
    with wired():
        for number, by_arm in enumerate(histories):
            if stop():
                return
            choose = chooser(sampling or Greedy(), number)
            batch = _Batch(
                model, tokenizer, number, arms, by_arm, choose, scale, edits, stop
            )
            yield from batch.run(max_tokens, caches)


def _is_nested(prompt: Any) -> bool:
    return len(prompt) > 0 and not isinstance(prompt[0], int)


class _Batch:
    """The arms of one prompt, decoding together."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        number: int,
        arms: Sequence[Arm],
        prompts: Sequence[Sequence[int]],
        choose: Callable[[mx.array], mx.array],
        scale: Scale | None,
        edits: Edits,
        stop: Callable[[], bool],
    ) -> None:
        self.model = model
        self.arms = arms
        self.prompts = [list(prompt) for prompt in prompts]
        self.stop = stop
        self.scale = scale
        self.choose = choose
        self.eos = set(tokenizer.eos_token_ids)
        self.rows = [
            _Row(number, arm, tokenizer.detokenizer) for arm in range(len(arms))
        ]
        self.edits = edits

    def run(
        self, max_tokens: int, caches: dict[str, ArmCache] | None
    ) -> Iterator[Gauged | Token | Answer]:
        """Prefill and decode; leave in ``caches`` what the next turn can use."""
        if limit := context_length(self.model):
            # a position beyond the context was never trained
            longest = max(len(prompt) for prompt in self.prompts)
            max_tokens = max(1, min(max_tokens, limit - longest))
        kept = [self._reusable(arm, caches) for arm in range(len(self.arms))]
        if caches is not None:  # until the answer is in them, they hold nothing whole
            for arm in self.arms:
                caches.pop(arm.label, None)
        cache = self._prefill(kept)
        fed: list[mx.array] = []
        if cache is not None:
            try:
                yield from self._decode(cache, max_tokens, fed)
            finally:
                if caches is not None and fed:
                    self._store(cache, fed, caches)
        for row in self.rows:
            if row.finish is None:
                row.detokenizer.finalize()
                yield row.answer()

    def _reusable(
        self, arm: int, caches: dict[str, ArmCache] | None
    ) -> tuple[list[Any], int] | None:
        """An arm's kept cache, cut to what it shares with the prompt; its length."""
        kept = (caches or {}).get(self.arms[arm].label)
        if kept is None or kept.arm != self.arms[arm]:
            return None
        # the last token is always fed: its logits are needed
        shared = shared_length(kept.ids, self.prompts[arm][:-1])
        if not shared or not can_trim_prompt_cache(kept.layers):
            return None
        trim_prompt_cache(kept.layers, len(kept.ids) - shared)
        return kept.layers, shared

    def _prefill(
        self, kept: Sequence[tuple[list[Any], int] | None]
    ) -> list[Any] | None:
        """The KV cache of all of the prompts but their last tokens; None if stopped."""
        first = self.prompts[0]
        if not any(kept) and all(prompt == first for prompt in self.prompts):
            return shared_prefill(self.model, first[:-1], self.edits, self.stop)
        rows = []
        for arm, prompt in enumerate(self.prompts):
            layers, start = kept[arm] or (make_prompt_cache(self.model), 0)
            edits = Edits(self.model, self.arms[arm].steering)
            if not prefill(self.model, [prompt[start:-1]], layers, edits, self.stop):
                return None
            rows.append(layers)
        if len(rows) == 1:
            return rows[0]
        return [layers[0].merge(list(layers)) for layers in zip(*rows, strict=True)]

    def _decode(
        self, cache: list[Any], max_tokens: int, fed: list[mx.array]
    ) -> Iterator[Gauged | Token | Answer]:
        with self._tapped() as taken:
            tokens = self._next(mx.array([p[-1] for p in self.prompts]), cache, fed)
        if self.scale is not None:
            parts = (self.scale.part(layer, np.array(a)) for layer, a in taken.items())
            values = np.zeros(len(self.rows)) + sum(parts)
            yield Gauged(self.rows[0].prompt, tuple(map(float, values)))
        for step in range(max_tokens):
            is_last = step == max_tokens - 1
            # The next step is under way while this one's tokens are read and shown.
            ahead = None if is_last else self._next(tokens, cache, fed)
            yield from self._take(np.array(tokens).tolist(), is_last)
            if ahead is None or all(row.finish for row in self.rows) or self.stop():
                return
            tokens = ahead

    @contextmanager
    def _tapped(self) -> Iterator[dict[int, mx.array]]:
        """The neurons at the last token, in the layers that the gauge reads."""
        taken: dict[int, mx.array] = {}

        def keep(layer: int, activations: mx.array) -> None:
            taken[layer] = activations[:, -1].astype(mx.float32)

        layers = self.scale.layers if self.scale else []
        with installed(self.model, layers) as blocks, ExitStack() as stack:
            for layer, block in blocks.items():
                stack.enter_context(block.tapped(partial(keep, layer)))
            yield taken

    def _next(
        self, tokens: mx.array, cache: list[Any], fed: list[mx.array]
    ) -> mx.array:
        # Only while the graph is built: between two tokens the model is the caller's.
        with self.edits.installed():
            logits = self.model(tokens[:, None], cache=cache)[:, -1]
        fed.append(tokens)
        chosen = self.choose(logits)
        mx.async_eval(chosen)
        return chosen

    def _take(self, ids: list[int], is_last: bool) -> Iterator[Token | Answer]:
        for row, token in zip(self.rows, ids, strict=True):
            if row.finish:
                continue
            if token in self.eos:
                row.finish, row.end = "stop", token
            else:
                row.ids.append(token)
                row.detokenizer.add_token(token)
                row.finish = "length" if is_last else None
            if row.finish:  # what was held back until a character is whole
                row.detokenizer.finalize()
            text = row.detokenizer.last_segment
            if text or token not in self.eos:
                yield Token(row.prompt, row.arm, token, text)
            if row.finish:
                yield row.answer()

    def _store(
        self, cache: list[Any], fed: list[mx.array], caches: dict[str, ArmCache]
    ) -> None:
        by_row = np.array(mx.stack(fed, axis=1)).tolist()
        for row, arm in enumerate(self.arms):
            layers = [_extract(layer, row) for layer in cache]
            ids = [*self.prompts[row][:-1], *by_row[row]]
            # a pass that was interrupted has fed some of the layers, and not others
            if all(layer and layer.offset == len(ids) for layer in layers):
                caches[arm.label] = ArmCache(arm, ids, layers)


def _extract(cache: Any, row: int) -> Any:
    """One row of a batch's KV cache, as a cache of its own; None where it cannot be."""
    if isinstance(cache, BatchKVCache):
        return cache.extract(row)
    if type(cache) is not KVCache:
        return None
    single = KVCache()
    keys, values = cache.keys_and_values()
    # copies: a slice would keep the whole batch alive
    single.keys = mx.contiguous(keys[row : row + 1])
    single.values = mx.contiguous(values[row : row + 1])
    single.offset = cache.offset
    return single
