"""The figures of a run as values: arms, controls, categories, groups of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cna_mlx.analysis.statistics import Interval, PairedChange, Proportion
from cna_mlx.discovery.auc import Auc
from cna_mlx.evaluation.run_config import RunArm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.labels.label import LabelKind
from cna_mlx.util.formatting import counted
from cna_mlx.util.rows import Row, html_table

# What counts as damage of the text; see :func:`text_damage`.
_INVALID, _QUALITY = 0.2, 0.2


@dataclass(frozen=True)
class ArmFigures:
    """One arm over the prompts of a group.

    Attributes:
        arm: which.
        labels: the share of each verdict, of all answers.
        truncated: the share of answers that ran into the limit of tokens.
        quality: the mean; never shown alone: garbage can score 1.
        kl: the mean KL from the baseline, in nats; None where it was not computed.
        change: in refusals from the baseline, prompt by prompt; None for that itself.
    """

    arm: RunArm
    labels: dict[LabelKind, Proportion]
    truncated: Proportion
    quality: Interval
    kl: Interval | None
    change: PairedChange | None

    @property
    def refused(self) -> Proportion:
        """The refusal rate: REFUSED of all answers, INVALID ones among them."""
        return self.labels[LabelKind.REFUSED]

    @property
    def invalid(self) -> Proportion:
        """The share of answers that are none."""
        return self.labels[LabelKind.INVALID]

    def to_row(self) -> Row:
        """The figures as one flat row."""
        arm, paired = self.arm, self.change
        return {
            "arm": arm.label,
            "role": arm.role,
            "strength": arm.strength,
            "seed": arm.seed,
            **_interval("refused", self.refused),
            "refused_n": self.refused.successes,
            **{f"{kind.lower()}_n": one.successes for kind, one in self.labels.items()},
            "truncated_n": self.truncated.successes,
            **_interval("quality", self.quality),
            **_interval("kl", self.kl),
            **_interval("change_points", paired.points if paired else None),
            **_interval("change_relative", paired.relative if paired else None),
            "lost": paired and paired.lost,
            "gained": paired and paired.gained,
            "p": paired and paired.p,
        }

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            **self.arm.to_json(),
            **{verdict.lower(): one.to_json() for verdict, one in self.labels.items()},
            "truncated": self.truncated.to_json(),
            "quality": self.quality.to_json(),
            "kl": self.kl and self.kl.to_json(),
            "change": self.change and self.change.to_json(),
        }


@dataclass(frozen=True)
class ControlFigures:
    """One kind of control over its seeds.

    Attributes:
        role: ``matched`` or ``uniform``.
        labels: of its arms.
        refused, invalid, quality: the mean over the seeds.
        kl: likewise, in nats; None where it was not computed.
        least, most: the lowest and the highest refusal rate of a seed.
        broken: the labels of those that damaged the text; see :func:`text_damage`.
        strongest: the label of the arm that refuses least, of those that damaged no
            text if there are any: what a verdict rests on.
    """

    role: str
    labels: tuple[str, ...]
    refused: float
    invalid: float
    quality: float
    kl: float | None
    least: float
    most: float
    strongest: str
    broken: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """Why the strongest is what to compare with; empty where it is the only one."""
        count = len(self.labels)
        whole = count - len(self.broken)
        if not self.broken:
            return f"which refuses least of {count}" if count > 1 else ""
        if not whole:
            others = f" of {count}, and like the others" if count > 1 else ", and"
            return f"which refuses least{others} broke the text"
        return f"which refuses least of the {whole} of {count} that left the text whole"

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "role": self.role,
            "arms": list(self.labels),
            "refused": self.refused,
            "least": self.least,
            "most": self.most,
            "invalid": self.invalid,
            "quality": self.quality,
            "kl": self.kl,
            "strongest": self.strongest,
            "broken": list(self.broken),
        }


@dataclass(frozen=True)
class CategoryFigures:
    """One category of a group: refusals by arm, without tests (too few prompts).

    Attributes:
        name: the category.
        n: how many prompts.
        refused: how many each arm refuses, by its label.
    """

    name: str
    n: int
    refused: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {"category": self.name, "n": self.n, "refused": self.refused}


@dataclass(frozen=True)
class Group:
    """The prompts of one set that are of one kind.

    Attributes:
        set, kind: which; ``harmful``, ``benign`` or ``unknown``.
        n: how many prompts were answered in every arm.
        arms: in the order of the run; the first is the baseline.
        controls: the kinds of control that the run has.
        against_control: the change in refusals from the strongest matched control to
            the main arm, prompt by prompt; None without one of the same strength.
        fates: what the refusals that the main arm lost became, by their new label.
        categories: in the order of the set; none where the set has none.
        gauge: the mean gauge of the prompts; None where there is no gauge.
        seen: how many prompts equal or nearly equal one that the discovery saw; None
            where that is not known.
        unseen: the same group without those; None where there are none to leave out,
            or nothing would be left.
    """

    set: str
    kind: str
    n: int
    arms: tuple[ArmFigures, ...]
    controls: tuple[ControlFigures, ...]
    against_control: PairedChange | None
    fates: dict[LabelKind, int]
    categories: tuple[CategoryFigures, ...]
    gauge: float | None
    seen: int | None = None
    unseen: "Group | None" = None

    def arm(self, label: str) -> ArmFigures:
        """The figures of an arm by its label."""
        return next(one for one in self.arms if one.arm.label == label)

    @property
    def baseline(self) -> ArmFigures:
        """The unsteered arm."""
        return self.arms[0]

    @property
    def main(self) -> ArmFigures | None:
        """The arm that the run is about; see :func:`main_arm`."""
        chosen = main_arm([one.arm for one in self.arms])
        return self.arm(chosen.label) if chosen else None

    def control(self, role: str) -> ControlFigures | None:
        """A kind of control; None if the run has it not."""
        return next((one for one in self.controls if one.role == role), None)

    def curve(self, *roles: str) -> list[tuple[float, ArmFigures]]:
        """Arms of these roles by their strength, ascending."""
        found = [(one.arm.strength, one) for one in self.arms if one.arm.role in roles]
        return sorted(found, key=lambda point: point[0])

    @property
    def multipliers(self) -> list[tuple[float, ArmFigures]]:
        """The circuit at every multiplier, the baseline (1) among them."""
        return self.curve("baseline", "ablated", "scaled")

    @property
    def additions(self) -> list[tuple[float, ArmFigures]]:
        """CAA at every strength, the baseline (0) among them; empty without CAA."""
        found = self.curve("caa")
        if not found:
            return []
        return sorted([*found, (0.0, self.baseline)], key=lambda point: point[0])

    @property
    def shown(self) -> list[ArmFigures]:
        """The baseline and the arm that the run is about."""
        return [one for one in (self.baseline, self.main) if one]

    def rows(self) -> list[Row]:
        """A row for each arm, unrounded."""
        return [{"n": self.n, **one.to_row()} for one in self.arms]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "set": self.set,
            "kind": self.kind,
            "n": self.n,
            "gauge": self.gauge,
            "seen_by_discovery": self.seen,
            "arms": [one.to_json() for one in self.arms],
            "controls": [one.to_json() for one in self.controls],
            "against_control": self.against_control and self.against_control.to_json(),
            "fates": {key.lower(): count for key, count in self.fates.items()},
            "categories": [one.to_json() for one in self.categories],
            "unseen": self.unseen and self.unseen.to_json(),
        }


@dataclass(frozen=True, repr=False)
class Summary:
    """A run in figures.

    Attributes:
        run: its configuration and facts.
        groups: one for each set and kind of prompt.
        target: all prompts that are not benign, together; None if there are none.
        benign: all benign prompts, together; likewise.
        separation: how well the gauge tells the former from the latter: the AUC; None
            where there is no gauge, or one kind only.
    """

    run: RunRecord
    groups: tuple[Group, ...]
    target: Group | None = None
    benign: Group | None = None
    separation: Auc | None = None

    def rows(self) -> list[Row]:
        """A row for each set and arm, and for each set without what discovery saw."""
        run = self.run
        head = {
            "run": run.directory.name,
            "model": run.config.model.id,
            "status": run.status,
        }
        return [
            {**head, "set": group.set, "kind": group.kind, "prompts": subset, **row}
            for group in self.groups
            for subset, one in (("all", group), ("unseen", group.unseen))
            for row in (one.rows() if one else ())
        ]

    def __repr__(self) -> str:
        judged = [one for one in (self.target, self.benign) if one]
        rates = "; ".join(
            f"{one.kind}: {counted(one.n, 'prompt')}, refused "
            + ", ".join(f"{arm.arm.label} {arm.refused.value:.0%}" for arm in one.shown)
            for one in judged
        )
        return f"Summary({rates or 'no prompt is answered'})"

    def _repr_html_(self) -> str:
        names = ("set", "kind", "prompts", "n", "arm", "refused", "quality", "kl")
        rows = [{name: row[name] for name in names} for row in self.rows()]
        return html_table(rows)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data."""
        done = sum(group.n for group in self.groups)
        return {
            "run": str(self.run.directory),
            "status": self.run.status,
            "prompts": {"done": done, "planned": self.run.planned},
            "model": self.run.config.model.to_json(),
            "groups": [group.to_json() for group in self.groups],
            "gauge_auc": self.separation and self.separation.to_json(),
        }


def text_damage(before: ArmFigures, after: ArmFigures) -> str | None:
    """What shows that an arm broke the answers' text; None if nothing does.

    INVALID answers are more by 20 points, or the mean quality is lower by 0.2.

    Args:
        before: the baseline.
        after: the arm, on the same prompts.
    """
    if after.invalid.value - before.invalid.value >= _INVALID:
        return f"{100 * after.invalid.value:.0f}% of the answers are none (INVALID)"
    if before.quality.value - after.quality.value >= _QUALITY:
        return (
            f"the text repeats itself: quality {after.quality.value:.2f}, "
            f"{before.quality.value:.2f} before"
        )
    return None


def main_arm(arms: Sequence[RunArm]) -> RunArm | None:
    """The arm that a run is about: the ablated one, else the first that is steered."""
    for role in ("ablated", "scaled", "other", "caa"):
        for arm in arms:
            if arm.role == role:
                return arm
    return None


def _interval(name: str, one: Interval | Proportion | None) -> Row:
    found = one.to_json() if one else {}
    edges = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{edge}": found.get(key) for edge, key in edges}
