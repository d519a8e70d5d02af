"""Answer one prompt after the other, all arms of a prompt in one batch."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.refusing_openings import Opening, opening_log_odds
from cna_mlx.discovery.words import word_gauges
from cna_mlx.evaluation.further import (
    LOOKED,
    OPENED_TOKENS,
    SAMPLED,
    compares,
    continues,
    first_word,
    turned,
)
from cna_mlx.evaluation.kl import KL_TOKENS, kl_from_baseline
from cna_mlx.evaluation.order import Named, in_sequence, interleaved
from cna_mlx.evaluation.samples import Continuation, Sample
from cna_mlx.models.context import check_lengths, context_length
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.decoding import begins_thought, text_of
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS, generate_arms
from cna_mlx.util.progress import never

_TRIAL_TOKENS = 8

_Caches = dict[str, ArmCache] | None


@dataclass(frozen=True)
class Evaluation:
    """Prompts, and how to answer them.

    Attributes:
        sets: the prompts.
        arms: the first is the baseline.
        max_tokens: new tokens for each answer.
        kl_tokens: of the baseline's answer, for the KL; 0 for no KL.
        gauge: a circuit to gauge each prompt along, or None.
        order: of the prompts: ``interleaved``; None for one set after the other.
        extend_to: tokens in all of an answer that continues past ``max_tokens``; 0 for
            none.
        main: the row whose answer is also begun with the baseline's first word where
            it answers what the baseline refuses; None for no row.
        openings: of the model's refusals; empty if unknown.
    """

    model: Any
    tokenizer: Any
    sets: Sequence[Benchmark]
    arms: Sequence[Arm]
    rendering: Rendering
    max_tokens: int = DEFAULT_MAX_TOKENS
    kl_tokens: int = KL_TOKENS
    gauge: Circuit | None = None
    order: str | None = None
    extend_to: int = 0
    main: int | None = None
    openings: Sequence[Opening] = ()

    @cached_property
    def prompts(self) -> list[Named]:
        """Every prompt with the name of its set, in the order of the run."""
        return (interleaved if self.order else in_sequence)(self.sets)

    def check(self) -> None:
        """Raise InputError if a prompt is longer than the context."""
        prompts = in_sequence(self.sets)
        check_lengths(self.model, [self._ids(one) for _, one in prompts])

    def expected_seconds(
        self, clock: Callable[[], float] = time.perf_counter
    ) -> tuple[float, float]:
        """Estimate a run's time from a trial with the longest prompt.

        Returns:
            The longest that the answers can take; and what continuing one in
            :data:`SAMPLED` of them adds.
        """
        ids = max((self._ids(one) for _, one in self.prompts), key=len)
        times = []
        for tokens in (1, 1 + _TRIAL_TOKENS):  # the first run also warms up
            started = clock()
            for _ in generate_arms(
                self.model, self.tokenizer, [ids], self.arms, max_tokens=tokens
            ):
                pass
            times.append(clock() - started)
        step = max(0.0, times[1] - times[0]) / _TRIAL_TOKENS
        first = max(0.0, min(times) - step)
        batch = first + step * self.max_tokens
        if count := min(self.kl_tokens, self.max_tokens):
            started = clock()
            answer = ids[-_TRIAL_TOKENS:]  # any tokens take as long as an answer's
            kl_from_baseline(self.model, ids, answer, self.arms)
            own = max(step, (clock() - started - first) / len(answer))
            batch += first + own * count
        more = step * max(0, self.extend_to - self.max_tokens) / SAMPLED
        return batch * len(self.prompts), more * len(self.prompts)

    def batch(
        self, number: int, stop: Callable[[], bool] = never
    ) -> list[Sample] | None:
        """Answer prompt ``number`` in every arm, and measure the answers.

        Returns a sample for each arm, in their order; None if stopped.
        """
        started = time.perf_counter()
        ids = self._ids(self.prompts[number][1])
        caches: _Caches = {} if self.extend_to > self.max_tokens else None
        samples = self._answered(number, ids, caches, stop)
        samples = samples and self._extended(ids, samples, caches, stop)
        samples = samples and self._opened(ids, samples, stop)
        if not samples:
            return None
        kls: Sequence[float | None] | None = [None] * len(self.arms)
        if count := self.kl_tokens:
            answer = samples[0].token_ids
            kls = kl_from_baseline(
                self.model, ids, answer, self.arms, tokens=count, stop=stop
            )
        looked = None if kls is None else self._looked(number, ids, samples, stop)
        if kls is None or looked is None:
            return None
        if self.openings:
            odds = opening_log_odds(self.model, ids, self.openings)
            looked[0] = replace(looked[0], opening=odds)
        seconds = round(time.perf_counter() - started, 3)
        return [
            replace(one, kl=kl, seconds=seconds)
            for one, kl in zip(looked, kls, strict=True)
        ]

    def _answered(
        self, number: int, ids: list[int], caches: _Caches, stop: Callable[[], bool]
    ) -> list[Sample] | None:
        """The answers of all arms; None if stopped."""
        events = list(
            generate_arms(
                self.model,
                self.tokenizer,
                [ids],
                self.arms,
                max_tokens=self.max_tokens,
                caches=caches,
                gauge=self.gauge,
                stop=stop,
            )
        )
        answers = _finished(events, len(self.arms))
        if answers is None:
            return None
        gauge = next((one.value for one in events if isinstance(one, Gauged)), None)
        return [
            Sample.of(number, *self.prompts[number], arm.label, answer, gauge=gauge)
            for arm, answer in zip(self.arms, answers, strict=True)
        ]

    def _extended(
        self,
        ids: list[int],
        samples: list[Sample],
        caches: _Caches,
        stop: Callable[[], bool],
    ) -> list[Sample] | None:
        """Continue the answers that may still change; None if stopped."""
        if caches is None:
            return samples
        rows = [
            row
            for row, one in enumerate(samples)
            if continues(one) and self._has_room(ids, one.token_ids)
        ]
        begun = [samples[row].token_ids for row in rows]
        more = self.extend_to - self.max_tokens
        found = self._continued(ids, rows, begun, more, stop, caches)
        caches.clear()  # they are large
        if found is None:
            return None
        for row, whole in zip(rows, found, strict=True):
            samples[row] = replace(samples[row], extended=whole)
        return samples

    def _opened(
        self, ids: list[int], samples: list[Sample], stop: Callable[[], bool]
    ) -> list[Sample] | None:
        """Begin the main arm's answer as a refusal; None if stopped."""
        begun = self._opening(samples)
        if self.main is None or not begun:
            return samples
        left = min(self.max_tokens, OPENED_TOKENS) - len(begun)
        if left < 1 or not self._has_room(ids, begun):
            return samples
        found = self._continued(ids, [self.main], [begun], left, stop)
        if found is None:
            return None
        samples[self.main] = replace(samples[self.main], opened=found[0])
        return samples

    def _looked(
        self,
        number: int,
        ids: list[int],
        samples: list[Sample],
        stop: Callable[[], bool],
    ) -> list[Sample] | None:
        """Add the words and first tokens of a run's first prompts; None if stopped."""
        if self.main is None or number >= LOOKED:
            return samples
        rows = 0, self.main
        arms = [self.arms[row] for row in rows]
        found = first_tokens(self.model, self.tokenizer, ids, arms, stop=stop)
        if found is None:
            return None
        for place, row in enumerate(rows):
            first = tuple((t.text, t.probabilities[place]) for t in found.tokens)
            samples[row] = replace(samples[row], first=first)
        if self.gauge is not None:
            message = {"role": "user", "content": samples[0].prompt}
            words = word_gauges(
                self.model, self.tokenizer, self.gauge, [message], self.rendering
            )
            samples[0] = replace(
                samples[0], words=tuple((w.text, w.gauge) for w in words)
            )
        return samples

    def _opening(self, samples: list[Sample]) -> tuple[int, ...]:
        """The first word of the baseline's refusal where the main arm answers; of a
        usual refusal where both answer a benign prompt, to compare with.
        """
        if self.main is None:
            return ()
        baseline, main = samples[0], samples[self.main]
        if turned(baseline, main):
            return first_word(self.tokenizer, baseline.token_ids)
        if self.openings and compares(baseline, main):
            return first_word(self.tokenizer, self.openings[0])
        return ()

    def _continued(
        self,
        ids: list[int],
        rows: Sequence[int],
        begun: Sequence[Sequence[int]],
        max_tokens: int,
        stop: Callable[[], bool],
        caches: _Caches = None,
    ) -> list[Continuation] | None:
        """Continue what each of these rows has begun to say; None if stopped."""
        if not rows:
            return []
        events = generate_arms(
            self.model,
            self.tokenizer,
            [[[*ids, *one] for one in begun]],
            [self.arms[row] for row in rows],
            max_tokens=max_tokens,
            caches=caches,
            stop=stop,
        )
        answers = _finished(events, len(rows))
        if answers is None:
            return None
        wholes = [
            (*one, *answer.token_ids)
            for one, answer in zip(begun, answers, strict=True)
        ]
        begins = begins_thought(self.tokenizer, ids)
        return [
            Continuation.of(
                text_of(self.tokenizer, whole),
                whole,
                answer.finish,
                opens_thought=begins,
            )
            for whole, answer in zip(wholes, answers, strict=True)
        ]

    def _has_room(self, ids: Sequence[int], begun: Sequence[int]) -> bool:
        """Whether the context has room for more of an answer."""
        limit = context_length(self.model)
        return limit is None or len(ids) + len(begun) < limit

    def _ids(self, prompt: EvalPrompt) -> list[int]:
        return render_prompt(self.tokenizer, prompt.text, self.rendering)


def _finished(
    events: Iterable[Gauged | Token | Answer], rows: int
) -> list[Answer] | None:
    """The answers in the order of the rows; None if one was interrupted."""
    answers = [
        one for one in events if isinstance(one, Answer) and one.finish != "interrupted"
    ]
    answers.sort(key=lambda one: one.arm)
    return answers if len(answers) == rows else None
