"""What follows an answer: more of it, one that begins as a refusal, a look at words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cna_mlx.discovery.words import gauged_words
from cna_mlx.evaluation.asked import Evaluation, Pending
from cna_mlx.evaluation.further import (
    LOOKED,
    OPENED_TOKENS,
    compares,
    continues,
    first_word,
    turned,
)
from cna_mlx.evaluation.samples import Continuation, Sample
from cna_mlx.steering.arm_cache import ArmCache
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.decoding import begins_thought, text_of
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.generation import generate_arms

# Prompts whose words are read together: few, since Ctrl-C waits for them.
_READ = 4
#: The KV caches of rows that go on, by their labels.
Caches = dict[str, ArmCache]


@dataclass
class Stop:
    """Whether to stop; once it is so, it stays so."""

    asked: Callable[[], bool]
    has_stopped: bool = False

    def __call__(self) -> bool:
        self.has_stopped = self.has_stopped or self.asked()
        return self.has_stopped


@dataclass(frozen=True)
class Unfinished:
    """An answer that goes on from what it has begun to say.

    Attributes:
        tokens: new ones at most.
        name: tells rows of the same arm and prompt apart.
    """

    prompt: Pending
    row: int
    begun: tuple[int, ...]
    tokens: int
    name: str = ""

    def arm(self, arms: Sequence[Arm]) -> Arm:
        """The arm, with a label that no other row has."""
        own = self.prompt.named(arms[self.row])
        return replace(own, label=own.label + self.name)


def go_on(
    evaluation: Evaluation, asked: Sequence[Pending], caches: Caches, stop: Stop
) -> bool:
    """Continue the answers that may still change, and begin some of the main arm's as
    refusals, together; False if stopped.
    """
    more = evaluation.extend_to - evaluation.max_tokens
    extended = [
        Unfinished(one, row, sample.token_ids, more)
        for one in asked
        for row, sample in enumerate(one.samples)
        if evaluation.extends
        and continues(sample)
        and evaluation.has_room(one.ids, sample.token_ids)
    ]
    rows = [*extended, *_opened(evaluation, asked)]
    found = continued(evaluation, rows, stop, caches)
    caches.clear()  # they are large
    for one, answer in zip(rows, found or [], strict=found is not None):
        samples, row, whole = one.prompt.samples, one.row, _continuation(answer)
        samples[row] = (
            replace(samples[row], opened=whole)
            if one.name
            else replace(samples[row], extended=whole)
        )
    return found is not None


def _opened(evaluation: Evaluation, asked: Sequence[Pending]) -> Iterator[Unfinished]:
    """The main arm's answers that begin as refusals."""
    if evaluation.main is None:
        return
    limit = min(evaluation.max_tokens, OPENED_TOKENS)
    for one in asked:
        begun = _opening(evaluation, one.samples)
        if 0 < len(begun) < limit and evaluation.has_room(one.ids, begun):
            more = limit - len(begun)
            yield Unfinished(one, evaluation.main, begun, more, ", as a refusal")


def look_at_words(evaluation: Evaluation, asked: Sequence[Pending], stop: Stop) -> bool:
    """Gauge the words of a run's first prompts; False if stopped."""
    if evaluation.main is None or evaluation.gauge is None:
        return True
    looked = [one for one in asked if one.number < LOOKED]
    for at in range(0, len(looked), _READ):
        if stop():
            return False
        part = looked[at : at + _READ]
        found = gauged_words(
            evaluation.model,
            evaluation.tokenizer,
            evaluation.gauge,
            [[{"role": "user", "content": one.samples[0].prompt}] for one in part],
            evaluation.rendering,
        )
        for one, words in zip(part, found, strict=True):
            shown = tuple((word.text, word.gauge) for word in words)
            one.samples[0] = replace(one.samples[0], words=shown)
    return True


def continued(
    evaluation: Evaluation,
    rows: Sequence[Unfinished],
    stop: Stop,
    caches: Caches,
    *,
    keeps: bool = False,
) -> list[Answer] | None:
    """Continue these answers, from their caches where there are; None if stopped.

    Args:
        keeps: the caches are needed again.
    """
    found = []
    for at in range(0, len(rows), evaluation.width):
        part = rows[at : at + evaluation.width]
        answers = _continued(evaluation, part, stop, caches)
        if answers is None:
            return None
        found += answers
        for one in () if keeps else part:
            caches.pop(one.arm(evaluation.arms).label, None)  # they are large
    return found


def _continued(
    evaluation: Evaluation, rows: Sequence[Unfinished], stop: Stop, caches: Caches
) -> list[Answer] | None:
    """As :func:`continued`, in one batch."""
    tokenizer = evaluation.tokenizer
    events = generate_arms(
        evaluation.model,
        tokenizer,
        [[[*one.prompt.ids, *one.begun] for one in rows]],
        [one.arm(evaluation.arms) for one in rows],
        max_tokens=[one.tokens for one in rows],
        caches=caches,
        leaves=True,
        stop=stop,
    )
    answers = in_order(events, len(rows), stop)
    if answers is None:
        return None
    found = []
    for one, answer in zip(rows, answers, strict=True):
        whole = *one.begun, *answer.token_ids
        text = text_of(tokenizer, whole)
        begins = begins_thought(tokenizer, one.prompt.ids)
        found.append(replace(answer, text=text, token_ids=whole, opens_thought=begins))
    return found


def in_order(
    events: Iterable[Gauged | Token | Answer], rows: int, stop: Stop
) -> list[Answer] | None:
    """The answers in the order of the rows; None if stopped."""
    answers = [one for one in events if isinstance(one, Answer)]
    answers.sort(key=lambda one: one.arm)
    return None if stop.has_stopped or len(answers) < rows else answers


def _opening(evaluation: Evaluation, samples: Sequence[Sample]) -> tuple[int, ...]:
    """The first word of the baseline's refusal where the main arm answers; of a usual
    refusal where both answer a benign prompt, to compare with.
    """
    baseline, main = samples[0], samples[evaluation.main or 0]
    if turned(baseline, main):
        return first_word(evaluation.tokenizer, baseline.token_ids)
    if evaluation.openings and compares(baseline, main):
        return first_word(evaluation.tokenizer, evaluation.openings[0])
    return ()


def _continuation(answer: Answer) -> Continuation:
    begins = answer.opens_thought
    return Continuation.of(
        answer.text, answer.token_ids, answer.finish, opens_thought=begins
    )
