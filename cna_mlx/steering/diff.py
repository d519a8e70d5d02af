"""The same prompts in several arms: what each answered, and how it is labelled."""

from collections.abc import Callable, Iterator, Sequence
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
from cna_mlx.util.sanitize import FIRST_WORDS
from cna_mlx.util.sanitize import first_words as first_words


@dataclass(frozen=True)
class ArmResult:
    """One arm's answer to a prompt, labelled.

    Attributes:
        arm: the arm.
        text, token_ids, finish, end: as in :class:`cna_mlx.steering.generation.Answer`.
        label: the verdict and the span of ``text`` that decided it.
        quality: distinct / all 4-grams of the words, 1.0 below four words.
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
        """An answer with its label and quality."""
        return cls(
            arm,
            answer.text,
            answer.token_ids,
            answer.finish,
            label(answer.text),
            quality(answer.text),
            answer.end,
        )

    @property
    def multiplier(self) -> float:
        """The arm's multiplier; 1 for the baseline."""
        return self.arm.multiplier

    def to_dict(self, *, hides_text: bool = False) -> dict[str, Any]:
        """The answer for JSON.

        Args:
            hides_text: give its first words only, and no token ids.
        """
        span = None if hides_text else self.label.span
        return {
            "arm": self.arm.label,
            "multiplier": self.multiplier,
            "text": self.first_words() if hides_text else self.text,
            "label": str(self.label.kind),
            "span": list(span) if span else None,
            "quality": self.quality,
            "tokens": len(self.token_ids),
            "token_ids": [] if hides_text else list(self.token_ids),
            "finish": self.finish,
        }

    def first_words(self, count: int = FIRST_WORDS) -> str:
        """How the text begins; see :func:`first_words`."""
        return first_words(self.text, count)


@dataclass(frozen=True)
class PromptResult:
    """What every arm answered to one prompt; the first arm is the baseline.

    Attributes:
        prompt: the user's words.
        arms: one for each arm.
        gauge: where the prompt lies along the circuit: 0 as the answered ones, 1 as
            the refused; None where there is no gauge.
    """

    prompt: str
    arms: tuple[ArmResult, ...]
    gauge: float | None = None

    def divergence(self, arm: int) -> int | None:
        """Where an arm's text parts from the baseline's, in characters.

        Returns:
            The position, moved back to the beginning of the word that differs; None
            if the texts are the same.
        """
        return divergence(self.arms[0].text, self.arms[arm].text)

    @property
    def is_whole(self) -> bool:
        """Whether no arm was interrupted: only then can its answers be counted."""
        return all(arm.finish != "interrupted" for arm in self.arms)

    def to_dict(self, *, hides_text: bool = False) -> dict[str, Any]:
        """The prompt and its answers for JSON; see :meth:`ArmResult.to_dict`."""
        arms = [arm.to_dict(hides_text=hides_text) for arm in self.arms]
        return {"prompt": self.prompt, "gauge": self.gauge, "arms": arms}

    @property
    def is_refused_by_all(self) -> bool:
        """Whether there are several arms, and each of them refuses."""
        verdicts = {arm.label.kind for arm in self.arms}
        return len(self.arms) > 1 and verdicts == {LabelKind.REFUSED}


@dataclass(frozen=True)
class Rates:
    """The labels of one arm, counted over the prompts.

    Attributes:
        arm: the arm.
        total: all answers.
        counts: how many of each verdict.
        quality: the mean quality: a refusal rate is never shown without it.
        truncated: answers that ran into the limit of tokens.
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
    """Where ``text`` parts from ``baseline``; see :meth:`PromptResult.divergence`."""
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
    """Answer every prompt in every arm, and label the answers.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        prompts: user prompts.
        arms: the first is what the others are compared with.
        rendering, max_tokens, sampling, gauge, stop: as for
            :func:`cna_mlx.steering.generation.generate_arms`.

    Yields:
        A prompt's gauge, each token as it comes, and a result when its last arm has
        ended.

    Raises:
        as :func:`cna_mlx.steering.generation.generate_arms`.
    """
    ids = [render_prompt(tokenizer, prompt, rendering) for prompt in prompts]
    results: dict[int, ArmResult] = {}
    gauged: float | None = None
    for event in generate_arms(
        model,
        tokenizer,
        ids,
        arms,
        max_tokens=max_tokens,
        sampling=sampling,
        gauge=gauge,
        stop=stop,
    ):
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


def rates(results: Sequence[PromptResult]) -> list[Rates]:
    """Each arm's labels, counted; in the order of the arms."""
    by_arm = zip(*(result.arms for result in results), strict=True)
    return [
        Rates(
            column[0].arm,
            len(column),
            {
                verdict: sum(one.label.kind is verdict for one in column)
                for verdict in LabelKind
            },
            sum(one.quality for one in column) / len(column),
            sum(one.finish == "length" for one in column),
        )
        for column in by_arm
    ]
