"""`label`: label the answers of a file."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands.options import command, hide_text_option, json_option

if TYPE_CHECKING:
    from cna_mlx.labels.answer_files import LabelledAnswer


@command(
    loads_model=False,
    example="cna-mlx label answers.jsonl\n"
    "cna-mlx label answers.csv --column reply --json\n"
    "cat answers.jsonl | cna-mlx label -",
)
@click.argument("file")
@click.option(
    "--column",
    metavar="NAME",
    help="Column or key that holds the answers.  [default: text, answer, response, "
    "completion or output]",
)
@hide_text_option
@json_option
def label(file: str, column: str | None, hide_text: bool, as_json: bool) -> None:
    """Label the answers of a FILE: refused, answered, partial or invalid.

    FILE is JSON Lines (objects with the answer as text, optionally its prompt; or -
    for standard input), a .json list, .csv or .tsv with a header. Needs no model.
    """
    from cna_mlx.analysis.statistics import label_shares
    from cna_mlx.labels.answer_files import label_file
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.labels import labels_view
    from cna_mlx.ui.output import emit_json, show

    answers = label_file(file, column)
    if as_json:
        emit_json(_entry(answers, hide_text))
    else:
        to = replace(screen(), hides_text=hide_text)
        show(labels_view(to, answers, label_shares(answer.label for answer in answers)))


def _entry(answers: "list[LabelledAnswer]", hides_text: bool) -> dict[str, Any]:
    from cna_mlx.analysis.statistics import label_shares

    rates = label_shares(answer.label for answer in answers)
    return {
        "answers": len(answers),
        "counts": {str(kind): one.successes for kind, one in rates.items()},
        "rates": {str(kind): one.to_dict() for kind, one in rates.items()},
        "results": [_result(answer, hides_text) for answer in answers],
    }


def _result(answer: "LabelledAnswer", hides_text: bool) -> dict[str, Any]:
    """An answer as the JSON has it; what it says is left out where it is hidden."""
    from cna_mlx.util.sanitize import first_words

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
