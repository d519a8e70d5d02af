"""A list of runs: their circuits, progress, refusal rates and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cna_mlx.analysis.statistics import Proportion, proportion
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import conclude
from cna_mlx.errors import InputError
from cna_mlx.evaluation.run_config import RULES, CircuitEntry, RunArm, main_arm
from cna_mlx.evaluation.runs import (
    SAMPLES,
    RunRecord,
    find_runs,
    problem_in,
    runs_directory,
)
from cna_mlx.report.listing_cache import ListingCache, stamp
from cna_mlx.report.writing import FILES
from cna_mlx.strength import Pin, to_intervention
from cna_mlx.util.formatting import counted
from cna_mlx.util.progress import SILENT, Reporter
from cna_mlx.util.records import Record

#: A list in which fewer runs have to be read is there at once.
_FEW = 10


@dataclass(frozen=True)
class RunFigures(Record):
    """What a list shows of a run's samples.

    Attributes:
        done: how many prompts are answered in every arm; None if the samples are
            damaged.
        problem: what is wrong with them.
        before, after: of the baseline and the main arm, how many of how many prompts
            are refused: those that the verdict is about.
        outcome, headline: of the verdict.
    """

    done: int | None = None
    problem: str | None = None
    before: tuple[int, int] | None = None
    after: tuple[int, int] | None = None
    outcome: str | None = None
    headline: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether these can be the figures of a run."""
        rates = [one for one in (self.before, self.after) if one]
        return self.done is not None and all(0 <= count <= n for count, n in rates)

    @classmethod
    def of(cls, run: RunRecord) -> "RunFigures":
        """The figures of the samples so far."""
        try:
            samples = run.samples()
            summary = summarize(run, samples)
            verdict = conclude(summary)
        except InputError as error:
            return cls(problem=problem_in(run.directory, error))
        group = summary.target and (summary.target.unseen or summary.target)
        rates = [one.refused for one in group.shown] if group else []
        counts = [(one.successes, one.n) for one in rates]
        return cls(
            len(samples) // len(run.arms),
            before=counts[0] if counts else None,
            after=counts[1] if counts[1:] else None,
            outcome=verdict.outcome.name.lower(),
            headline=verdict.headline,
        )


