"""What follows an answer: more of it, one that begins as a refusal, a look at words."""

from collections.abc import Callable, Iterable, Sequence
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
from cna_mlx.steering.decoding import begins_thought, text_of
from cna_mlx.steering.events import Answer, Gauged, Token
from cna_mlx.steering.generation import generate_arms

#: The KV caches of rows that go on, by their labels.
Caches = dict[str, ArmCache]
#: A prompt, and the position of an arm.
Row = tuple[Pending, int]


@dataclass
class Stop:
    """Whether to stop; once it is so, it stays so."""

    asked: Callable[[], bool]
    has_stopped: bool = False

    def __call__(self) -> bool:
        self.has_stopped = self.has_stopped or self.asked()
        return self.has_stopped


def extend(
    evaluation: Evaluation, asked: Sequence[Pending], caches: Caches, stop: Stop
) -> bool:
    """Continue the answers that may still change; False if stopped."""
    if not evaluation.extends:
        return True
    rows = [
        (one, row)
        for one in asked
        for row, sample in enumerate(one.samples)
        if continues(sample) and evaluation.has_room(one.ids, sample.token_ids)
    ]
    begun = [one.samples[row].token_ids for one, row in rows]
    more = evaluation.extend_to - evaluation.max_tokens
    found = continued(evaluation, rows, begun, more, stop, caches)
    caches.clear()  # they are large
    for (one, row), whole in zip(rows, found or [], strict=found is not None):
        one.samples[row] = replace(one.samples[row], extended=_continuation(whole))
    return found is not None


def begin_as_refusals(
    evaluation: Evaluation, asked: Sequence[Pending], stop: Stop
) -> bool:
    """Begin the main arm's answers as refusals; False if stopped."""
    if evaluation.main is None:
        return True
    limit = min(evaluation.max_tokens, OPENED_TOKENS)
    rows, openings = [], []
    for one in asked:
        begun = _opening(evaluation, one.samples)
        if 0 < len(begun) < limit and evaluation.has_room(one.ids, begun):
            rows.append((one, evaluation.main))
            openings.append(begun)
    more = [limit - len(begun) for begun in openings]
    found = continued(evaluation, rows, openings, more, stop)
    for (one, row), whole in zip(rows, found or [], strict=found is not None):
        one.samples[row] = replace(one.samples[row], opened=_continuation(whole))
    return found is not None


def look_at_words(evaluation: Evaluation, asked: Sequence[Pending], stop: Stop) -> bool:
    """Gauge the words of a run's first prompts; False if stopped."""
    looked = [one for one in asked if one.number < LOOKED]
    if evaluation.main is None or evaluation.gauge is None or not looked:
        return True
    if stop():
        return False
    prompts = [one.samples[0].prompt for one in looked]
    found = gauged_words(
        evaluation.model,
        evaluation.tokenizer,
        evaluation.gauge,
        [[{"role": "user", "content": text}] for text in prompts],
        evaluation.rendering,
    )
    for one, words in zip(looked, found, strict=True):
        shown = tuple((word.text, word.gauge) for word in words)
        one.samples[0] = replace(one.samples[0], words=shown)
    return True


def continued(
    evaluation: Evaluation,
    rows: Sequence[Row],
    begun: Sequence[Sequence[int]],
    max_tokens: int | Sequence[int],
    stop: Stop,
    caches: Caches | None = None,
) -> list[Answer] | None:
    """Continue what each of these rows has begun to say; None if stopped."""
    if not rows:
        return []
    tokenizer = evaluation.tokenizer
    events = generate_arms(
        evaluation.model,
        tokenizer,
        [[[*one.ids, *own] for (one, _), own in zip(rows, begun, strict=True)]],
        [one.named(evaluation.arms[row]) for one, row in rows],
        max_tokens=max_tokens,
        caches=caches,
        leaves=True,
        stop=stop,
    )
    answers = in_order(events, len(rows), stop)
    if answers is None:
        return None
    found = []
    for (one, _), own, answer in zip(rows, begun, answers, strict=True):
        whole = *own, *answer.token_ids
        text = text_of(tokenizer, whole)
        begins = begins_thought(tokenizer, one.ids)
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
