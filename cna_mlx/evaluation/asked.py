"""What a run asks: its prompts, their arms, and how long the answers may be."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.refusing_openings import Opening
from cna_mlx.evaluation.kl import KL_TOKENS
from cna_mlx.evaluation.order import (
    GROUPED,
    Named,
    grouped,
    in_sequence,
    interleaved,
    sizes,
)
from cna_mlx.evaluation.samples import Sample
from cna_mlx.models.context import check_lengths, context_length
from cna_mlx.prompts.benchmarks import Benchmark, EvalPrompt
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS
from cna_mlx.steering.prefill import Header
from cna_mlx.steering.sequences import shared_beginning


@dataclass
class Pending:
    """A prompt while it is answered.

    Attributes:
        first: the most likely first tokens with their probabilities, by arm.
        answers, samples: of each arm.
    """

    number: int
    ids: list[int]
    answers: list[Answer] = field(default_factory=list)
    gauge: float | None = None
    opening: float | None = None
    first: dict[int, tuple[tuple[str, float], ...]] = field(default_factory=dict)
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
    def beginning(self) -> Header:
        """What all prompts begin with."""
        if self.header is not None:
            return self.header
        prompts = in_sequence(self.sets)
        return Header(shared_beginning(self.ids(one) for _, one in prompts))

    @property
    def extends(self) -> bool:
        """Whether answers may continue past ``max_tokens``."""
        return self.extend_to > self.max_tokens

    @property
    def measures(self) -> bool:
        """Whether more than the answers is read from the prompts' caches."""
        return bool(self.kl_tokens or self.openings) or self.main is not None

    @property
    def size(self) -> int:
        """Prompts of a batch."""
        return sizes(self.rows, len(self.arms))[0]

    @property
    def width(self) -> int:
        """Rows of a batch."""
        return self.size * len(self.arms)

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

    def has_room(self, ids: Sequence[int], begun: Sequence[int]) -> bool:
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
