"""Judge the answers of a file or a run, and compare the judge with the labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cna_mlx.analysis.agreement import Agreement, judged_samples
from cna_mlx.errors import InputError
from cna_mlx.evaluation.judge import Judge, open_judge
from cna_mlx.evaluation.judgements import JUDGEMENTS, Judgements
from cna_mlx.evaluation.rubric import RUBRIC_SHA256, RUBRIC_VERSION
from cna_mlx.evaluation.runs import RUN, RunRecord, runs_directory
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.answer_files import LabelledAnswer, label_file
from cna_mlx.labels.label import Label, LabelKind
from cna_mlx.util.files import is_there, typed_path
from cna_mlx.util.progress import SILENT, Reporter


@dataclass
class Judging:
    """Answers that a judge labels one after the other.

    Attributes:
        answers: with their own labels.
        arms: the arm of each answer; empty for a file.
        place: the file that keeps the judgements; None to keep them in memory.
        found: the judge's labels so far; None where the reply names no label.
    """

    judge: Judge
    answers: Sequence[LabelledAnswer]
    arms: Sequence[str] = ()
    place: Path | None = None
    reporter: Reporter = SILENT
    found: list[LabelKind | None] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        source: str,
        judge: str,
        column: str | None = None,
        reporter: Reporter = SILENT,
    ) -> "Judging":
        """Read the answers of a file, or of a run's baseline and main arm.

        Args:
            source: a run's directory or name, or a file as for :func:`label_file`.
            judge: as for :func:`open_judge`.
            column: as for :func:`label_file`.

        Raises:
            InputError: the answers or the address cannot be used.
            ModelError, HubError, OutOfMemoryError: the model cannot be loaded.
        """
        if not is_run(source):
            answers = label_file(source, column, reporter=reporter)
            return cls(open_judge(judge, reporter), answers, reporter=reporter)
        if column is not None:
            raise InputError(f"{source} is a run: leave out --column")
        run = RunRecord.open(source)
        samples = judged_samples(run, run.samples())
        if not samples:
            raise InputError(f"{source}: no prompt is answered yet")
        answers = [_answer(sample) for sample in samples]
        arms = [sample.arm for sample in samples]
        place = run.directory / JUDGEMENTS
        return cls(open_judge(judge, reporter), answers, arms, place, reporter)

    def run(self) -> bool:
        """Judge the answers that are left; return whether all are judged.

        Raises:
            CnaError: the judge failed; ``found`` has what was finished.
        """
        kept = Judgements(self.judge.name, self.place)
        report, total = self.reporter, len(self.answers)
        with report.progress("answers") as progress, report.watching():
            for answer in self.answers[len(self.found) :]:
                if report.stop():
                    report.note(f"interrupted: {len(self.found)} of {total} judged")
                    return False
                label = kept.find(answer.prompt, answer.text)
                if label is None:
                    label = self.judge.judge(answer.prompt, answer.text)
                    if label is not None:  # an unreadable reply is asked for again
                        kept.add(answer.prompt, answer.text, label)
                self.found.append(label)
                progress("Judging", len(self.found), total)
        return True

    @property
    def agreements(self) -> dict[str, Agreement]:
        """The agreement in each arm, and of ``all`` judged answers."""
        labels = [answer.label.kind for answer in self.answers]
        pairs = list(zip(labels, self.found, strict=False))
        by_arm = {
            arm: Agreement.of(
                pair for pair, own in zip(pairs, self.arms, strict=False) if own == arm
            )
            for arm in dict.fromkeys(self.arms[: len(pairs)])
        }
        return {**by_arm, "all": Agreement.of(pairs)}

    def to_dict(self) -> dict[str, Any]:
        """The judge and the agreement for JSON, without the answers."""
        return {
            "name": self.judge.name,
            "rubric": {"version": RUBRIC_VERSION, "sha256": RUBRIC_SHA256},
            "judged": len(self.found),
            "agreement": {name: one.to_dict() for name, one in self.agreements.items()},
        }


def is_run(source: str) -> bool:
    """Whether a source is a run's directory or name, not a file."""
    if is_there(source):
        return typed_path(source).is_dir()
    return is_there(runs_directory() / source / RUN)


def _answer(sample: Sample) -> LabelledAnswer:
    label = Label(sample.label, sample.span, sample.has_loop)
    names = ("set", "id", "kind", "arm")
    given = {name: getattr(sample, name) for name in names}
    return LabelledAnswer(sample.text, label, sample.quality, sample.prompt, given)
