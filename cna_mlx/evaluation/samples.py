"""A sample: one arm's answer to one prompt, as a line of a run's journal."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cna_mlx.errors import InputError
from cna_mlx.labels.label import LabelKind, label
from cna_mlx.labels.repetition import quality
from cna_mlx.util.files import file_errors
from cna_mlx.util.reading import LARGEST_FILE, parse_json, read_file
from cna_mlx.util.records import typed_fields

if TYPE_CHECKING:  # a run is read without what these bring along
    from cna_mlx.prompts.benchmarks import EvalPrompt
    from cna_mlx.steering.events import Answer

#: The only field of a line that differs between runs of the same configuration.
TIMING = "seconds"
#: Texts with a number each.
Pairs = tuple[tuple[str, float], ...]
# Of a measured number: sums of these stay finite.
_LARGEST = 1e15


@dataclass(frozen=True)
class Continuation:
    """An answer that was tried further, with its own label.

    Attributes:
        text: the whole answer, its beginning included.
        token_ids, finish, label, span, has_loop: as of a :class:`Sample`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish: str
    label: LabelKind
    span: tuple[int, int] | None
    has_loop: bool = False

    @classmethod
    def of(
        cls,
        text: str,
        token_ids: Sequence[int],
        finish: str,
        *,
        opens_thought: bool = False,
    ) -> "Continuation":
        """A whole answer, labelled."""
        found = label(text, opens_thought=opens_thought)
        ids = tuple(token_ids)
        return cls(text, ids, finish, found.kind, found.span, found.has_loop)

    def relabelled(self, opens_thought: bool) -> "Continuation":
        """The same answer with the label of this version."""
        own = self.text, self.token_ids, self.finish
        return self.of(*own, opens_thought=opens_thought)

    @classmethod
    def from_dict(cls, data: dict[str, Any] | None) -> "Continuation | None":
        """What a line of a journal has of it.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        return None if data is None else cls(**_parsed(cls, data))


@dataclass(frozen=True)
class Sample:
    """One arm's answer to one prompt, with its label and metrics.

    Attributes:
        number: the prompt's position in the run, from 0; also its batch.
        set, id, category, kind: where the prompt comes from; ``kind`` is ``harmful``,
            ``benign`` or ``unknown``.
        prompt: the user's words.
        arm: the label of the arm.
        text: the whole answer.
        token_ids: its tokens, without the end-of-text token.
        finish: ``stop`` or ``length``; the latter is TRUNCATED.
        label: REFUSED, ANSWERED, PARTIAL, INVALID or UNJUDGED.
        span: ``[start, end)`` in characters: the words that decided the label.
        quality: distinct / all 4-grams of the words, 1.0 below four words.
        kl: KL(baseline || arm) of the next tokens, in nats, mean over the first 32
            tokens of the baseline's answer; 0 for the baseline, None if not computed.
        gauge: the prompt's projection on the circuit, 0 as the answered prompts, 1 as
            the refused; None without a gauge.
        seconds: of the whole batch.
        has_loop: the text repeats itself after its refusal or answer was complete.
        level: the prompt's level of harm, or None.
        extended: the answer continued past the token limit; None if it was not.
        opened: the answer of the main arm, begun with the first word of the baseline's
            refusal, where the baseline refuses and this arm does not; for some benign
            prompts that both answer, begun as refusals usually are. Else None.
        opening: log-odds that the baseline's answer begins with one of the model's own
            refusing openings; None for other arms, or if not computed.
        opens_thought: the prompt ends with an opening think tag.
        words: the prompt's words, each with the gauge of the prompt up to it; of the
            baseline, for the first prompts of a run, else None.
        first: the most likely first tokens of the baseline and the main arm, each with
            its probability in this arm; the same tokens in both, else None.
    """

    number: int
    set: str
    id: str
    category: str | None
    kind: str
    prompt: str
    arm: str
    text: str
    token_ids: tuple[int, ...]
    finish: str
    label: LabelKind
    span: tuple[int, int] | None
    quality: float
    kl: float | None = None
    gauge: float | None = None
    seconds: float = 0.0
    has_loop: bool = False
    level: str | None = None
    extended: Continuation | None = None
    opened: Continuation | None = None
    opening: float | None = None
    opens_thought: bool = False
    words: Pairs | None = None
    first: Pairs | None = None

    @classmethod
    def of(
        cls,
        number: int,
        set_name: str,
        prompt: "EvalPrompt",
        arm: str,
        answer: "Answer",
        **measured: Any,
    ) -> "Sample":
        """An arm's answer, labelled; ``measured`` is its KL, gauge and seconds."""
        found = label(answer.text, opens_thought=answer.opens_thought)
        return cls(
            number,
            set_name,
            prompt.id,
            prompt.category,
            prompt.kind,
            prompt.text,
            arm,
            answer.text,
            answer.token_ids,
            answer.finish,
            found.kind,
            found.span,
            quality(answer.text),
            has_loop=found.has_loop,
            level=prompt.level,
            opens_thought=answer.opens_thought,
            **measured,
        )

    def of_prompt(self, number: int, name: str, prompt: "EvalPrompt") -> "Sample":
        """The same answer to a prompt of the same text, of the set ``name``."""
        return replace(
            self,
            number=number,
            set=name,
            id=prompt.id,
            category=prompt.category,
            kind=prompt.kind,
            level=prompt.level,
        )

    @property
    def is_refused(self) -> bool:
        """Whether the answer is labelled REFUSED."""
        return self.label is LabelKind.REFUSED

    @property
    def is_truncated(self) -> bool:
        """Whether the answer reached the token limit."""
        return self.finish == "length"

    @property
    def in_thought(self) -> bool:
        """Whether the answer ends inside a thought."""
        is_invalid = self.label is LabelKind.INVALID
        return (
            is_invalid and label(self.text, opens_thought=self.opens_thought).in_thought
        )

    def relabelled(self) -> "Sample":
        """The same answer with the label and quality of this version."""
        begun = self.opens_thought
        found = label(self.text, opens_thought=begun)
        own = quality(self.text)
        return replace(
            self,
            label=found.kind,
            span=found.span,
            has_loop=found.has_loop,
            quality=own,
            extended=self.extended and self.extended.relabelled(begun),
            opened=self.opened and self.opened.relabelled(begun),
        )

    def to_row(self) -> dict[str, Any]:
        """The sample as one flat row: its tokens counted, its texts last."""
        start, end = self.span or (None, None)
        names = ("number", "set", "id", "kind", "category", "level", "arm")
        return {
            **{name: getattr(self, name) for name in names},
            "label": str(self.label),
            "truncated": self.is_truncated,
            "loop": self.has_loop,
            "extended_label": self.extended and str(self.extended.label),
            "opened_label": self.opened and str(self.opened.label),
            "quality": self.quality,
            "kl": self.kl,
            "gauge": self.gauge,
            "tokens": len(self.token_ids),
            "characters": len(self.text),
            "span_start": start,
            "span_end": end,
            "prompt": self.prompt,
            "text": self.text,
        }

    def to_line(self) -> str:
        """One line of JSON, without the newline, with the number of tokens."""
        data = asdict(self)
        data["tokens"] = len(self.token_ids)
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    @property
    def source(self) -> tuple[str, str, str]:
        """Which prompt it answers: set, id and kind."""
        return self.set, self.id, self.kind

    @classmethod
    def from_line(cls, line: str) -> "Sample":
        """What :meth:`to_line` wrote; unknown fields are left out.

        Raises:
            ValueError, TypeError, KeyError: it is not such a line.
        """
        data = parse_json(line, finite=True)
        if not isinstance(data, dict):
            raise TypeError("not an object")
        for name in ("extended", "opened"):
            data[name] = Continuation.from_dict(data.get(name))
        return cls(**_parsed(cls, data))


