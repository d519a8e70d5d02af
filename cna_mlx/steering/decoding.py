"""Decode the arms of one prompt together: a row of the batch for each arm."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from cna_mlx.labels.thoughts import opens_thought
from cna_mlx.models.context import context_length
from cna_mlx.models.families import installed
from cna_mlx.models.forward import merged
from cna_mlx.models.mlx_lm_internals import make_prompt_cache
from cna_mlx.steering.arm_cache import ArmCache, extract_row
from cna_mlx.steering.arms import Arm, logits_error
from cna_mlx.steering.events import Answer, Finish, Gauged, Token
from cna_mlx.steering.gauge_scale import Scale, finite
from cna_mlx.steering.interventions import Edits
from cna_mlx.steering.prefill import prefill, shared_prefill

_TAG_TOKENS = 16  # an opening think tag and a newline have fewer


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
        self._fed: list[mx.array] = []  # [rows] for each step
        self._logits = mx.zeros(len(self._rows))  # of each row, to find NaN
        self._unsteered = Edits(self.model, [()] * len(self.arms))

    def run(
        self, max_tokens: int, caches: dict[str, ArmCache] | None
    ) -> Iterator[Gauged | Token | Answer]:
        """Prefill and decode; store in ``caches`` what the next turn can use."""
        if limit := context_length(self.model):
            # positions beyond the context were never trained
            longest = max(len(prompt) for prompt in self.prompts)
            max_tokens = max(1, min(max_tokens, limit - longest))
        cache = self._prefill(caches)
        if cache is not None:
            try:
                yield from self._decode(cache, max_tokens)
            finally:
                if caches is not None and self._fed:
                    self._store(cache, caches)
        for row in self._rows:
            if row.finish is None:
                row.detokenizer.finalize()
                yield row.answer()

    def _prefill(self, caches: dict[str, ArmCache] | None) -> list[Any] | None:
        """The KV cache of the prompts without their last tokens; None if stopped."""
        kept = [self._kept(row, caches) for row in range(len(self.arms))]
        first = self.prompts[0]
        is_new = not any(start for _, start in kept)
        if is_new and all(prompt == first for prompt in self.prompts):
            edits = self._unsteered if self.once else self.edits
            return shared_prefill(self.model, first[:-1], edits, self.stop)
        for arm, prompt, (layers, start) in zip(
            self.arms, self.prompts, kept, strict=True
        ):
            edits = Edits(self.model, () if self.once else arm.steering)
            if not prefill(self.model, prompt[start:-1], layers, edits, self.stop):
                return None
        if len(kept) == 1:
            return kept[0][0]
        return merged(self.model, [layers for layers, _ in kept])

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

    def _decode(
        self, cache: list[Any], max_tokens: int
    ) -> Iterator[Gauged | Token | Answer]:
        with self._tapped() as taken:
            tokens = self._next(mx.array([ids[-1] for ids in self.prompts]), cache)
        if self.scale is not None:
            parts = (self.scale.part(layer, np.array(a)) for layer, a in taken.items())
            values = finite(np.zeros(len(self._rows)) + sum(parts))
            yield Gauged(self.number, tuple(map(float, values)))
        for step in range(max_tokens):
            is_last = step == max_tokens - 1
            logits = self._logits
            # The next step runs while this one's tokens are read and shown.
            ahead = None if is_last else self._next(tokens, cache)
            self._check(np.array(logits))
            yield from self._take(np.array(tokens).tolist(), is_last)
            if ahead is None or all(row.finish for row in self._rows) or self.stop():
                return
            tokens = ahead

    @contextmanager
    def _tapped(self) -> Iterator[dict[int, mx.array]]:
        """The activations at the last token, in the layers that the gauge reads."""
        taken: dict[int, mx.array] = {}

        def keep(layer: int, activations: mx.array) -> None:
            taken[layer] = activations[:, -1].astype(mx.float32)

        layers = self.scale.layers if self.scale else []
        with installed(self.model, layers) as blocks, ExitStack() as stack:
            for layer, block in blocks.items():
                stack.enter_context(block.tapped(partial(keep, layer)))
            yield taken

    def _next(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        # Installed only while the graph is built: the caller may use the model
        # between two tokens.
        is_steered = not (self.once and self._fed)
        with (self.edits if is_steered else self._unsteered).installed():
            logits = self.model(tokens[:, None], cache=cache)[:, -1]
        chosen = self.choose(logits)
        logits = logits.astype(mx.float32)
        # NaN makes every token likely: all first logits tell, then the chosen token's
        self._logits = (
            mx.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0]
            if self._fed
            else mx.logsumexp(logits, axis=-1)
        )
        self._fed.append(tokens)
        mx.async_eval(chosen, self._logits)
        return chosen

    def _check(self, logits: np.ndarray) -> None:
        """Raise CnaError for a row that still answers, and has no finite logits."""
        for row, value in zip(self._rows, logits, strict=True):
            if row.finish is None and not np.isfinite(value):
                raise logits_error(self.arms[row.arm])

    def _take(self, ids: list[int], is_last: bool) -> Iterator[Token | Answer]:
        for row, token in zip(self._rows, ids, strict=True):
            if row.finish:
                continue
            if token in self._eos:
                row.finish, row.end = "stop", token
            else:
                row.ids.append(token)
                row.detokenizer.add_token(token)
                row.finish = "length" if is_last else None
            if row.finish:  # flush the bytes of an incomplete character
                row.detokenizer.finalize()
            text = row.detokenizer.last_segment
            if text or token not in self._eos:
                yield Token(row.prompt, row.arm, token, text)
            if row.finish:
                yield row.answer()

    def _store(self, cache: list[Any], caches: dict[str, ArmCache]) -> None:
        fed = np.array(mx.stack(self._fed, axis=1)).tolist()
        for row, arm in enumerate(self.arms):
            ids = [*self.prompts[row][:-1], *fed[row]]
            if kept := extract_row(arm, ids, cache, row):
                caches[arm.label] = kept


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of an answer's tokens, as decoding them one by one gives it."""
    detokenizer = tokenizer.detokenizer
    for token in ids:
        detokenizer.add_token(token)
    detokenizer.finalize()
    text: str = detokenizer.text
    return text
