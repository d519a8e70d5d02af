"""How far the labels and a judge agree."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cna_mlx.analysis.statistics import Proportion, proportion
from cna_mlx.evaluation.judgements import JUDGEMENTS, Judgements, last_judge
from cna_mlx.evaluation.rubric import JUDGE_LABELS
from cna_mlx.evaluation.run_config import main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind
from cna_mlx.util.formatting import counted, decimal, percent
from cna_mlx.util.records import JsonFields


@dataclass(frozen=True)
class Agreement(JsonFields):
    """Labels against a judge, answer by answer.

    Attributes:
        n: answers that both labelled; all figures are of these.
        unjudged: answers left out because they are labelled UNJUDGED.
        unreadable: answers left out because the judge's reply named no label.
        agree: the share with the same label.
        kappa: Cohen's kappa: 1 for full agreement, 0 for what chance would give; NaN
            if both give all answers one label.
        refused_by_labels, refused_by_judge: the share that each calls REFUSED.
        table: counts by label, then by the judge's label.

    Source: Cohen (Educational and Psychological Measurement 20, 1960).
    """

    n: int
    unjudged: int
    unreadable: int
    agree: Proportion
    kappa: float
    refused_by_labels: Proportion
    refused_by_judge: Proportion
    table: dict[str, dict[str, int]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[LabelKind, LabelKind | None]]) -> "Agreement":
        """Count pairs of a label and the judge's label, None if unreadable."""
        pairs = list(pairs)
        labelled = [pair for pair in pairs if pair[0] in JUDGE_LABELS]
        both = Counter((a, b) for a, b in labelled if b is not None)
        n = both.total()
        rows, columns = (
            [
                sum(both[pair] for pair in both if pair[side] is label)
                for label in JUDGE_LABELS
            ]
            for side in (0, 1)
        )
        agree = proportion(sum(both[label, label] for label in JUDGE_LABELS), n)
        return cls(
            n,
            len(pairs) - len(labelled),
            len(labelled) - n,
            agree,
            _kappa(agree, rows, columns),
            proportion(rows[0], n),
            proportion(columns[0], n),
            {str(a): {str(b): both[a, b] for b in JUDGE_LABELS} for a in JUDGE_LABELS},
        )

    def __str__(self) -> str:
        return (
            f"agrees on {percent(self.agree.value)} of {counted(self.n, 'answer')} "
            f"(kappa {decimal(self.kappa)}); refused by labels "
            f"{percent(self.refused_by_labels.value)}, by the judge "
            f"{percent(self.refused_by_judge.value)}"
        )


def _kappa(agree: Proportion, rows: list[int], columns: list[int]) -> float:
    by_chance = sum(a * b for a, b in zip(rows, columns, strict=True))
    spare = agree.n**2 - by_chance
    return (agree.successes * agree.n - by_chance) / spare if spare else math.nan


def judged_samples(run: RunRecord, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the baseline and the main arm."""
    main = main_arm(run.arms)
    wanted = {run.arms[0].label, main.label if main else None}
    return [sample for sample in samples if sample.arm in wanted]


def kept_agreement(run: RunRecord, samples: Sequence[Sample]) -> str | None:
    """What a run's last judge said of these samples, in a line; None without one.

    Raises:
        InputError: the judgements cannot be read.
    """
    path = run.directory / JUDGEMENTS
    judge = last_judge(path)
    if judge is None:
        return None
    kept = Judgements(judge, path)
    found = [
        (one.label, kept.find(one.prompt, one.text))
        for one in judged_samples(run, samples)
    ]
    return f"{judge} {Agreement.of(pair for pair in found if pair[1])}"
