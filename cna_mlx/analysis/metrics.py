"""The figures of a run as values: arms, controls, categories, groups of prompts."""

from dataclasses import dataclass, field
from typing import Any

from cna_mlx.analysis.statistics import Interval, PairedChange, Proportion
from cna_mlx.evaluation.power import worth
from cna_mlx.evaluation.run_config import RunArm, main_arm
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.labels.label import LabelKind
from cna_mlx.provenance import Auc
from cna_mlx.util.formatting import counted, percent
from cna_mlx.util.records import JsonFields
from cna_mlx.util.rows import Row, html_table

#: A correlation, and over how many prompts.
Correlation = tuple[float, int]


@dataclass(frozen=True)
class ArmFigures(JsonFields):
    """One arm over the prompts of a group.

    Attributes:
        labels: the share of each label, of the judged answers; of UNJUDGED, of all.
        truncated: the share of answers that reached the token limit.
        looping: the answers that repeat themselves after a refusal or an answer.
        quality: the mean; never shown alone, since garbage can score 1.
        kl: the mean KL from the baseline, in nats, without an interval.
        change: in refusals from the baseline, prompt by prompt.
        worse: the answers whose quality is lower than the baseline's by 0.2 or more.
        shifted: the answers whose KL is above 1 nat.
        p_holm: the p of the change, adjusted for the number of arms and sets of the
            run; None for controls.
    """

    arm: RunArm
    labels: dict[LabelKind, Proportion]
    truncated: Proportion
    quality: Interval
    kl: Interval | None
    change: PairedChange | None
    looping: int = 0
    worse: int = 0
    shifted: int = 0
    p_holm: float | None = None

    @property
    def refused(self) -> Proportion:
        """The refusal rate: REFUSED of all judged answers, INVALID ones included."""
        return self.labels[LabelKind.REFUSED]

    @property
    def invalid(self) -> Proportion:
        """The share of unusable answers."""
        return self.labels[LabelKind.INVALID]

    @property
    def unjudged(self) -> Proportion:
        """The share of answers that are not English."""
        return self.labels[LabelKind.UNJUDGED]

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
            "loop_n": self.looping,
            **_interval("quality", self.quality),
            **_interval("kl", self.kl),
            **_interval("change_points", paired.points if paired else None),
            **_interval("change_relative", paired.relative if paired else None),
            "lost": paired and paired.lost,
            "gained": paired and paired.gained,
            "ruined": paired and paired.ruined,
            "p": paired and paired.p,
            "p_holm": self.p_holm,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the arm with its figures for JSON."""
        data = super().to_dict()
        return {**data.pop("arm"), **data.pop("labels"), **data}


@dataclass(frozen=True)
class ControlFigures(JsonFields):
    """One kind of control over its seeds.

    Attributes:
        arms: their labels.
        refused, invalid, quality: the mean over the seeds.
        kl: the mean over the seeds, in nats; None if it was not computed.
        least, most: the lowest and the highest refusal rate of a seed.
        strongest: the label of the arm that loses most refusals, among those that left
            the text whole if there are any.
        broken: the labels of those that cannot be compared: they damaged the text
            (:mod:`cna_mlx.analysis.damage`) or answered in another language.
        stand_ins: how many different neurons they have for each of the circuit's; None
            if unknown.
        rivals: how many of the others lose at least as many refusals as the main arm.
    """

    role: str
    arms: tuple[str, ...]
    refused: float
    invalid: float
    quality: float
    kl: float | None
    least: float
    most: float
    strongest: str
    broken: tuple[str, ...] = ()
    rivals: int = 0
    stand_ins: float | None = None

    @property
    def whole(self) -> int:
        """How many left the text whole."""
        return len(self.arms) - len(self.broken)

    @property
    def worth(self) -> int:
        """As how many controls they count: fewer where they share neurons."""
        return worth(self.whole, self.stand_ins)

    @property
    def p(self) -> float:
        """The chance that a circuit that is like its controls has so few rivals.

        Circuit and controls are then exchangeable, and each place of the circuit in
        the order of their losses is equally likely. At best it is 1 of n + 1.
        """
        return min(1.0, (1 + self.rivals) / (1 + self.worth))

    @property
    def why(self) -> str:
        """Why the strongest is the one to compare with; empty if it is the only one."""
        count = len(self.arms)
        if not self.broken:
            return f"which loses most of {count}" if count > 1 else ""
        if not self.whole:
            others = f" of {count}, and like the others" if count > 1 else ", and"
            return f"which loses most{others} broke the text"
        return (
            f"which loses most of the {self.whole} of {count} that left the text whole"
        )


@dataclass(frozen=True)
class CategoryFigures:
    """One category or level of a group, without tests: it has too few prompts for one.

    Attributes:
        refused: by the label of the arm.
        lost: the refusals that the main arm answers.
        is_level: whether it is a level of harm.
    """

    name: str
    n: int
    refused: dict[str, int]
    lost: int = 0
    is_level: bool = False


@dataclass(frozen=True)
class Openings(JsonFields):
    """Lost refusals, answered again from the first word of the baseline's refusal.

    Attributes:
        n: how many were tried.
        returned: how many are refused again.
        words: the first words, the commonest first.
    """

    n: int
    returned: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Group(JsonFields):
    """The prompts of one set that are of one kind.

    Attributes:
        kind: ``harmful``, ``benign`` or ``unknown``.
        n: how many prompts were answered in every arm.
        arms: in the order of the run; the first is the baseline.
        against_control: the change in refusals from the strongest matched control to
            the main arm, prompt by prompt; None without one of the same strength.
        fates: the new labels of the refusals that the main arm has no more.
        gauge: the mean gauge of the prompts.
        seen: how many prompts equal or nearly equal one of the discovery; None if
            unknown.
        unseen: the same group without those; None if that is the same or empty.
        openings: what a first word of refusal changes; None if nothing was tried.
        extended: the same group with the labels of the answers that went on past the
            token limit; None if none did.
        continued: by arm, how many went on.
        moved: by arm, how many of these have which other label then.
        repeated: the first words of the text that most lost refusals became, and how
            many did; None if fewer than three share one.
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
    openings: Openings | None = None
    extended: "Group | None" = None
    continued: dict[str, int] = field(default_factory=dict)
    moved: dict[str, dict[str, int]] = field(default_factory=dict)
    repeated: tuple[str, int] | None = None

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
        """The controls of a kind; None if the run has none."""
        return next((one for one in self.controls if one.role == role), None)

    @property
    def multipliers(self) -> list[tuple[float, ArmFigures]]:
        """The circuit at every multiplier, the baseline (1) among them."""
        return self._curve("baseline", "ablated", "scaled")

    @property
    def additions(self) -> list[tuple[float, ArmFigures]]:
        """CAA at every alpha, the baseline (0) among them; empty without CAA."""
        found = self._curve("caa")
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

    def _curve(self, *roles: str) -> list[tuple[float, ArmFigures]]:
        found = [(one.arm.strength, one) for one in self.arms if one.arm.role in roles]
        return sorted(found, key=lambda point: point[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        data = super().to_dict()
        data["seen_by_discovery"] = data.pop("seen")
        data["categories"] = [
            {"level" if one.is_level else "category": one.name, "n": one.n}
            | {"refused": one.refused, "lost": one.lost}
            for one in self.categories
        ]
        return data


@dataclass(frozen=True, repr=False)
class Summary:
    """A run in figures.

    Attributes:
        groups: one for each set and kind of prompt.
        target: all prompts that are not benign, together.
        benign: all benign prompts, together.
        separation: the AUC of the gauge between these two; None without a gauge or
            with one kind of prompt only.
        opening: Spearman's rank correlation of the gauge with the log-odds of the
            model's own refusing openings, and over how many prompts: over all, and over
            those that are not benign; None for fewer than eight.
    """

    run: RunRecord
    groups: tuple[Group, ...]
    target: Group | None = None
    benign: Group | None = None
    separation: Auc | None = None
    opening: tuple[Correlation | None, Correlation | None] = (None, None)

    @property
    def done(self) -> int:
        """How many prompts are answered in every arm."""
        return sum(group.n for group in self.groups)

    @property
    def is_whole(self) -> bool:
        """Whether every prompt of the run is answered in every arm."""
        return self.done == self.run.planned

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
        rates = "; ".join(
            f"{one.kind}: {counted(one.n, 'prompt')}, refused "
            + ", ".join(f"{a.arm.label} {percent(a.refused.value)}" for a in one.shown)
            for one in (self.target, self.benign)
            if one
        )
        return f"Summary({rates or 'no prompt is answered'})"

    def _repr_html_(self) -> str:
        names = ("set", "kind", "prompts", "n", "arm", "refused", "quality", "kl")
        rows = [{name: row[name] for name in names} for row in self.rows()]
        return html_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "run": str(self.run.directory),
            "status": self.run.status,
            "prompts": {"done": self.done, "planned": self.run.planned},
            "model": self.run.config.model.to_dict(),
            "groups": [group.to_dict() for group in self.groups],
            "gauge_auc": self.separation and self.separation.to_dict(),
            "gauge_opening": {
                name: one and {"spearman": one[0], "n": one[1]}
                for name, one in zip(("all", "target"), self.opening, strict=True)
            },
        }


def _interval(name: str, one: Interval | Proportion | None) -> Row:
    found = one.to_dict() if one else {}
    edges = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{edge}": found.get(key) for edge, key in edges}
