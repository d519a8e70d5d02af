"""Runs in, the content of a report out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.summary import relabelled, summarize
from cna_mlx.analysis.verdict import Verdict, conclude
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report import curves, figures
from cna_mlx.report.answers import shown_prompts
from cna_mlx.report.content import (
    Chart,
    ReportContent,
    RunContent,
    Section,
    Table,
    TextLevel,
)
from cna_mlx.report.excerpts import NOTICES
from cna_mlx.report.facts import (
    alerts,
    facts,
    model_name,
    more_facts,
    notes,
    subtitle,
)
from cna_mlx.report.glossary import READING
from cna_mlx.report.paper_section import Paper, paper_section, targets
from cna_mlx.report.runs_table import across_table
from cna_mlx.util.environment import versions
from cna_mlx.util.formatting import counted


@dataclass(frozen=True)
class Entry:
    """A run with all that its part of a report is made from.

    Attributes:
        summary: its figures.
        samples: what they are of.
        conclusion: what it comes to.
        paper: what the paper reports of its model, or None.
        changed: how many labels a relabelling changed; None if there was none.
    """

    summary: Summary
    samples: Sequence[Sample]
    conclusion: Verdict
    paper: Paper | None = None
    changed: int | None = None

    @classmethod
    def of(cls, run: RunRecord, *, relabel: bool = False) -> "Entry":
        """A run from its files, labelled anew if that is wanted.

        Raises:
            InputError: the samples are damaged, or there is no whole batch yet.
        """
        samples = run.samples()
        if not samples:
            raise InputError(
                f"{run.directory}: no prompt is answered in every arm yet; the same "
                "command that began it goes on"
            )
        changed = None
        if relabel:
            new = relabelled(samples)
            pairs = zip(samples, new, strict=True)
            changed = sum(old.label is not one.label for old, one in pairs)
            samples = new
        summary = summarize(run, samples)
        paper = Paper.of(summary)
        return cls(summary, samples, conclude(summary), paper, changed)


def build(entries: Sequence[Entry], level: TextLevel = "excerpts") -> ReportContent:
    """What a report of these runs says.

    Args:
        entries: at least one.
        level: how much of prompts and answers is shown.
    """
    runs = tuple(_run(entry, level) for entry in entries)
    many = len(entries) > 1
    across = across_table([(one.summary, one.paper) for one in entries])
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return ReportContent(
        f"{counted(len(entries), 'run')} compared" if many else runs[0].title,
        NOTICES[level],
        across if many else None,
        runs,
        READING,
        level,
        f"Written by cna-mlx {versions('cna-mlx')['cna-mlx']}, {written}.",
    )


def _run(entry: Entry, level: TextLevel) -> RunContent:
    summary, run = entry.summary, entry.summary.run
    wanted = targets(summary)
    judged = summary.target or wanted[0]
    sections = [
        Section(
            "facts", "What was run", facts=facts(run, level), folded=more_facts(run)
        ),
        _refusals(run, wanted),
        _over_refusal(run, [one for one in summary.groups if one not in wanted]),
        _gauge(summary),
        _controls(wanted),
        _strengths(wanted),
        _categories(summary.groups),
        _contamination(summary.groups),
        paper_section(summary, entry.paper) if entry.paper else None,
    ]
    return RunContent(
        model_name(run),
        subtitle(run),
        alerts(summary, entry.changed),
        entry.conclusion,
        figures.glance(judged.unseen or judged),
        _glance_note(judged),
        tuple(section for section in sections if section is not None),
        shown_prompts(run, entry.samples, level),
        tuple(arm.label for arm in run.arms),
    )


def _glance_note(group: Group) -> str:
    """Which prompts the verdict and the figures beside it are of."""
    shown = group.unseen or group
    kind = "benign " if group.kind == "benign" else ""
    note = f"of {counted(shown.n, f'{kind}prompt')}"
    if group.unseen:
        return f"{note}, without {group.seen} that the discovery saw"
    return note


def _refusals(run: RunRecord, groups: Sequence[Group]) -> Section:
    return Section(
        "refusals",
        "Refusals",
        notes(run, {one.set for one in groups}),
        tables=tuple(figures.refusal_table(one) for one in groups),
        charts=tuple(curves.refusal_chart(one) for one in groups),
    )


def _over_refusal(run: RunRecord, groups: Sequence[Group]) -> Section | None:
    if not groups:
        return None
    return Section(
        "over-refusal",
        "Over-refusal",
        (
            "Benign prompts: each refusal here is one too many.",
            *notes(run, {one.set for one in groups}),
        ),
        tables=tuple(figures.refusal_table(one) for one in groups),
        charts=tuple(curves.refusal_chart(one) for one in groups),
    )


def _gauge(summary: Summary) -> Section | None:
    gauged = [one for one in summary.groups if one.gauge is not None]
    if not gauged:
        return None
    texts = [
        "Where the prompts lie along the circuit before a token is written: 0 as those "
        "of its discovery that are answered, 1 as those that are refused."
    ]
    if auc := summary.separation:
        texts.append(
            "It tells the benign prompts from the others with an AUC of "
            f"{auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}; 0.5: not at all, 1: "
            "always)."
        )
    return Section(
        "gauge", "Gauge", tuple(texts), tables=(figures.gauge_table(gauged),)
    )


def _controls(groups: Sequence[Group]) -> Section | None:
    found = [one for one in groups if one.controls]
    if not found:
        return None
    said = tuple(text for one in found for text in figures.control_texts(one))
    return Section(
        "controls",
        "Against the controls",
        (
            "Random neurons of the same layers, as many as the circuit has, scaled "
            "like it. Matched ones are as active as the circuit's own, uniform ones "
            "are any; most neurons are nearly silent, so only the matched ones say "
            "something.",
            *said,
        ),
        tables=tuple(figures.seeds_table(one) for one in found),
    )


def _strengths(groups: Sequence[Group]) -> Section | None:
    tables: list[Table] = []
    charts: list[Chart] = []
    for group in groups:
        for title, axis, curve in (
            (f"{group.set}, the circuit", "multiplier", group.multipliers),
            (f"{group.set}, CAA", "alpha", group.additions),
        ):
            if curves.is_curve(curve):
                tables.append(figures.strength_table(title, axis, curve))
                charts += curves.strength_charts(title, axis, curve)
    if not tables:
        return None
    text = (
        "Multiplier 0 ablates the circuit, 1 is the baseline, more amplifies. CAA adds "
        "alpha times the difference of means to every layer's MLP output; 0 is the "
        "baseline. Refusals that fall while the quality falls are damage."
    )
    return Section(
        "strength", "Strength", (text,), tables=tuple(tables), charts=tuple(charts)
    )


def _categories(groups: Sequence[Group]) -> Section | None:
    found = [one for one in groups if figures.has_categories(one)]
    if not found:
        return None
    return Section(
        "categories",
        "By category",
        tables=tuple(figures.category_table(one) for one in found),
        charts=tuple(curves.category_chart(one) for one in found),
    )


def _contamination(groups: Sequence[Group]) -> Section:
    unknown = dict.fromkeys(one.set for one in groups if one.seen is None)
    seen = [one for one in groups if one.seen]
    clean = dict.fromkeys(one.set for one in groups if one.seen == 0)
    texts = [
        f"{one.set}: {one.seen} of {counted(one.n, f'{one.kind} prompt')} equal or "
        "nearly equal one that the discovery saw."
        for one in seen
    ]
    if clean:
        texts.append(f"{', '.join(clean)}: no prompt that the discovery saw.")
    if unknown:
        texts.append(
            f"{', '.join(unknown)}: not known, as the discovery's own prompts are not "
            "at hand."
        )
    tables = (figures.contamination_table(seen),) if seen else ()
    return Section(
        "contamination", "What the discovery saw", tuple(texts), tables=tables
    )
