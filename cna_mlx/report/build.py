"""Build the content of a report from runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import Verdict, conclude
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report import curves, group_tables
from cna_mlx.report.answers import shown_prompts
from cna_mlx.report.content import (
    Chart,
    ReportContent,
    ReportSection,
    ReportTable,
    RunContent,
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
from cna_mlx.util.formatting import auc, counted


@dataclass(frozen=True)
class ReportedRun:
    """A run with all that its part of a report is made from.

    Attributes:
        summary, samples: its figures, and what they are of.
        conclusion: the verdict.
        paper: what the paper reports of its model, if anything.
        changed: how many labels a relabelling changed; None if there was none.
    """

    summary: Summary
    samples: Sequence[Sample]
    conclusion: Verdict
    paper: Paper | None = None
    changed: int | None = None

    @classmethod
    def of(cls, run: RunRecord, *, relabel: bool = False) -> "ReportedRun":
        """A run from its files, with the labels of this version if asked.

        Raises:
            InputError: the samples are damaged, or there is no whole batch yet.
        """
        samples = run.samples()
        if not samples:
            raise InputError(
                f"{run.directory}: no prompt is answered in every arm yet; run the "
                "command that began it again to continue"
            )
        changed = None
        if relabel:
            new = [sample.relabelled() for sample in samples]
            pairs = zip(samples, new, strict=True)
            changed = sum(old.label is not one.label for old, one in pairs)
            samples = new
        summary = summarize(run, samples)
        paper = Paper.of(summary)
        return cls(summary, samples, conclude(summary), paper, changed)


def build(
    entries: Sequence[ReportedRun], level: TextLevel = "excerpts"
) -> ReportContent:
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


def _run(entry: ReportedRun, level: TextLevel) -> RunContent:
    summary, run = entry.summary, entry.summary.run
    wanted = targets(summary)
    judged = summary.target or wanted[0]
    sections = [
        ReportSection(
            "facts", "What was run", facts=facts(run, level), folded=more_facts(run)
        ),
        _refusals(run, "refusals", "Refusals", wanted),
        _refusals(
            run,
            "over-refusal",
            "Over-refusal",
            [one for one in summary.groups if one not in wanted],
            "Benign prompts: each refusal here is one too many.",
        ),
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
        group_tables.glance(judged.unseen or judged),
        _glance_note(judged),
        tuple(section for section in sections if section is not None),
        shown_prompts(run, entry.samples, level),
        tuple(arm.label for arm in run.arms),
    )


def _glance_note(group: Group) -> str:
    """Which prompts the verdict and the first figures are of."""
    shown = group.unseen or group
    kind = "benign " if group.kind == "benign" else ""
    note = f"of {counted(shown.n, f'{kind}prompt')}"
    if group.unseen:
        return f"{note}, without {group.seen} that the discovery saw"
    return note


def _refusals(
    run: RunRecord, key: str, title: str, groups: Sequence[Group], *texts: str
) -> ReportSection | None:
    if not groups:
        return None
    return ReportSection(
        key,
        title,
        (*texts, *notes(run, {one.set for one in groups})),
        tables=tuple(group_tables.refusal_table(one) for one in groups),
        charts=tuple(curves.refusal_chart(one) for one in groups),
    )


def _gauge(summary: Summary) -> ReportSection | None:
    gauged = [one for one in summary.groups if one.gauge is not None]
    if not gauged:
        return None
    texts = [
        "The projection of the prompts on the circuit before a token is written: 0 is "
        "the mean of its discovery's answered prompts, 1 that of the refused ones."
    ]
    if summary.separation:
        texts.append(
            "It separates the benign prompts from the others with an AUC of "
            f"{auc(summary.separation)} (0.5: not at all, 1: always)."
        )
    return ReportSection(
        "gauge", "Gauge", tuple(texts), tables=(group_tables.gauge_table(gauged),)
    )


def _controls(groups: Sequence[Group]) -> ReportSection | None:
    found = [one for one in groups if one.controls]
    if not found:
        return None
    said = tuple(text for one in found for text in group_tables.control_texts(one))
    return ReportSection(
        "controls",
        "Against the controls",
        (
            "Random neurons, the same number in each layer, scaled like the circuit. "
            "Matched ones are equally active, uniform ones are any; most neurons are "
            "nearly silent, so only the matched ones are a test.",
            *said,
        ),
        tables=tuple(group_tables.seeds_table(one) for one in found),
    )


def _strengths(groups: Sequence[Group]) -> ReportSection | None:
    tables: list[ReportTable] = []
    charts: list[Chart] = []
    for group in groups:
        for title, axis, curve in (
            (f"{group.set}, the circuit", "multiplier", group.multipliers),
            (f"{group.set}, CAA", "alpha", group.additions),
        ):
            if curves.is_curve(curve):
                tables.append(group_tables.strength_table(title, axis, curve))
                charts += curves.strength_charts(title, axis, curve)
    if not tables:
        return None
    text = (
        "Multiplier 0 ablates the circuit, 1 is the baseline, more amplifies. CAA adds "
        "alpha times the difference of means to every layer's MLP output; 0 is the "
        "baseline. If the quality falls with the refusals, the model is damaged."
    )
    return ReportSection(
        "strength", "Strength", (text,), tables=tuple(tables), charts=tuple(charts)
    )


def _categories(groups: Sequence[Group]) -> ReportSection | None:
    found = [one for one in groups if group_tables.has_categories(one)]
    if not found:
        return None
    return ReportSection(
        "categories",
        "By category",
        tables=tuple(group_tables.category_table(one) for one in found),
        charts=tuple(curves.category_chart(one) for one in found),
    )


def _contamination(groups: Sequence[Group]) -> ReportSection:
    unknown = dict.fromkeys(one.set for one in groups if one.seen is None)
    seen = [one for one in groups if one.seen]
    clean = dict.fromkeys(one.set for one in groups if one.seen == 0)
    texts = [
        f"{one.set}: {one.seen} of {counted(one.n, f'{one.kind} prompt')} equal or "
        "nearly equal one of the discovery."
        for one in seen
    ]
    if clean:
        texts.append(f"{', '.join(clean)}: the discovery saw none of these prompts.")
    if unknown:
        texts.append(
            f"{', '.join(unknown)}: unknown, since the discovery's prompts are not "
            "available."
        )
    tables = (group_tables.contamination_table(seen),) if seen else ()
    return ReportSection(
        "contamination", "What the discovery saw", tuple(texts), tables=tables
    )
