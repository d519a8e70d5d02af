"""`label`: label the answers of a file."""

from dataclasses import replace
from typing import Any

from cna_mlx.analysis.statistics import label_shares
from cna_mlx.commands.output import emit_json, show
from cna_mlx.labels.answer_files import LabelledAnswer, label_file
from cna_mlx.ui.console import screen
from cna_mlx.ui.labels import labels_view
from cna_mlx.util.sanitize import first_words


def run_label(file: str, *, column: str | None, hide_text: bool, as_json: bool) -> None:
    """Label the answers of a file, and count the labels."""
    answers = label_file(file, column)
    if as_json:
        emit_json(_entry(answers, hide_text))
    else:
        to = replace(screen(), hides_text=hide_text)
        show(labels_view(to, answers, label_shares(answer.label for answer in answers)))


def _entry(answers: list[LabelledAnswer], hides_text: bool) -> dict[str, Any]:
    rates = label_shares(answer.label for answer in answers)
    return {
        "answers": len(answers),
        "counts": {str(kind): one.successes for kind, one in rates.items()},
        "rates": {str(kind): one.to_json() for kind, one in rates.items()},
        "results": [_result(answer, hides_text) for answer in answers],
    }


def _result(answer: LabelledAnswer, hides_text: bool) -> dict[str, Any]:
    """An answer for the JSON; hidden texts keep only their first words."""
    prompt = answer.prompt
    if hides_text:
        return {
            "label": answer.label.kind,
            "span": None,
            "quality": answer.quality,
            "text": first_words(answer.text),
            "prompt": None if prompt is None else first_words(prompt),
        }
    return {
        "label": answer.label.kind,
        "span": answer.label.span,
        "decided_by": answer.decided_by,
        "quality": answer.quality,
        "text": answer.text,
        "prompt": prompt,
        "given": dict(answer.given),
    }
