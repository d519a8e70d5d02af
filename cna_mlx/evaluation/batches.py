"""Answer prompts in groups: every arm of each prompt is a row of one batch."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.refusing_openings import Opening, log_odds_after
from cna_mlx.discovery.words import word_gauges
from cna_mlx.evaluation.further import (
    LOOKED,
    OPENED_TOKENS,
    compares,
    continues,
    first_word,
    turned,
)
from cna_mlx.evaluation.kl import KL_TOKENS, kl_after_prefill
from cna_mlx.evaluation.order import (
    GROUPED,
    Named,
    grouped,
    in_sequence,
    interleaved,
    sizes,
)
from cna_mlx.evaluation.samples import Continuation, Sample
from cna_mlx.models.context import check_lengths, context_length
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arm_cache import ArmCache, can_extract
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.decoding import begins_thought, text_of
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.first_tokens import first_tokens
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS, generate_arms
from cna_mlx.steering.prefill import Header, copy_of, take_rows
from cna_mlx.steering.sequences import shared_beginning
from cna_mlx.util.progress import never

#: So few rows of a batch may still answer when the others have ended: these wait for
#: those of the group's other batches.
WAITING = 0.25

_Caches = dict[str, ArmCache]


@dataclass
class _Stop:
    """Whether to stop; once it is so, it stays so."""

    asked: Callable[[], bool]
    has_stopped: bool = False

    def __call__(self) -> bool:
        self.has_stopped = self.has_stopped or self.asked()
        return self.has_stopped


@dataclass
class _Asked:
    """A prompt while it is answered: its number, and a sample for each arm."""

    number: int
    ids: list[int]
    answers: list[Answer] = field(default_factory=list)
    gauge: float | None = None
    opening: float | None = None
    kl: list[float] | None = None
    samples: list[Sample] = field(default_factory=list)

    def named(self, arm: Arm) -> Arm:
        """The arm with a label that no row of another prompt has."""
        return replace(arm, label=f"{arm.label}, prompt {self.number + 1}")


@dataclass(frozen=True)
class Evaluation:
    """Prompts, and how to answer them.

    Attributes:
        sets: the prompts.
        arms: the first is the baseline.
        max_tokens: new tokens for each answer.
        kl_tokens: of the baseline's answer, for the KL; 0 for no KL.
        gauge: a circuit to gauge each prompt along, or None.
        order: of the prompts: ``interleaved``, or ``grouped`` by length too; None for
            one set after the other.
        extend_to: tokens in all of an answer that continues past ``max_tokens``; 0 for
            none.
        main: the row whose answer is also begun with the baseline's first word where
            it answers what the baseline refuses; None for no row.
        openings: of the model's refusals; empty if unknown.
        rows: of a batch: as many prompts are answered together as have so many rows, or
            one.
        header: what all prompts begin with; found from them if None.
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
    rows: int = 0
    header: Header | None = None

    @cached_property
    def prompts(self) -> list[Named]:
        """Every prompt with the name of its set, in the order of the run."""
        if self.order == GROUPED:
            return grouped(self.sets, lambda one: len(self.ids(one[1])), self.size)
        return (interleaved if self.order else in_sequence)(self.sets)

    @cached_property
    def _header(self) -> Header:
        if self.header is not None:
            return self.header
        prompts = in_sequence(self.sets)
        return Header(shared_beginning(self.ids(one) for _, one in prompts))

    @property
    def size(self) -> int:
        """Prompts of a batch."""
        return sizes(self.rows, len(self.arms))[0]

    def next_group(self, done: int) -> range:
        """The numbers of the prompts that are answered with the one after ``done``.

        A group is one or more batches.
        """
        _, size = sizes(self.rows, len(self.arms))
        start = done - done % size
        return range(start, min(start + size, len(self.prompts)))

    @cached_property
    def repeats(self) -> dict[int, int]:
        """The prompts that repeat an earlier one of their kind, and its number."""
        first: dict[tuple[str, str], int] = {}
        found = {}
        for number, (_, one) in enumerate(self.prompts):
            earlier = first.setdefault((one.text, one.kind), number)
            if earlier != number:
                found[number] = earlier
        return found

    def check(self) -> None:
        """Raise InputError if a prompt is longer than the context."""
        prompts = in_sequence(self.sets)
        check_lengths(self.model, [self.ids(one) for _, one in prompts])

    def bare(self, max_tokens: int) -> "Evaluation":
        """The same arms and prompts, with nothing beyond so many tokens."""
        return replace(
            self,
            max_tokens=max_tokens,
            kl_tokens=0,
            gauge=None,
            extend_to=0,
            main=None,
            openings=(),
            header=self._header,
        )

    def batch(
        self, number: int, stop: Callable[[], bool] = never
    ) -> list[Sample] | None:
        """Answer prompt ``number`` alone; see :meth:`group`.

        Returns a sample for each arm, in their order; None if stopped.
        """
        found = self.group([number], stop)
        return None if found is None else found[0]

    def group(
        self, numbers: Sequence[int], stop: Callable[[], bool] = never
    ) -> list[list[Sample]] | None:
        """Answer these prompts in every arm, and measure the answers.

        Returns the samples of each prompt, in the order of the arms; None if stopped.
        """
        started, stop = time.perf_counter(), _Stop(stop)
        asked = [
            _Asked(number, self.ids(self.prompts[number][1])) for number in numbers
        ]
        caches: _Caches = {}  # of rows that go on
        if not (
            self._answer(asked, caches, stop)
            and self._extend(asked, caches, stop)
            and self._open(asked, stop)
        ):
            return None
        for one in asked:
            looked = self._looked(one.number, one.ids, one.samples, stop)
            if looked is None:
                return None
            one.samples = looked
            one.samples[0] = replace(one.samples[0], opening=one.opening)
        seconds = round((time.perf_counter() - started) / len(asked), 3)
        return [
            [replace(sample, seconds=seconds) for sample in one.samples]
            for one in asked
        ]

    def _answer(self, asked: Sequence[_Asked], caches: _Caches, stop: _Stop) -> bool:
        """The answers of all arms with their KL; False if stopped."""
        size = self.size if self.rows else len(asked)
        batches = [asked[at : at + size] for at in range(0, len(asked), size)]
        waiting: list[tuple[_Asked, int]] = []
        for batch in batches:
            left = self._batch(batch, caches, stop, parks=len(batches) > 1)
            if left is None:
                return False
            waiting += left
        for at in range(0, len(waiting), max(1, self.rows)):
            rows = waiting[at : at + self.rows]
            begun = [one.answers[row].token_ids for one, row in rows]
            more = [self.max_tokens - len(own) for own in begun]
            found = self._continued(rows, begun, more, stop, caches)
            if found is None:
                return False
            for (one, row), answer in zip(rows, found, strict=True):
                one.answers[row] = answer
            self._keep(caches, [])
        for one in asked:
            one.samples = [
                Sample.of(
                    one.number,
                    *self.prompts[one.number],
                    arm.label,
                    answer,
                    gauge=one.gauge,
                    kl=one.kl and one.kl[row],
                )
                for row, (arm, answer) in enumerate(
                    zip(self.arms, one.answers, strict=True)
                )
            ]
        return True

    def _batch(
        self, asked: Sequence[_Asked], caches: _Caches, stop: _Stop, *, parks: bool
    ) -> list[tuple[_Asked, int]] | None:
        """Answer prompts in one batch; return the rows that wait, or None if stopped.

        Args:
            parks: a few rows wait where the others have ended.
        """
        rows = [(one, row) for one in asked for row in range(len(self.arms))]
        fed: list[list[Any]] = []  # KV caches of the prompts
        few = int(WAITING * len(rows))
        parks = parks and can_extract(self.model)
        events = list(
            generate_arms(
                self.model,
                self.tokenizer,
                [[one.ids for one, _ in rows]],
                [one.named(self.arms[row]) for one, row in rows],
                max_tokens=self.max_tokens,
                caches=caches if parks or self._extends else None,
                gauge=self.gauge,
                leaves=True,
                # the KL needs so much of the answers
                parks=(lambda left, tokens: left <= few and tokens >= KL_TOKENS)
                if parks
                else None,
                prefilled=fed.append if self.kl_tokens or self.openings else None,
                header=self._header,
                stop=stop,
            )
        )
        answers = [one for one in events if isinstance(one, Answer)]
        if stop.has_stopped or len(answers) < len(rows):
            return None
        answers.sort(key=lambda one: one.arm)
        gauges = next((one.arms for one in events if isinstance(one, Gauged)), None)
        for row, ((one, arm), answer) in enumerate(zip(rows, answers, strict=True)):
            one.answers.append(answer)
            if gauges and not arm:
                one.gauge = gauges[row]
        waiting = [
            (one, arm) for one, arm in rows if one.answers[arm].finish == "interrupted"
        ]
        self._keep(caches, waiting)
        return waiting if self._measure(asked, fed, stop) else None

    @property
    def _extends(self) -> bool:
        return self.extend_to > self.max_tokens

    def _keep(self, caches: _Caches, rows: Sequence[tuple[_Asked, int]]) -> None:
        """Drop the caches of rows that do not go on; all may if answers extend."""
        if not self._extends:
            kept = {one.named(self.arms[row]).label for one, row in rows}
            for label in [*caches]:
                if label not in kept:
                    del caches[label]

    def _measure(
        self, asked: Sequence[_Asked], fed: list[list[Any]], stop: _Stop
    ) -> bool:
        """Add the openings' log-odds and the KL; False if stopped."""
        if self.openings:
            arms = len(self.arms)
            of_baselines = mx.arange(0, arms * len(asked), arms)
            own = [copy_of(layer) for layer in fed[0]]
            for layer in own:
                take_rows(layer, of_baselines)
            last = [one.ids[-1] for one in asked]
            found = log_odds_after(self.model, own, last, self.openings)
            for one, odds in zip(asked, found, strict=True):
                one.opening = odds
        if not self.kl_tokens:
            return True
        kls = kl_after_prefill(
            self.model,
            fed.pop(),  # they are large
            [one.ids[-1] for one in asked],
            [one.answers[0].token_ids for one in asked],
            self.arms,
            tokens=self.kl_tokens,
            stop=stop,
        )
        for one, own in zip(asked, kls or [], strict=kls is not None):
            one.kl = own
        return kls is not None

    def _extend(self, asked: Sequence[_Asked], caches: _Caches, stop: _Stop) -> bool:
        """Continue the answers that may still change; False if stopped."""
        if not self._extends:
            return True
        rows = [
            (one, row)
            for one in asked
            for row, sample in enumerate(one.samples)
            if continues(sample) and self._has_room(one.ids, sample.token_ids)
        ]
        begun = [one.samples[row].token_ids for one, row in rows]
        more = self.extend_to - self.max_tokens
        found = self._continued(rows, begun, more, stop, caches)
        caches.clear()  # they are large
        for (one, row), whole in zip(rows, found or [], strict=found is not None):
            one.samples[row] = replace(one.samples[row], extended=_continuation(whole))
        return found is not None

    def _open(self, asked: Sequence[_Asked], stop: _Stop) -> bool:
        """Begin the main arm's answers as refusals; False if stopped."""
        if self.main is None:
            return True
        limit = min(self.max_tokens, OPENED_TOKENS)
        rows, openings = [], []
        for one in asked:
            begun = self._opening(one.samples)
            if 0 < len(begun) < limit and self._has_room(one.ids, begun):
                rows.append((one, self.main))
                openings.append(begun)
        more = [limit - len(begun) for begun in openings]
        found = self._continued(rows, openings, more, stop)
        for (one, row), whole in zip(rows, found or [], strict=found is not None):
            opened = _continuation(whole)
            one.samples[row] = replace(one.samples[row], opened=opened)
        return found is not None

    def _looked(
        self,
        number: int,
        ids: list[int],
        samples: list[Sample],
        stop: _Stop,
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
        rows: Sequence[tuple[_Asked, int]],
        begun: Sequence[Sequence[int]],
        max_tokens: int | Sequence[int],
        stop: _Stop,
        caches: _Caches | None = None,
    ) -> list[Answer] | None:
        """Continue what each of these rows has begun to say; None if stopped."""
        if not rows:
            return []
        events = generate_arms(
            self.model,
            self.tokenizer,
            [[[*one.ids, *own] for (one, _), own in zip(rows, begun, strict=True)]],
            [one.named(self.arms[row]) for one, row in rows],
            max_tokens=max_tokens,
            caches=caches,
            leaves=True,
            stop=stop,
        )
        answers = _finished(events, len(rows))
        if answers is None:
            return None
        found = []
        for (one, _), own, answer in zip(rows, begun, answers, strict=True):
            whole = *own, *answer.token_ids
            text = text_of(self.tokenizer, whole)
            begins = begins_thought(self.tokenizer, one.ids)
            found.append(
                replace(answer, text=text, token_ids=whole, opens_thought=begins)
            )
        return found

    def _has_room(self, ids: Sequence[int], begun: Sequence[int]) -> bool:
        """Whether the context has room for more of an answer."""
        limit = context_length(self.model)
        return limit is None or len(ids) + len(begun) < limit

    def ids(self, prompt: EvalPrompt) -> list[int]:
        """The token ids of a prompt."""
        return self._rendered[prompt.text]

    @cached_property
    def _rendered(self) -> dict[str, list[int]]:
        texts = (prompt.text for _, prompt in in_sequence(self.sets))
        return {
            text: render_prompt(self.tokenizer, text, self.rendering) for text in texts
        }


def _continuation(answer: Answer) -> Continuation:
    begins = answer.opens_thought
    return Continuation.of(
        answer.text, answer.token_ids, answer.finish, opens_thought=begins
    )


def _finished(
    events: Iterable[Gauged | Token | Answer], rows: int
) -> list[Answer] | None:
    """The answers in the order of the rows; None if one was interrupted."""
    answers = [
        one for one in events if isinstance(one, Answer) and one.finish != "interrupted"
    ]
    answers.sort(key=lambda one: one.arm)
    return answers if len(answers) == rows else None
