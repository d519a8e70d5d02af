"""Cut prompts and answers for a report, and mark the words that decided a label."""

from collections.abc import Sequence

from cna_mlx.discovery.strip import (
    LEAST_CHANCE,
    Word,
    largest_rise,
    rise_text,
    shade,
)
from cna_mlx.evaluation.run_config import main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report.content import (
    FirstPair,
    Piece,
    ShownAnswer,
    ShownPrompt,
    ShownWord,
    TextLevel,
)
from cna_mlx.util.formatting import counted, decimal
from cna_mlx.util.sanitize import first_words, quoted

#: How many characters of an answer are shown by default.
EXCERPT = 280
# A shorter rest is shown instead of cut.
_SPARED = 40

_WARNING = "Answers may be harmful or wrong: count them, do not follow them."

NOTICES: dict[TextLevel, tuple[str, ...]] = {
    "hidden": (
        "Texts are hidden: these files have only the first words, labels and lengths "
        "of prompts and answers.",
    ),
    "excerpts": (
        f"Prompts are whole; answers are cut to about {EXCERPT} characters, and the "
        "words that decided a label are always shown.",
        _WARNING,
    ),
    "full": ("Prompts and answers are whole.", _WARNING),
}


_LEVELS: dict[TextLevel, str] = {
    "hidden": "--hide-text writes only their first words",
    "excerpts": "cna-mlx report {run} writes excerpts of the answers",
    "full": "--full-text writes whole answers",
}


def hints(run: RunRecord, level: TextLevel) -> list[str]:
    """What to type for the other texts, and to check the answers."""
    name = run.word
    others = [
        (said if "{run}" in said else f"cna-mlx report {{run}} {said}").format(run=name)
        for one, said in _LEVELS.items()
        if one != level
    ]
    return [*others, f"cna-mlx verify {name} answers a few prompts again"]


def shown_prompts(
    run: RunRecord, samples: Sequence[Sample], level: TextLevel
) -> list[ShownPrompt]:
    """Return every prompt of complete batches with its answers in all arms.

    Prompts whose answer changed come first: lost refusals, new ones, other labels.
    """
    arms = run.arms
    main = main_arm(arms)
    place = arms.index(main) if main else None
    size, seen = len(arms), run.facts.contamination
    batches = (samples[at : at + size] for at in range(0, len(samples), size))
    found = [
        ShownPrompt(
            shown_prompt(batch[0].prompt, level),
            batch[0].id in (seen.get(batch[0].set) or ()),
            [_answer(arm, one, level) for arm, one in enumerate(batch)],
            place,
            *shown_words(batch[0], level),
            _first(batch[0], batch[place]) if place is not None else (),
        )
        for batch in batches
    ]
    return sorted(found, key=_change)


def _change(prompt: ShownPrompt) -> int:
    """The place of a prompt by what the main arm changed."""
    if prompt.main is None:
        return 0
    before, after = (prompt.answers[at].sample for at in (0, prompt.main))
    kinds = (
        before.is_refused and not after.is_refused,
        after.is_refused and not before.is_refused,
        before.label is not after.label,
        True,
    )
    return kinds.index(True)


def shown_words(sample: Sample, level: TextLevel) -> tuple[list[ShownWord], str]:
    """A prompt's words with their gauges, and which of them raises the gauge most."""
    if level == "hidden" or not sample.words:
        return [], ""
    words = [Word(*pair) for pair in sample.words]
    rise = largest_rise(words)
    most = None if rise is None else rise[0]
    shown = [
        ShownWord(
            " ".join(word.text.split()), word.gauge, shade(word.gauge), at == most
        )
        for at, word in enumerate(words)
    ]
    return shown, rise_text(words)


def _first(baseline: Sample, main: Sample) -> list[FirstPair]:
    """First tokens of at least 1% in one of the arms."""
    pairs = zip(baseline.first or (), main.first or (), strict=False)
    found = [FirstPair(quoted(text), one, other) for (text, one), (_, other) in pairs]
    return [pair for pair in found if max(pair[1:]) >= LEAST_CHANCE]


def _answer(arm: int, one: Sample, level: TextLevel) -> ShownAnswer:
    facts = [counted(len(one.token_ids), "token"), f"quality {decimal(one.quality)}"]
    if level == "hidden":
        facts.insert(1, counted(len(one.text), "character"))
    if one.kl is not None and arm:
        facts.append(f"KL {decimal(one.kl)}")
    return ShownAnswer(one, arm, excerpt(one.text, level, one.span), facts)


def excerpt(
    text: str, level: TextLevel, span: tuple[int, int] | None = None
) -> tuple[Piece, ...]:
    """Return an answer in pieces; the span ``[start, end)`` decided its label."""
    if level == "hidden":
        return (Piece(first_words(text)),)
    start, end = _within(span, len(text))
    if level == "full" or len(text) <= EXCERPT + _SPARED:
        kept = [(0, len(text))]
    elif end <= EXCERPT:
        kept = [(0, EXCERPT)]
    else:
        kept = _around(start, end, len(text))
    pieces: list[Piece] = []
    at = 0
    for first, last in kept:
        if first > at:
            pieces.append(Piece(" […] ", "gap"))
        for low, high, kind in (
            (first, min(start, last), "plain"),
            (max(first, start), min(end, last), "mark"),
            (max(first, end), last, "plain"),
        ):
            if low < high:
                pieces.append(Piece(text[low:high], kind))  # type: ignore[arg-type]
        at = last
    if at < len(text):
        pieces.append(Piece(" […]", "gap"))
    return tuple(pieces)


def shown_prompt(text: str, level: TextLevel) -> tuple[Piece, ...]:
    """A prompt: whole, or its first words."""
    return (Piece(first_words(text) if level == "hidden" else text),)


def joined(pieces: tuple[Piece, ...]) -> str:
    """The pieces as one text."""
    return "".join(piece.text for piece in pieces)


def _within(span: tuple[int, int] | None, length: int) -> tuple[int, int]:
    """The span cut to the text; a damaged file may have any."""
    if span is None:
        return 0, 0
    start = min(max(0, span[0]), length)
    return start, min(max(start, span[1]), length)


def _around(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """The text's beginning, and the span with some words before it."""
    half = EXCERPT // 2
    end = min(end, start + EXCERPT)
    before = max(0, min(start - _SPARED, length - half))
    after = min(length, max(end, before + half))
    if before <= half:
        return [(0, after)]
    return [(0, half), (before, after)]
