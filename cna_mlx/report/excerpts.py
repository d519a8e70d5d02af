"""How much of a text a report shows, and which of its words decided the label."""

from cna_mlx.report.content import Piece, TextLevel
from cna_mlx.util.sanitize import first_words

#: How many characters of an answer are shown unless told.
EXCERPT = 280
# A cut that saves no more than this is not made.
_SPARED = 40

NOTICES: dict[TextLevel, tuple[str, ...]] = {
    "hidden": (
        "Texts are hidden: of prompts and answers the first words, labels and lengths "
        "are here, and nothing else is in these files.",
    ),
    "excerpts": (
        f"Prompts are whole; answers are cut to about {EXCERPT} characters, and the "
        "words that decided a label are always shown. --full-text shows all of them, "
        "--hide-text next to nothing.",
        "Answers may be harmful or wrong. They are here to be counted, not followed.",
    ),
    "full": (
        "Prompts and answers are whole.",
        "Answers may be harmful or wrong. They are here to be counted, not followed.",
    ),
}


def shown(
    text: str, level: TextLevel, span: tuple[int, int] | None = None
) -> tuple[Piece, ...]:
    """An answer as far as the level lets it be shown, in pieces.

    Args:
        text: the whole answer.
        level: how much is shown.
        span: ``[start, end)`` of the words that decided its label.
    """
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
    """The span as far as it lies in the text; at its very end where there is none.

    A file may say anything: a span is shown, not relied on.
    """
    if span is None:
        return 0, 0
    start = min(max(0, span[0]), length)
    return start, min(max(start, span[1]), length)


def _around(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """The text's beginning, and the span with some words before it; a long one cut."""
    half = EXCERPT // 2
    end = min(end, start + EXCERPT)
    before = max(0, min(start - _SPARED, length - half))
    after = min(length, max(end, before + half))
    if before <= half:
        return [(0, after)]
    return [(0, half), (before, after)]