def _parsed(cls: type[Sample | Continuation], data: dict[str, Any]) -> dict[str, Any]:
    """The known fields of an answer's JSON, with their types."""
    found = typed_fields(cls, {**data, "label": LabelKind(data["label"])})
    start, end = found["span"] or (0, 0)
    if not 0 <= start <= end <= len(found["text"]):
        raise ValueError(f"the span {found['span']} is not in the text")
    numbers = [one for one in found.values() if isinstance(one, float)]
    if any(abs(one) > _LARGEST for one in numbers):
        raise ValueError("a number is beyond any measurement")
    return found


def by_arm(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples by the label of their arm, in order."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.arm, []).append(sample)
    return found


def read_samples(path: Path, arms: Sequence[str]) -> tuple[list[Sample], int]:
    """Return the samples of complete batches, and the file position after the last.

    ``arms`` are the labels of the arms, in the order of a batch's lines.

    Raises:
        InputError: a line is damaged in a way that a kill does not do, or belongs to
            another run.
    """
    with file_errors(path, "read"):
        try:
            content = read_file(path, LARGEST_FILE)
        except FileNotFoundError:
            return [], 0
    samples: list[Sample] = []
    whole = kept = position = 0
    lines = content.split(b"\n")
    for line in lines[:-1]:
        position += len(line) + 1
        if (sample := _sample(line)) is None:
            # a crash of the machine can leave zeros at the end, and nothing behind
            if b"\0" not in line or content[position:].strip(b"\0"):
                raise _damaged(path, len(samples))
            break
        number, row = divmod(len(samples), len(arms))
        if (sample.number, sample.arm) != (number, arms[row]):
            raise InputError(
                f"{path}: line {len(samples) + 1} is prompt {sample.number} by "
                f"{sample.arm!r}, where this run has prompt {number} by {arms[row]!r}: "
                "it is another run's; begin again in another --out"
            )
        if row and sample.source != samples[-1].source:  # of the same prompt
            raise _damaged(path, len(samples))
        samples.append(sample)
        if len(samples) % len(arms) == 0:
            whole, kept = len(samples), position
    else:  # what follows the last line's end was cut off, if it is a sample's beginning
        if not _BEGINNING.startswith(lines[-1].rstrip(b"\0")[: len(_BEGINNING)]):
            raise _damaged(path, len(samples))
    return samples[:whole], kept


# A line that is cut off before this ends may be a sample's.
_BEGINNING = b'{"number": '


def _sample(line: bytes) -> Sample | None:
    try:
        return Sample.from_line(line.decode())
    except (ValueError, TypeError, KeyError):
        return None


def _damaged(path: Path, before: int) -> InputError:
    return InputError(
        f"{path}: line {before + 1} is damaged; put it right, or begin again in "
        "another --out"
    )
