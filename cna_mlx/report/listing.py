"""A list of runs: their progress and their refusal rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cna_mlx.analysis.statistics import Proportion, kind_shares
from cna_mlx.analysis.summary import unrepeated
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import main_arm
from cna_mlx.evaluation.runs import RunRecord, list_runs
from cna_mlx.evaluation.samples import Sample
from cna_mlx.labels.label import LabelKind


@dataclass(frozen=True)
class Listed:
    """A run with its refusal rates on prompts that are not benign.

    Attributes:
        done: how many prompts are answered in every arm; None if the samples are
            damaged.
        before, after: rates of the baseline and the main arm.
        arm: the label of the main arm.
    """

    run: RunRecord
    done: int | None
    before: Proportion | None = None
    after: Proportion | None = None
    arm: str | None = None

    @classmethod
    def of(cls, run: RunRecord) -> "Listed":
        """A run with the rates of its samples so far."""
        try:
            samples = run.samples()
        except InputError:
            return cls(run, None)
        arms = run.arms
        main = main_arm(arms)
        done = len(samples) // len(arms)
        before = _refused(samples, arms[0].label)
        if main is None:
            return cls(run, done, before)
        return cls(run, done, before, _refused(samples, main.label), main.label)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "name": self.run.directory.name,
            "directory": str(self.run.directory),
            "command": self.run.config.command,
            "model": self.run.config.model.id,
            "status": self.run.status,
            "prompts": {"done": self.done, "planned": self.run.planned},
            "arm": self.arm,
            "before": self.before and self.before.to_dict(),
            "after": self.after and self.after.to_dict(),
            "created": self.run.facts.created,
            "updated": self.run.facts.updated,
        }


def listed_runs(directory: Path | None = None) -> list[Listed]:
    """Return the runs of a directory (the default one if None), the latest first."""
    return [Listed.of(run) for run in list_runs(directory)]


def _refused(samples: Sequence[Sample], arm: str) -> Proportion | None:
    asked = [one for one in samples if one.kind != "benign"]
    kinds = [one.label for one in unrepeated(asked) if one.arm == arm]
    return kind_shares(kinds)[LabelKind.REFUSED] if kinds else None
