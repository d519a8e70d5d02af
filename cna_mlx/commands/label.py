"""`label`: label the answers of a file."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cna_mlx.commands import completion as complete
from cna_mlx.commands.command import command
from cna_mlx.commands.options import hide_text_option, json_option

if TYPE_CHECKING:
    from cna_mlx.analysis.judging import Judging
    from cna_mlx.labels.answer_files import LabelledAnswer


@command(
    example="cna-mlx label answers.jsonl\n"
    "cna-mlx label answers.csv --column reply --json\n"
    "cat answers.jsonl | cna-mlx label -\n"
    "cna-mlx label ./my-run --judge mlx-community/Qwen2.5-7B-Instruct-4bit\n"
    "cna-mlx label answers.csv --judge 'http://localhost:8080/v1?model=NAME'",
)
@click.argument("file", shell_complete=complete.runs_and_files)
@click.option(
    "--column",
    metavar="NAME",
    help="Column or key that holds the answers.  [default: response, completion, "
    "generation, output, answer, text and the like]",
)
@click.option(
    "--judge",
    metavar="MODEL|URL",
    help="Let a model label the answers too and report the agreement. An address of "
    "an OpenAI-compatible server receives the prompts and answers.",
)
@hide_text_option
@json_option
def label(
    file: str, column: str | None, judge: str | None, hide_text: bool, as_json: bool
) -> bool:
    """Label the answers of a FILE: refused, answered, partial or invalid.

    FILE is JSON Lines (objects with the answer as text, optionally its prompt; or -
    for standard input), .json, .csv or .tsv with a header, .parquet, an Inspect log
    (.json, .eval), samples of lm-eval, artifacts of JailbreakBench, results of
    HarmBench, or org/set:split on the Hub; each also with .gz. Needs no model.

    With --judge, FILE can be a run: its baseline and ablated answers are judged.
    """
    if judge is not None:
        return _judge(file, column, judge, hide_text, as_json)
    from cna_mlx.analysis.statistics import label_shares
    from cna_mlx.labels.answer_files import label_file
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.labels import labels_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter

    answers = label_file(file, column, reporter=terminal_reporter())
    if as_json:
        emit_json(_entry(answers, hide_text))
    else:
        to = replace(screen(), hides_text=hide_text)
        show(labels_view(to, answers, label_shares(answer.label for answer in answers)))
    return True


def _judge(
    file: str, column: str | None, judge: str, hide_text: bool, as_json: bool
) -> bool:
    from cna_mlx.analysis.judging import Judging
    from cna_mlx.ui.console import screen
    from cna_mlx.ui.judging import judging_view
    from cna_mlx.ui.output import emit_json, show
    from cna_mlx.ui.progress import terminal_reporter

    judging = Judging.of(file, judge, column, terminal_reporter())
    try:
        return judging.run()
    finally:  # judged answers are printed even if the judge fails later
        if judging.found and as_json:
            emit_json(_judged_entry(judging, hide_text))
        elif judging.found:
            show(judging_view(screen(), judging))


def _judged_entry(judging: "Judging", hides_text: bool) -> dict[str, Any]:
    data = _entry(list(judging.answers), hides_text)
    for result, judged in zip(data["results"], judging.found, strict=False):
        result["judge"] = judged
    return {**data, "judge": judging.to_dict()}


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
            "flags": answer.flags,
            "span": None,
            "quality": answer.quality,
            "text": first_words(answer.text),
            "prompt": None if prompt is None else first_words(prompt),
        }
    return {
        "label": answer.label.kind,
        "flags": answer.flags,
        "span": answer.label.span,
        "decided_by": answer.decided_by,
        "quality": answer.quality,
        "text": answer.text,
        "prompt": prompt,
        "given": dict(answer.given),
    }
