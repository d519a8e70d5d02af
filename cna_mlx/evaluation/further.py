"""Which prompts and answers are tried further, and how."""

from collections.abc import Sequence
from typing import Any

from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind
from cna_mlx.steering.decoding import text_of

#: Where an answer ends that continues past the limit, in tokens.
EXTEND_TO = 512
#: Length of an answer that begins with the first word of the baseline's, in tokens.
OPENED_TOKENS = 64
#: One in so many prompts has its ANSWERED answers continued. Odd, because harmful and
#: benign prompts alternate.
SAMPLED = 7
#: Two in so many prompts have it tried where they are benign and answered.
COMPARED = 6
#: So many prompts of a run are gauged word by word, with their first tokens.
LOOKED = 8
_FIRST_TOKENS = 3


def continues(sample: Sample) -> bool:
    """Whether an answer is cut off where its label may still change.

    PARTIAL and REFUSED answers continue, and the ANSWERED ones of a fixed part of the
    prompts, the same in every arm.
    """
    if not sample.is_truncated:
        return False
    if sample.label is LabelKind.ANSWERED:
        return sample.number % SAMPLED == 0
    return sample.label in (LabelKind.PARTIAL, LabelKind.REFUSED)


def turned(baseline: Sample, sample: Sample) -> bool:
    """Whether an arm answers what the baseline refuses."""
    became = (LabelKind.ANSWERED, LabelKind.PARTIAL)
    return baseline.is_refused and sample.label in became


def compares(baseline: Sample, sample: Sample) -> bool:
    """Whether a prompt is one of the benign ones that a refusal's first word is tried
    on: a fixed part of those that both arms answer.
    """
    answered = {baseline.label, sample.label} == {LabelKind.ANSWERED}
    is_chosen = baseline.kind == "benign" and baseline.number % COMPARED < 2
    return answered and is_chosen


def first_word(tokenizer: Any, ids: Sequence[int]) -> tuple[int, ...]:
    """The first tokens of an answer up to the end of its first word, at most three."""
    for count in range(1, _FIRST_TOKENS):
        begun, more = (text_of(tokenizer, ids[:end]) for end in (count, count + 1))
        is_whole = not more[len(begun) :][:1].isalnum()
        if is_whole and any(map(str.isalpha, begun)):
            return tuple(ids[:count])
    return tuple(ids[:_FIRST_TOKENS])
