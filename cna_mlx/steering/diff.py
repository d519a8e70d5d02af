"""Answer prompts in several arms, label the answers and compare them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.circuit import Circuit
from cna_mlx.labels.label import Label, LabelKind, label
from cna_mlx.labels.repetition import quality
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.events import Answer, Finish, Gauged, Token
from cna_mlx.steering.generation import DEFAULT_MAX_TOKENS, generate_arms
from cna_mlx.steering.sampling import Sampling
from cna_mlx.steering.sequences import shared_length
from cna_mlx.util.progress import never
from cna_mlx.util.sanitize import first_words


@dataclass(frozen=True)
class ArmResult:
    """One arm's labelled answer to a prompt.

    Attributes:
        text, token_ids, finish, end: as in :class:`~cna_mlx.steering.events.Answer`.
        label: the label and the span of ``text`` that decided it.
        quality: share of distinct 4-word sequences (1.0 for shorter answers).
    """

    arm: Arm
    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    label: Label
    quality: float
    end: int | None = None

    @classmethod
    def of(cls, arm: Arm, answer: Answer) -> "ArmResult":
        """Label an answer."""
        text, ids, finish = answer.text, answer.token_ids, answer.finish
        found = label(text, opens_thought=answer.opens_thought)
        return cls(arm, text, ids, finish, found, quality(text), answer.end)

    @property
    def multiplier(self) -> float:
        """The arm's multiplier; 1 for the baseline."""
        return self.arm.multiplier

    def to_dict(self, *, hides_text: bool = False) -> dict[str, Any]:
        """The answer for JSON; a hidden one keeps its first words and no token ids."""
        span = None if hides_text else self.label.span
        return {
            "arm": self.arm.label,
            "multiplier": self.multiplier,
            "intervention": self.arm.intervention,
            "text": first_words(self.text) if hides_text else self.text,
            "label": str(self.label.kind),
            "span": list(span) if span else None,
            "quality": self.quality,
            "tokens": len(self.token_ids),
            "token_ids": [] if hides_text else list(self.token_ids),
            "finish": self.finish,
        }


@dataclass(frozen=True)
class PromptResult:
    """The answers of all arms to one prompt; the first arm is the baseline.

    Attributes:
        gauge: the prompt's reading, 0 for the mean negative prompt and 1 for the mean
            positive one; None without a gauge.
    """

    prompt: str
    arms: tuple[ArmResult, ...]
    gauge: float | None = None

    def divergence(self, arm: int) -> int | None:
        """Where an arm's text diverges from the baseline's; see :func:`divergence`."""
        return divergence(self.arms[0].text, self.arms[arm].text)

    @property
    def is_whole(self) -> bool:
        """Whether every arm finished, so that the answers can be counted."""
        return all(arm.finish != "interrupted" for arm in self.arms)

    def to_dict(self, *, hides_text: bool = False) -> dict[str, Any]:
        """The prompt and its answers for JSON; see :meth:`ArmResult.to_dict`."""
        arms = [arm.to_dict(hides_text=hides_text) for arm in self.arms]
        return {"prompt": self.prompt, "gauge": self.gauge, "arms": arms}

    @property
    def in_thought(self) -> int:
        """The number of answers that end inside a thought."""
        return sum(arm.label.in_thought for arm in self.arms)

    @property
    def is_refused_by_all(self) -> bool:
        """Whether there are several arms and all of them refuse."""
        kinds = {arm.label.kind for arm in self.arms}
        return len(self.arms) > 1 and kinds == {LabelKind.REFUSED}


@dataclass(frozen=True)
class ArmRates:
    """The labels of one arm, counted over the prompts.

    Attributes:
        total, counts: answers in all and of each label.
        quality: the mean quality; a refusal rate is never shown without it.
        truncated: answers that reached the token limit.
    """

    arm: Arm
    total: int
    counts: dict[LabelKind, int]
    quality: float
    truncated: int

    def to_dict(self) -> dict[str, Any]:
        """The counts for JSON."""
        return {
            "arm": self.arm.label,
            "prompts": self.total,
            **{kind.lower(): count for kind, count in self.counts.items()},
            "quality": self.quality,
            "truncated": self.truncated,
        }


def divergence(baseline: str, text: str) -> int | None:
    """Return where two texts diverge; None if they are identical.

    The position is in characters, at the beginning of the word that differs.
    """
    if baseline == text:
        return None
    shared = shared_length(baseline, text)
    if not all(side[shared : shared + 1].strip() == "" for side in (baseline, text)):
        while shared and not text[shared - 1].isspace():
            shared -= 1
    return shared


def diff(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    arms: Sequence[Arm],
    *,
    rendering: Rendering | None = None,
    max_tokens: int = DEFAULT_MAX_TOKENS,
    sampling: Sampling | None = None,
    gauge: Circuit | None = None,
    stop: Callable[[], bool] = never,
) -> Iterator[Gauged | Token | PromptResult]:
    """Answer user prompts in every arm, the baseline first, and label the answers.

    Arguments and errors are those of
    :func:`~cna_mlx.steering.generation.generate_arms`; for the events see
    :func:`label_answers`.
    """
    events = generate_arms(
        model,
        tokenizer,
        [render_prompt(tokenizer, prompt, rendering) for prompt in prompts],
        arms,
        max_tokens=max_tokens,
        sampling=sampling,
        gauge=gauge,
        stop=stop,
    )
    return label_answers(prompts, arms, events)


def label_answers(
    prompts: Sequence[str],
    arms: Sequence[Arm],
    events: Iterable[Gauged | Token | Answer],
) -> Iterator[Gauged | Token | PromptResult]:
    """Label the answers of :func:`~cna_mlx.steering.generation.generate_arms`.

    Yields:
        Gauges and tokens as they come, and a result when a prompt's last arm ends.
    """
    results: dict[int, ArmResult] = {}
    gauged: float | None = None
    for event in events:
        if not isinstance(event, Answer):
            if isinstance(event, Gauged):
                gauged = event.value
            yield event
            continue
        results[event.arm] = ArmResult.of(arms[event.arm], event)
        if len(results) == len(arms):
            in_order = tuple(results[arm] for arm in range(len(arms)))
            yield PromptResult(prompts[event.prompt], in_order, gauged)
            results, gauged = {}, None


def rates(results: Sequence[PromptResult]) -> list[ArmRates]:
    """Count the labels of each arm, in the order of the arms."""
    return [
        ArmRates(
            column[0].arm,
            len(column),
            {kind: sum(a.label.kind is kind for a in column) for kind in LabelKind},
            sum(answer.quality for answer in column) / len(column),
            sum(answer.finish == "length" for answer in column),
        )
        for column in zip(*(result.arms for result in results), strict=True)
    ]