@dataclass(frozen=True)
class Listed:
    """A run as a list shows it.

    Attributes:
        run: None if its ``run.json`` cannot be read.
    """

    directory: Path
    run: RunRecord | None
    figures: RunFigures

    @classmethod
    def of(cls, run: RunRecord) -> "Listed":
        """A run with the figures of its samples so far."""
        return cls(run.directory, run, RunFigures.of(run))

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.directory.name

    @property
    def model(self) -> str:
        """The id of the model, or nothing."""
        return (self.run and self.run.config.model.id) or ""

    @property
    def date(self) -> str:
        """When it was last written, to the minute, in UTC."""
        facts = self.run and self.run.facts
        text = (facts and (facts.updated or facts.created)) or ""
        return text[:16].replace("T", " ")

    @property
    def arm(self) -> RunArm | None:
        """The main arm: what the run is about."""
        return main_arm(self.run.arms) if self.run else None

    @property
    def before(self) -> Proportion | None:
        """The refusal rate of the baseline."""
        return _rate(self.figures.before)

    @property
    def after(self) -> Proportion | None:
        """The refusal rate of the main arm."""
        return _rate(self.figures.after)

    @property
    def circuit(self) -> CircuitEntry | None:
        """The circuit of the main arm; None for CAA."""
        run, arm = self.run, self.arm
        return run.config.circuits.get(arm.circuit or "") if run and arm else None

    @property
    def circuit_text(self) -> str:
        """``magic circuit, 8 neurons, multiplier 0``."""
        arm, circuit = self.arm, self.circuit
        if arm is None:
            return ""
        if circuit is None:
            return f"CAA, alpha {arm.strength:g}" if arm.role == "caa" else ""
        origin = circuit.contrast and circuit.contrast.name
        parts = [circuit.file or f"{origin or 'hand-made'} circuit"]
        if circuit.neurons is not None:
            by = f" by {circuit.rank}" if circuit.rank not in (None, "delta") else ""
            parts.append(counted(circuit.neurons, "neuron") + by)
        how = arm.applied
        parts.append(str(how) if isinstance(how, Pin) else f"multiplier {how:g}")
        return ", ".join(parts)

    @property
    def state(self) -> str:
        """``complete``, ``incomplete`` or ``damaged``."""
        if self.run is None or self.figures.done is None:
            return "damaged"
        is_whole = self.figures.done == self.run.planned
        is_complete = is_whole and self.run.status == "complete"
        return "complete" if is_complete else "incomplete"

    @property
    def state_text(self) -> str:
        """``complete, 12 prompts``, ``interrupted, 3 of 12 prompts``, ``damaged``."""
        if self.run is None or self.state == "damaged":
            return self.state
        planned = counted(self.run.planned, "prompt")
        of = "" if self.state == "complete" else f"{self.figures.done} of "
        return f"{self.run.status}, {of}{planned}"

    @property
    def note(self) -> str | None:
        """What to know about its labels; None for those of this version."""
        version = self.run.facts.rules.get("labels", 1) if self.run else RULES["labels"]
        if not self.figures.done or version == RULES["labels"]:
            return None
        if version > RULES["labels"]:
            return "labelled by the rules of a later version"
        return "labelled by the rules of an earlier version: report --relabel"

    @cached_property
    def report(self) -> Path | None:
        """Its page, if there is one."""
        path = self.directory / FILES["html"][0]
        return path if path.is_file() else None

    @cached_property
    def is_report_old(self) -> bool:
        """Whether prompts were answered after its page was written."""
        samples = self.directory / SAMPLES
        if self.report is None or not samples.is_file():
            return False
        return self.report.stat().st_mtime_ns < samples.stat().st_mtime_ns

    @property
    def command(self) -> str | None:
        """What makes its report; None if nothing does yet."""
        if self.run is None or not self.figures.done:
            return None
        return f"cna-mlx report {self.run.word}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        run, figures, arm, circuit = self.run, self.figures, self.arm, self.circuit
        return {
            "name": self.name,
            "directory": str(self.directory),
            "command": run and run.config.command,
            "model": run and run.config.model.id,
            "circuit": circuit
            and {
                "file": circuit.file,
                "contrast": circuit.contrast and circuit.contrast.name,
                "rank": circuit.rank,
                "neurons": circuit.neurons,
                "intervention": arm and to_intervention(arm.applied),
            },
            "state": self.state,
            "status": run and run.status,
            "problem": figures.problem,
            "note": self.note,
            "prompts": {"done": figures.done, "planned": run and run.planned},
            "arm": arm and arm.label,
            "before": self.before and self.before.to_dict(),
            "after": self.after and self.after.to_dict(),
            "verdict": figures.headline
            and {"outcome": figures.outcome, "headline": figures.headline},
            "report": self.report and str(self.report),
            "report_command": self.command,
            "created": run and run.facts.created,
            "updated": run and run.facts.updated,
        }


def listed_runs(
    directory: Path | None = None, *, reporter: Reporter = SILENT
) -> list[Listed]:
    """Return the runs of a directory (the default one if None), the latest first.

    Those whose ``run.json`` cannot be read are the last.

    Raises:
        InputError: the directory cannot be read.
    """
    place = directory or runs_directory()
    runs, damaged = find_runs(place)
    figures = _figures(place, runs, reporter)
    found = [
        Listed(run.directory, run, one) for run, one in zip(runs, figures, strict=True)
    ]
    rest = [
        Listed(one.directory, None, RunFigures(problem=one.problem)) for one in damaged
    ]
    return found + rest


def _figures(
    place: Path, runs: Sequence[RunRecord], reporter: Reporter
) -> list[RunFigures]:
    """The figures of runs; only those that changed since the last list are read."""
    kept = ListingCache(place)
    stamps = {run.directory.name: stamp(run.directory) for run in runs}
    found = {}
    for name, stamped in stamps.items():
        data = kept.get(name, stamped)
        if data is not None and (one := RunFigures.from_dict(data)).is_sound:
            found[name] = one
    missing = [run for run in runs if run.directory.name not in found]
    shown = reporter if len(missing) > _FEW else SILENT
    try:
        with shown.progress("runs") as progress:
            for number, run in enumerate(missing):
                progress("Reading", number, len(missing))
                found[run.directory.name] = RunFigures.of(run)
    finally:  # Ctrl-C loses nothing that was read
        for name, one in found.items():
            if one.problem is None:  # else it may be readable the next time
                kept.keep(name, stamps[name], one.to_dict())
        kept.save()
    return [found[run.directory.name] for run in runs]


def _rate(counts: tuple[int, int] | None) -> Proportion | None:
    return counts and proportion(*counts)
