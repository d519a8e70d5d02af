"""Answer one prompt after the other, all arms of a prompt in one batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.evaluation.kl import KL_TOKENS, kl_from_baseline
from cna_mlx.evaluation.order import Named, in_sequence, interleaved
from cna_mlx.evaluation.samples import Sample
from cna_mlx.models.context import check_lengths
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer, Gauged
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS, generate_arms
from cna_mlx.util.progress import never

_TRIAL_TOKENS = 8


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

    @cached_property
    def prompts(self) -> list[Named]:
        """Every prompt with the name of its set, in the order of the run."""
        return (interleaved if self.order else in_sequence)(self.sets)

    def check(self) -> None:
        """Raise InputError if a prompt is longer than the context."""
        prompts = in_sequence(self.sets)
        check_lengths(self.model, [self._ids(one) for _, one in prompts])

    def expected_seconds(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """The longest that a run can take, from a trial with the longest prompt."""
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
        return batch * len(self.prompts)

    def batch(
        self, number: int, stop: Callable[[], bool] = never
    ) -> list[Sample] | None:
        """Answer prompt ``number`` in every arm, and measure the answers.

        Returns a sample for each arm, in their order; None if stopped.
        """
        set_name, prompt = self.prompts[number]
        ids, started = self._ids(prompt), time.perf_counter()
        gauge: float | None = None
        answers: dict[int, Answer] = {}
        for event in generate_arms(
            self.model,
            self.tokenizer,
            [ids],
            self.arms,
            max_tokens=self.max_tokens,
            gauge=self.gauge,
            stop=stop,
        ):
            if isinstance(event, Gauged):
                gauge = event.value
            elif isinstance(event, Answer) and event.finish != "interrupted":
                answers[event.arm] = event
        if len(answers) < len(self.arms):
            return None
        kls: Sequence[float | None] | None = [None] * len(self.arms)
        if count := self.kl_tokens:
            answer = answers[0].token_ids
            kls = kl_from_baseline(
                self.model, ids, answer, self.arms, tokens=count, stop=stop
            )
        if kls is None:
            return None
        seconds = round(time.perf_counter() - started, 3)
        return [
            Sample.of(
                number,
                set_name,
                prompt,
                arm.label,
                answers[row],
                kl=kls[row],
                gauge=gauge,
                seconds=seconds,
            )
            for row, arm in enumerate(self.arms)
        ]

    def _ids(self, prompt: EvalPrompt) -> list[int]:
        return render_prompt(self.tokenizer, prompt.text, self.rendering)
